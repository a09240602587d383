"""The samples of a shard as its bytes arrive, without a copy of it on a disk."""

import tarfile
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, Protocol

from webdataset.tariterators import group_by_keys

from stn_icnn.archives import MAX_SAMPLE_BYTES
from stn_icnn.data.faces import require_members

Sample = dict[str, Any]
"""A sample as webdataset has it: the members' bytes by suffix, `__key__` and `__url__`."""

Block = bytes
"""A run of a shard's bytes."""

_FILE: Final = b"0\0"
_EXTENSION: Final = b"xg"
"""The types of headers that are read: of files, and of times and owners, which are passed over."""


class StreamableShard(Protocol):
    """A shard of a data set, whose bytes can be had in order."""

    @property
    def url(self) -> str:
        """The shard's full address."""

    @property
    def samples(self) -> int:
        """The number of its samples."""

    @property
    def bytes(self) -> int:
        """The size of its file."""

    def blocks(self) -> Iterator[Block]:
        """Yields its bytes; raises ValueError at the end where they are not those they must be."""


def stream_samples(
    shard: StreamableShard, start: int = 0, stop: int | None = None
) -> Iterator[Sample]:
    """Yields a run of a shard's samples.

    All bytes before it are read too, and where it is the shard's last, those behind it, so that
    each shard of a split comes to be compared with its digest.

    Args:
        shard: the shard.
        start: the place of the first sample.
        stop: the place behind the last; None: up to the end.

    Raises:
        ValueError: naming the shard, where it is damaged or has another number of samples.
        OSError: it can't be read.
    """
    stop = shard.samples if stop is None else stop
    found = group_by_keys(_members(shard))
    number = 0
    for number, sample in enumerate(islice(found, stop), 1):
        if number > start:
            require_members(shard.url, sample["__key__"], sample)
            yield sample
    if number < stop or (stop == shard.samples and next(found, None) is not None):
        got = number if number < stop else f"more than {number}"
        raise _corrupt(shard, f"it must hold {shard.samples} samples, got {got}")


def _members(shard: StreamableShard) -> Iterator[Sample]:
    """Yields the members of a shard, as webdataset groups them into samples.

    webdataset's own reader takes 0.2 ms a sample, as long as a small face takes to decode: for each
    member, tarfile parses fields that nobody asks for. This one reads name and size.
    """
    file, url = _ArrivingFile(shard), shard.url
    while (header := file.take(tarfile.BLOCKSIZE)).strip(b"\0"):
        kind, size = header[156:157], header[124:136].rstrip(b"\0 ")
        if header[257:262] != b"ustar" or kind not in _FILE + _EXTENSION or not size.isdigit():
            raise _corrupt(shard, f"broken at byte {file.position - tarfile.BLOCKSIZE}")
        name = header[:100].rstrip(b"\0").decode(errors="replace")
        num_bytes = int(size, 8)
        if num_bytes > MAX_SAMPLE_BYTES:
            raise _corrupt(
                shard, f"{name} must have at most {MAX_SAMPLE_BYTES} bytes, got {num_bytes}"
            )
        data = file.take(num_bytes)
        if kind in _FILE:
            yield {"fname": name, "data": data, "__url__": url}
    file.drain()


class _ArrivingFile:
    """Takes a shard's bytes piece by piece from the blocks that they arrive in."""

    def __init__(self, shard: StreamableShard) -> None:
        self.position = 0
        self._shard = shard
        self._num_bytes = shard.bytes
        self._blocks = shard.blocks()
        self._held = b""
        self._at = 0

    def take(self, num_bytes: int) -> bytes:
        """Returns the next bytes, and passes over what fills up their last tar block.

        Raises:
            ValueError: naming the shard, where it has not so many.
        """
        filled = num_bytes + -num_bytes % tarfile.BLOCKSIZE
        if filled > self._num_bytes - self.position:
            raise _corrupt(self._shard, f"broken before byte {self.position}")
        while len(self._held) - self._at < filled:
            block = next(self._blocks, b"")
            if not block:
                raise _corrupt(self._shard, f"it ends before byte {self.position + filled}")
            self._held, self._at = self._held[self._at :] + block, 0
        taken = self._held[self._at : self._at + num_bytes]
        self._at += filled
        self.position += filled
        return taken

    def drain(self) -> None:
        """Reads what is left, whereby the shard comes to be compared with its digest."""
        for _ in self._blocks:
            pass


def _corrupt(shard: StreamableShard, reason: str) -> ValueError:
    return ValueError(f"corrupt shard {shard.url}: {reason}; run `sharding verify` on it")
