"""Opens storage locations by their addresses: a folder, or `s3://bucket/prefix`."""

from pathlib import Path

from sharding.storage.s3 import Bucket
from stn_icnn.storage import Folder, ReadableLocation, StorageLocation

Address = str | Path | StorageLocation
"""A folder's path, `s3://bucket/prefix`, or the location itself."""


def open_location(address: Address) -> StorageLocation:
    """Returns the location at an address, as a user may type it; nothing is touched yet.

    Raises:
        ValueError: for another scheme, a bucket without a name, or an empty text.
    """
    if not isinstance(address, str | Path):
        return address
    text = str(address)
    if not text:
        raise ValueError("an empty text is no storage location: the working directory is named .")
    if text.startswith("s3://"):
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        if not bucket:
            raise ValueError(f"{text!r} names no bucket, expected s3://bucket/prefix")
        return Bucket(bucket, prefix.strip("/"))
    if "://" in text:
        raise ValueError(
            f"{text!r} is no storage location: expected a folder or s3://bucket/prefix"
        )
    return Folder(Path(text).expanduser().absolute())


def open_source(source: Address | ReadableLocation) -> ReadableLocation:
    """Returns the location of raw data, by its address or as it is; errors of `open_location`."""
    return open_location(source) if isinstance(source, str | Path) else source


def split_url(url: str | Path) -> tuple[StorageLocation, str]:
    """Returns the location and, in it, the name of a file by its full address.

    Raises:
        ValueError: for a bucket without a key.
    """
    text = str(url)
    if text.startswith("s3://") and not text.removeprefix("s3://").partition("/")[2]:
        raise ValueError(f"{text!r} names no file, expected s3://bucket/key")
    parent, _, name = text.rpartition("/")
    return open_location(parent or ("/" if text.startswith("/") else ".")), name
