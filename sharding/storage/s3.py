"""Reads and writes files in an S3 bucket.

boto3 is imported here alone, and only when a bucket is used. Credentials, region and a custom
endpoint come from its own variables (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, ...).
"""

import functools
import io
import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, TypeVar, cast

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from stn_icnn.storage import require_readable_size

T = TypeVar("T")

READ_AHEAD_BYTES: Final = (256 << 10, 8 << 20)
"""Bytes of the first range request after a jump (a sample or two), and the most of a later one:
requests double while reading goes straight on."""

CONNECT_TIMEOUT_S: Final = 10
READ_TIMEOUT_S: Final = 30

REQUEST_ATTEMPTS: Final = 10
"""Attempts at a request, with back-off: a server may be away for about ten seconds."""

BODY_ATTEMPTS: Final = 4
"""Attempts at a download that breaks off: boto3 retries requests, but not their bodies."""


@dataclass(frozen=True)
class Bucket:
    """A prefix of an S3 bucket; see `StorageLocation`. It holds no client, so it pickles."""

    bucket: str
    prefix: str = ""

    @property
    def url(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def child(self, name: str) -> "Bucket":
        """Returns the prefix of this name below it."""
        return Bucket(self.bucket, self._key(name))

    def url_of(self, path: str) -> str:
        """Returns the full address of `path`."""
        return f"s3://{self.bucket}/{self._key(path)}"

    def read(self, path: str) -> bytes:
        """Returns the whole object."""
        return self._get(path)

    def write(self, path: str, data: bytes) -> None:
        """Puts the object, which S3 shows only once it is whole."""
        self._call(path, lambda client, at: client.put_object(Body=data, **at))

    def upload(self, file: BinaryIO, path: str) -> None:
        """Uploads the file, in pieces where it is large."""
        from boto3.s3.transfer import TransferConfig

        # One piece at a time: all of a client's requests share boto3's allowance of retries, which
        # ten pieces at once use up within two seconds of trouble.
        config = TransferConfig(use_threads=False)
        file.seek(0)
        self._call(
            path,
            lambda client, at: client.upload_fileobj(file, at["Bucket"], at["Key"], Config=config),
        )

    def open(self, path: str) -> BinaryIO:
        """Opens a seekable reader made of range requests."""
        head = self._call(path, lambda client, at: client.head_object(**at))
        raw = _RangeReader(self, path, size=head["ContentLength"], etag=head["ETag"])
        return cast(BinaryIO, io.BufferedReader(raw))

    def exists(self, path: str) -> bool:
        """Tells whether there is an object at `path`."""
        try:
            self._call(path, lambda client, at: client.head_object(**at))
        except FileNotFoundError:
            return False
        return True

    def list(self, under: str = "") -> list[str]:
        """Returns the path of every object below `under`, sorted."""
        start = f"{self._key(under).rstrip('/')}/".lstrip("/")
        cut = len(f"{self.prefix}/") if self.prefix else 0

        def keys(client: Any, at: dict[str, str]) -> list[str]:
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=at["Bucket"], Prefix=start
            )
            return [found["Key"] for page in pages for found in page.get("Contents", ())]

        return sorted(key[cut:] for key in self._call(under, keys) if not key.endswith("/"))

    def delete(self, path: str) -> None:
        """Removes the object."""
        self._call(path, lambda client, at: client.delete_object(**at))

    def abort_uploads(self, paths: re.Pattern[str]) -> None:
        """Aborts the unfinished multi-part uploads to such paths below the prefix."""
        start = f"{self.prefix}/".lstrip("/")

        def abort(client: Any, at: dict[str, str]) -> None:
            pages = client.get_paginator("list_multipart_uploads").paginate(
                Bucket=at["Bucket"], Prefix=start
            )
            for upload in [found for page in pages for found in page.get("Uploads", ())]:
                if not paths.fullmatch(upload["Key"][len(start) :]):
                    continue
                # Gone already where the answer to a first try was lost.
                with suppress(client.exceptions.NoSuchUpload):
                    client.abort_multipart_upload(
                        Bucket=at["Bucket"], Key=upload["Key"], UploadId=upload["UploadId"]
                    )

        self._call("", abort)

    def read_range(self, path: str, start: int, stop: int, etag: str) -> bytes:
        """Returns bytes `start` to `stop` (exclusive) of the object that still has this `etag`."""
        return self._get(path, Range=f"bytes={start}-{stop - 1}", IfMatch=etag)

    def _get(self, path: str, **asked: str) -> bytes:
        from botocore import exceptions

        broken_off = (
            exceptions.ResponseStreamingError,
            exceptions.ReadTimeoutError,
            exceptions.IncompleteReadError,
        )

        @retry(
            retry=retry_if_exception_type(broken_off),
            stop=stop_after_attempt(BODY_ATTEMPTS),
            wait=wait_exponential(0.5),
            reraise=True,
        )
        def download() -> bytes:
            found = self._call(path, lambda client, at: client.get_object(**at, **asked))
            require_readable_size(found["ContentLength"], self.url_of(path))
            return cast(bytes, found["Body"].read())

        try:
            return download()
        except broken_off as error:
            raise OSError(f"{self.url_of(path)}: {_without_user(error)}") from error

    def _key(self, path: str) -> str:
        return f"{self.prefix}/{path}".strip("/")

    def _call(self, path: str, request: Callable[[Any, dict[str, str]], T]) -> T:
        """Runs `request(client, {Bucket, Key})`; an error becomes an OSError with the address."""
        from botocore import exceptions

        at = {"Bucket": self.bucket, "Key": self._key(path)}
        try:
            with _CLIENT_LOCK:
                client = _client(os.getpid())
            return request(client, at)
        except (exceptions.BotoCoreError, exceptions.ClientError) as error:
            refused = isinstance(error, exceptions.ClientError)
            kind = _ERRORS.get(error.response["Error"]["Code"], OSError) if refused else OSError
            raise kind(f"{self.url_of(path)}: {_without_user(error)}") from error


