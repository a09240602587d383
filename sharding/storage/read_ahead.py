"""Reads a file of a storage location from its start to its end, ahead of its use, through failures.

A training that streams its data reads for days. A server that is away for minutes must not end it,
as it would not where the data had been copied before.
"""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, Final

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_delay,
    wait_exponential,
)

from stn_icnn.storage import StorageLocation

BLOCK_BYTES: Final = 4 << 20
PATIENCE_S: Final = 600.0
"""How long a read is tried again while the server can't be reached, seconds."""
LONGEST_PAUSE_S: Final = 10.0


def read_blocks(location: StorageLocation, path: str) -> Iterator[bytes]:
    """Yields a file's bytes in blocks, the next of which is fetched while one is used.

    A read that fails is tried again from the byte that was reached.

    Raises:
        OSError: there is no such file, it may not be read, or the server stays away.
    """
    source = _PatientFile(location, path)
    with ThreadPoolExecutor(1, "read-ahead") as fetcher:
        try:
            coming = fetcher.submit(source.read)
            while block := coming.result():
                coming = fetcher.submit(source.read)
                yield block
        finally:
            source.given_up.set()


class _PatientFile:
    """A file that is opened again, at the byte reached, where reading it fails."""

    def __init__(self, location: StorageLocation, path: str) -> None:
        self.given_up = threading.Event()
        """Ends a wait for the server, when nobody waits for the bytes."""
        self._location = location
        self._path = path
        self._file: BinaryIO | None = None
        self._position = 0
        self._retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            stop=lambda state: self.given_up.is_set() or stop_after_delay(PATIENCE_S)(state),
            wait=wait_exponential(0.25, max=LONGEST_PAUSE_S),
            sleep=sleep_using_event(self.given_up),
            before_sleep=_tell_once,
            reraise=True,
        )

    def read(self) -> bytes:
        """Returns the next block; nothing at the end."""
        block: bytes = self._retrying(self._read_once)
        self._position += len(block)
        return block

    def _read_once(self) -> bytes:
        try:
            if self._file is None:
                self._file = self._location.open(self._path)
                self._file.seek(self._position)
            return self._file.read(BLOCK_BYTES)
        except OSError:
            self._file = None
            raise


def _tell_once(state: RetryCallState) -> None:
    """Says why a read is waited for, when it has failed for the first time."""
    if state.attempt_number == 1 and state.outcome is not None:
        print(
            f"{state.outcome.exception()}; tried again for {PATIENCE_S:.0f} s",
            file=sys.stderr,
            flush=True,
        )


def _may_pass(error: BaseException) -> bool:
    """Tells whether an error is one of a server or of the way to it; a disk's has a number."""
    refused = isinstance(error, FileNotFoundError | PermissionError)
    return isinstance(error, OSError) and error.errno is None and not refused
