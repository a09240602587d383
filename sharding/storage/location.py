"""Storage locations by their addresses: a folder, or `s3://bucket/prefix`."""

from pathlib import Path
from typing import BinaryIO

from sharding.storage.s3 import Bucket
from stn_icnn.storage import Folder, StorageLocation


def open_location(url: str | Path) -> StorageLocation:
    """The place at a folder's path or at `s3://bucket/prefix`; nothing is touched yet."""
    text = str(url)
    if text.startswith("s3://"):
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        if not bucket:
            raise ValueError(f"{text!r} names no bucket, expected s3://bucket/prefix")
        return Bucket(bucket, prefix.strip("/"))
    if "://" in text:
        raise ValueError(f"{text!r} is not a place, expected a folder or s3://bucket/prefix")
    return Folder(Path(text).absolute())


def split_url(url: str | Path) -> tuple[StorageLocation, str]:
    """The place and the file name in it of a file's full address.

    Raises:
        ValueError: for a bucket without a key.
    """
    text = str(url)
    if text.startswith("s3://") and not text.removeprefix("s3://").partition("/")[2]:
        raise ValueError(f"{text!r} names no file, expected s3://bucket/key")
    parent, _, name = text.rpartition("/")
    return open_location(parent or ("/" if text.startswith("/") else ".")), name


def open_shard(url: str) -> BinaryIO:
    """A seekable reader of a file in a folder or bucket."""
    place, name = split_url(url)
    return place.open(name)
