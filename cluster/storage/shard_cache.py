"""Fetches the shards that a node's workers read: those of a bucket are downloaded to a cache.

A shard in the cache is named by its sha256, and serves every data set, job and rank that reads it.
The cache may be deleted whenever no job runs.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import FileLock

from cluster.storage.job_locations import CACHE_ENV, cache_home
from sharding.manifest import Shard
from stn_icnn.storage import Folder, StorageLocation

CHUNK_BYTES: Final = 4 << 20
DOWNLOADS: Final = 3
"""Downloads of a process at a time: all requests of a client share boto3's allowance of retries."""

SECONDS_PER_LINE: Final = 10.0


@dataclass(frozen=True)
class DatasetShard(Shard):
    """A shard of the data set at `location`, as its manifest names it."""

    location: StorageLocation

    @property
    def url(self) -> str:
        """The shard's full address."""
        return self.location.url_of(self.path)


def fetch_shards(shards: Sequence[DatasetShard], *, quiet: bool = False) -> list[str]:
    """Returns the shards' paths on this node, in order; those of a bucket are downloaded first.

    Several processes of a node may ask at once: one of them downloads a shard, the others wait.

    Args:
        shards: the shards of any data sets.
        quiet: whether progress is not printed.

    Raises:
        ValueError: naming the shard that differs from its manifest.
        OSError: where the bucket cannot be read, or the cache cannot be written.
    """
    cache = cache_home() / "shards"
    paths = [_path_of(shard, cache) for shard in shards]
    missing = [
        (shard, path)
        for shard, path in zip(shards, paths, strict=True)
        if path.parent == cache and not _has_all_bytes(path, shard)
    ]
    _fetch_all(missing, quiet)
    for shard, path in zip(shards, paths, strict=True):
        if not path.exists():
            raise _damaged(shard, "be there", "nothing")
        if not _has_all_bytes(path, shard):
            raise _damaged(shard, f"have {shard.bytes} bytes", path.stat().st_size)
    return [str(path) for path in paths]


def require_samples(
    shards: Sequence[DatasetShard], paths: Sequence[str], found: Mapping[str, int]
) -> None:
    """Checks the number of samples of each shard against its manifest.

    Args:
        shards: the shards that `fetch_shards` was given.
        paths: their paths, which it returned.
        found: number of samples by path.

    Raises:
        ValueError: naming the shard that has another number.
    """
    for shard, path in zip(shards, paths, strict=True):
        if found[path] != shard.samples:
            raise _damaged(shard, f"hold {shard.samples} samples", found[path])


def _path_of(shard: DatasetShard, cache: Path) -> Path:
    if isinstance(shard.location, Folder):
        return shard.location.root / shard.path
    return cache / f"{shard.sha256}.tar"


def _has_all_bytes(path: Path, shard: DatasetShard) -> bool:
    return path.is_file() and path.stat().st_size == shard.bytes


def _fetch_all(missing: Sequence[tuple[DatasetShard, Path]], quiet: bool) -> None:
    last_line_s = time.monotonic()
    pool = ThreadPoolExecutor(DOWNLOADS)
    try:
        futures = [pool.submit(_fetch, shard, path) for shard, path in missing]
        for number, future in enumerate(as_completed(futures), 1):
            future.result()
            now = time.monotonic()
            if not quiet and (number == len(missing) or now - last_line_s >= SECONDS_PER_LINE):
                last_line_s = now
                print(f"fetched {number} of {len(missing)} shards", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _fetch(shard: DatasetShard, path: Path) -> None:
    """Downloads a shard, unless another process does so first."""
    part = path.with_suffix(".part")  # of one name: what a killed download left is written over
    # A killed process loses its lock. The lock's file stays, as another may be waiting at it.
    with _disk_errors_name(path.parent), FileLock(path.with_suffix(".lock")):
        if _has_all_bytes(path, shard):
            return
        try:
            _download(shard, part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)  # a full disk is not left full


def _download(shard: DatasetShard, part: Path) -> None:
    """Writes the shard to a file; raises ValueError where it is not the one of the manifest."""
    digest, size = hashlib.sha256(), 0
    with shard.location.open(shard.path) as source, part.open("wb") as file:
        while size <= shard.bytes and (chunk := source.read(CHUNK_BYTES)):
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())  # else a crash may leave the final name with none of the bytes
    if size != shard.bytes or digest.hexdigest() != shard.sha256:
        raise _damaged(
            shard,
            f"have {shard.bytes} bytes of sha256 {shard.sha256}",
            f"{size} of {digest.hexdigest()}",
        )


@contextmanager
def _disk_errors_name(cache: Path) -> Iterator[None]:
    """Raises a disk's errors anew, naming the cache; a bucket's, without a number, pass."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(
            f"cannot keep shards in {cache}: {error.strerror}; make room there, or set {CACHE_ENV} "
            "to another folder of this node"
        ) from error


def _damaged(shard: DatasetShard, expected: str, got: object) -> ValueError:
    return ValueError(
        f"shard {shard.url} must {expected}, as its manifest says, got {got}: "
        f"`python -m sharding verify {shard.location.url}` tells what is wrong there"
    )
