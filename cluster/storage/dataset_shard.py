"""A shard of a data set, wherever that is: its bytes, compared with its manifest."""

import hashlib
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sharding.manifest import Shard
from sharding.storage.read_ahead import read_blocks
from stn_icnn.data.shard_stream import Block
from stn_icnn.storage import StorageLocation

CHUNK_BYTES: Final = 4 << 20


@dataclass(frozen=True)
class DatasetShard(Shard):
    """A shard of the data set at `location`, as its manifest names it."""

    location: StorageLocation

    @property
    def url(self) -> str:
        """The shard's full address."""
        return self.location.url_of(self.path)

    def read_checked(self) -> Iterator[Block]:
        """Yields the shard's bytes; raises ValueError at the end where it is not the manifest's."""
        with self.location.open(self.path) as source:
            yield from self._checked(iter(lambda: source.read(CHUNK_BYTES), b""))

    def blocks(self) -> Iterator[Block]:
        """Does the same, but reads ahead of their use, and goes on where a server was away."""
        return self._checked(read_blocks(self.location, self.path))

    def damaged(self, expected: str, got: object) -> ValueError:
        """Returns the error of a shard that is not as its manifest says."""
        return ValueError(
            f"shard {self.url} must {expected}, as its manifest says, got {got}: "
            f"`python -m sharding verify {shlex.quote(self.location.url)}` tells what is wrong "
            "there"
        )

    def _checked(self, blocks: Iterable[Block]) -> Iterator[Block]:
        digest, size = hashlib.sha256(), 0
        for block in blocks:
            digest.update(block)
            size += len(block)
            yield block
            if size > self.bytes:
                break
        if size != self.bytes or digest.hexdigest() != self.sha256:
            raise self.damaged(
                f"have {self.bytes} bytes of sha256 {self.sha256}",
                f"{size} of {digest.hexdigest()}",
            )
