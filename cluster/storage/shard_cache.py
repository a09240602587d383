"""Gives a node's workers the shards that they read, whole and as their manifest says.

Those of a bucket are downloaded to a cache. A shard there is named by its sha256, and serves every
data set, job and rank that reads it. Those of a folder are read where they are. Each is compared
with its digest once a node: the cache remembers a checked file by its path, size and times. The
cache may be deleted whenever no job runs.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock

from cluster.storage.dataset_shard import DatasetShard
from cluster.storage.job_locations import CACHE_ENV, cache_home, cache_limit
from stn_icnn.storage import Folder

AT_ONCE: Final = 3
"""Shards that a process downloads or checks at a time: all requests of a client share boto3's
allowance of retries."""

SECONDS_PER_LINE: Final = 10.0
FREE_SHARE: Final = 0.9
"""The share of a disk's free space that shards may take, where no limit is set."""


def fetch_shards(
    shards: Sequence[DatasetShard], *, verify: bool = True, quiet: bool = False
) -> list[str]:
    """Returns the shards' paths on this node, in order; those of a bucket are downloaded first.

    Several processes of a node may ask at once: one of them downloads or checks a shard, the others
    wait.

    Args:
        shards: the shards of any data sets.
        verify: whether shards in a folder are compared with their digests; their sizes always are.
        quiet: whether progress is not printed.

    Raises:
        ValueError: naming the shard that differs from its manifest.
        OSError: where the bucket cannot be read, or the cache cannot be written.
    """
    cache = cache_home() / "shards"
    paths = [_path_of(shard, cache) for shard in shards]
    with _disk_errors_name(cache):
        missing = [
            (shard, path)
            for shard, path in zip(shards, paths, strict=True)
            if path.parent == cache and not _has_all_bytes(path, shard)
        ]
    _for_each(_fetch, missing, "fetched", quiet)
    if missing and not quiet:
        print(f"fetched {len(missing)} of {len(missing)} shards", flush=True)
    for shard, path in zip(shards, paths, strict=True):
        if not path.exists():
            raise shard.damaged("be there", "nothing")
        if not _has_all_bytes(path, shard):
            raise shard.damaged(f"have {shard.bytes} bytes", path.stat().st_size)
    if verify:
        unchecked = [
            (shard, path)
            for shard, path in zip(shards, paths, strict=True)
            if path.parent != cache and not _is_there(_mark_of(shard, path))
        ]
        _for_each(_check, unchecked, "checked", quiet)
    return [str(path) for path in paths]


def fit_cache(shards: Sequence[DatasetShard]) -> bool:
    """Tells whether shards of a bucket, all together, fit the cache of this node.

    They do where they and the shards of other data sets are no more than `STN_ICNN_CACHE_GB`; where
    it is not set, where they would leave a tenth of the disk's free space.

    Raises:
        ValueError: for a limit that is no number.
    """
    cache, limit = cache_home() / "shards", cache_limit()
    own = {_path_of(shard, cache) for shard in shards}
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
    held = {path: path.stat().st_size for path in cache.glob("*.tar")}
    if limit is not None:
        return _bytes_of(shards) <= limit - sum(held[path] for path in held.keys() - own)
    there = sum(held[path] for path in held.keys() & own)
    with _disk_errors_name(cache):
        free = shutil.disk_usage(cache).free
    return _bytes_of(shards) - there <= FREE_SHARE * free


def _bytes_of(shards: Iterable[DatasetShard]) -> int:
    return sum(shard.bytes for shard in shards)


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
            raise shard.damaged(f"hold {shard.samples} samples", found[path])


def _path_of(shard: DatasetShard, cache: Path) -> Path:
    if isinstance(shard.location, Folder):
        return shard.location.root / shard.path
    return cache / f"{shard.sha256}.tar"


def _has_all_bytes(path: Path, shard: DatasetShard) -> bool:
    return path.is_file() and path.stat().st_size == shard.bytes


def _for_each(
    work: Callable[[DatasetShard, Path], None],
    shards: Sequence[tuple[DatasetShard, Path]],
    done: str,
    quiet: bool,
) -> None:
    """Does work for shards, given with their paths, in a few threads; tells of long work only."""
    last_line_s = time.monotonic()
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        futures = [pool.submit(work, shard, path) for shard, path in shards]
        for number, future in enumerate(as_completed(futures), 1):
            future.result()
            now = time.monotonic()
            is_due = number < len(shards) and now - last_line_s >= SECONDS_PER_LINE
            if is_due and not quiet:
                last_line_s = now
                print(f"{done} {number} of {len(shards)} shards", flush=True)
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
    with part.open("wb") as file:
        for chunk in shard.read_checked():
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())  # else a crash may leave the final name with none of the bytes


def _check(shard: DatasetShard, path: Path) -> None:
    """Compares a shard in a folder with its digest, unless another process does so first."""
    mark = _mark_of(shard, path)
    with _lock_where_writable(mark):
        if _is_there(mark):
            return
        for _ in shard.read_checked():
            pass
        with suppress(OSError):  # in a cache that is closed or full nothing is remembered
            mark.touch()


def _mark_of(shard: DatasetShard, path: Path) -> Path:
    """Returns the file whose presence says that the shard at this path, unchanged, was checked.

    It lies in the cache, as the shard's own folder may be read-only.
    """
    found = path.stat()
    facts = (path, found.st_size, found.st_mtime_ns, found.st_ctime_ns, shard.sha256)
    name = hashlib.sha256("\0".join(map(str, facts)).encode(errors="surrogateescape")).hexdigest()
    return cache_home() / "checked-shards" / name


def _is_there(mark: Path) -> bool:
    """Tells whether a mark was left; in a cache that may not be searched, none was."""
    try:
        return mark.exists()
    except OSError:
        return False


@contextmanager
def _lock_where_writable(mark: Path) -> Iterator[None]:
    """Holds a mark's lock, or none where the cache cannot be written."""
    with ExitStack() as stack:
        with suppress(OSError):
            mark.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(mark.with_suffix(".lock")))
        yield


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
