"""Archives that claim far more than they hold take no memory."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sharding.packing.sample import read_members
from stn_icnn.archives import MAX_NAME_BYTES, MAX_SAMPLE_BYTES, open_tar, read_member, require_total
from stn_icnn.data.shard_stream import Block, stream_samples
from stn_icnn.data.shards import index_shard
from tests.sample_shards import TAR_BLOCK

TERABYTE = 1 << 40
END = bytes(2 * TAR_BLOCK)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def sparse(name: str) -> bytes:
    """A member of a terabyte of which no byte is there."""
    block = bytearray(header(name, 0, tarfile.GNUTYPE_SPARSE))
    block[483:495] = b"\x80" + TERABYTE.to_bytes(11)  # the size once it is unpacked
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.fixture
def shard(tmp_path: Path) -> Callable[[bytes, int], Path]:
    """shard(start, size): a file that begins so, ends as a tar does, and has a hole between."""

    def make(start: bytes, size: int) -> Path:
        path = tmp_path / "x.tar"
        with path.open("wb") as file:
            file.write(start)
            file.seek(TAR_BLOCK + size)
            file.write(END)
        return path

    return make


def test_a_sample_that_would_fill_memory_is_refused(shard: Callable[..., Path]) -> None:
    size = MAX_SAMPLE_BYTES + TAR_BLOCK
    path = shard(header("face.jpg", size), size)
    with path.open("r+b") as file:
        file.seek(TAR_BLOCK + size)
        for name in ("face.png", "face.json"):
            file.write(header(name, 0))
        file.write(END)
    with pytest.raises(ValueError, match="sample face must have at most 268435456 bytes, got"):
        index_shard(str(path))
    with path.open("rb") as file, pytest.raises(tarfile.ReadError, match=r"face\.jpg must have at"):
        next(read_members(file))


def test_a_name_that_would_fill_memory_is_refused(shard: Callable[..., Path]) -> None:
    size = MAX_NAME_BYTES + TAR_BLOCK
    path = shard(header("././@LongLink", size, tarfile.GNUTYPE_LONGNAME), size)
    with pytest.raises(ValueError, match=r"corrupt shard .*a name must have at most"):
        index_shard(str(path))


@dataclass
class Arriving:
    """A shard that is streamed, whose manifest agrees with whatever a member claims."""

    content: bytes
    url: str = "s3://bucket/x.tar"
    samples: int = 1
    bytes: int = 2 * TERABYTE

    def blocks(self) -> Iterator[Block]:
        yield self.content


def test_a_member_that_would_fill_memory_is_not_streamed() -> None:
    shard = Arriving(header("face.jpg", 4 << 30))
    with pytest.raises(ValueError, match=r"x\.tar: face\.jpg must have at most 268435456 bytes"):
        next(stream_samples(shard))


def test_a_sparse_member_is_not_filled_up() -> None:
    with open_tar(io.BytesIO(sparse("face.jpg") + END)) as tar:
        member = tar.next()
        assert member is not None
        assert member.size == TERABYTE
        with pytest.raises(tarfile.ReadError, match=r"face\.jpg must have at most"):
            read_member(tar, member)
        member.size = 5  # within the bound, there may be any number of them
        assert read_member(tar, member) == b""


def test_a_zip_that_becomes_too_large_is_refused() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(1 << 20))
    with zipfile.ZipFile(packed) as archive:
        require_total(archive, 1 << 20)
        with pytest.raises(ValueError, match="at most 1000 bytes, got 1048576"):
            require_total(archive, 1000)