def _without_user(error: Exception) -> str:
    """Returns an error's text without the user and password that an endpoint's address may hold."""
    return re.sub(r"(://)[^/@\s]*@", r"\1", str(error))


_ERRORS: Final[dict[str, type[OSError]]] = {
    "NoSuchKey": FileNotFoundError,
    "404": FileNotFoundError,
    "AccessDenied": PermissionError,
    "403": PermissionError,
}


class _RangeReader(io.RawIOBase):
    """A seekable file over an object, which is read ahead by range requests."""

    def __init__(self, bucket: Bucket, path: str, *, size: int, etag: str) -> None:
        self._bucket, self._path, self._size, self._etag = bucket, path, size, etag
        self._position = 0
        self._held, self._held_from = b"", 0
        self._ahead = READ_AHEAD_BYTES[0]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self._size:
            return 0
        if not self._held_from <= self._position < self._held_from + len(self._held):
            self._fetch(len(buffer))
        start = self._position - self._held_from
        data = self._held[start : start + len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _fetch(self, num_wanted: int) -> None:
        least, most = READ_AHEAD_BYTES
        goes_on = self._held and self._position == self._held_from + len(self._held)
        self._ahead = min(2 * self._ahead, most) if goes_on else least
        stop = min(self._position + max(num_wanted, self._ahead), self._size)
        self._held = self._bucket.read_range(self._path, self._position, stop, self._etag)
        self._held_from = self._position


_CLIENT_LOCK: Final = threading.Lock()
"""Guards the making of clients: one serves many threads, but boto3 can't make several at once."""


@functools.lru_cache(maxsize=1)
def _client(process_id: int) -> Any:
    """Returns the process's S3 client: a forked child must not share its parent's connections."""
    import boto3
    from botocore.config import Config

    # Checksums only where S3 demands them: not every S3 server knows the newer trailing ones.
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": REQUEST_ATTEMPTS},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    client = boto3.client("s3", config=config)
    client.meta.events.register("before-parse.s3", _refuse_cut_off)
    return client


def _refuse_cut_off(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    """Marks an answer that lost its whole body as failed; to boto3 it is an empty listing."""
    has_body = operation_model.http["method"] in ("GET", "POST")
    if has_body and response_dict["status_code"] == 200 and response_dict["body"] == b"":
        response_dict["status_code"] = 500
