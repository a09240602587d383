"""Storage locations, in which files are read and written: their protocol, and the local folder."""

import errno
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Protocol

PASSED_BY_SHELL: Final = Path("/dev/fd")
"""The folder of the pipes that a shell hands over, as for `--split <(command)`."""

MAX_READ_BYTES: Final = 2 << 30
"""The most bytes of a file that is read whole, which all go to memory."""

MAX_NAME_BYTES: Final = 255
"""The longest name of a file in the usual file systems, bytes."""


class ReadableLocation(Protocol):
    """A place in which files are read.

    A `path` is always relative to it, with forward slashes. Locations can be pickled.
    """

    @property
    def url(self) -> str:
        """The absolute folder, or `s3://bucket/prefix`."""

    def url_of(self, path: str) -> str:
        """Returns the full address of `path`."""

    def read(self, path: str) -> bytes:
        """Returns the whole file; raises FileNotFoundError where there is none.

        Raises:
            OSError: EFBIG, where it has more than `MAX_READ_BYTES`.
        """

    def list(self, under: str = "") -> list[str]:
        """Returns the path of every file below the folder `under`, sorted."""


class StorageLocation(ReadableLocation, Protocol):
    """A folder or a bucket's prefix, in which files are read and written."""

    def child(self, name: str) -> "StorageLocation":
        """Returns the location of this name below it; nothing is touched."""

    def write(self, path: str, data: bytes) -> None:
        """Writes the whole file or, on any failure, nothing."""

    def upload(self, file: BinaryIO, path: str) -> None:
        """Copies a seekable file to `path`, whole or not at all; may close it."""

    def open(self, path: str) -> BinaryIO:
        """Opens a seekable reader."""

    def exists(self, path: str) -> bool:
        """Tells whether there is a file at `path`."""

    def delete(self, path: str) -> None:
        """Removes the file, if it is there."""

    def abort_uploads(self, paths: re.Pattern[str]) -> None:
        """Aborts the uploads to such paths that killed writers left, which no listing shows."""


def is_within(address: str, location: StorageLocation) -> bool:
    """Tells whether an address is that of a location, or of something below it."""
    return f"{address}/".startswith(f"{location.url}/")


@dataclass(frozen=True)
class Folder:
    """A local or shared folder, made when something is written to it; see `StorageLocation`."""

    root: Path

    @property
    def url(self) -> str:
        """The absolute folder."""
        return str(self.root)

    def child(self, name: str) -> "Folder":
        """Returns the folder of this name in it."""
        return Folder(self.root / name)

    def url_of(self, path: str) -> str:
        """Returns the full path of `path`."""
        return str(self.root / path)

    def read(self, path: str) -> bytes:
        """Returns the whole file."""
        file = self._file(path)
        try:
            require_readable_size(_require_regular(file), str(file))
            return file.read_bytes()
        except FileNotFoundError as error:
            if file.is_symlink():  # lost, which is not the same as never there
                lost = FileNotFoundError(errno.ELOOP, "a link that leads nowhere", str(file))
                raise lost from error
            raise

    def write(self, path: str, data: bytes) -> None:
        """Writes a file beside it, then renames that."""
        with self._replacing(path) as temporary:
            temporary.write_bytes(data)

    def upload(self, file: BinaryIO, path: str) -> None:
        """Copies to a file beside it, then renames that."""
        file.seek(0)
        with self._replacing(path) as temporary, temporary.open("wb") as copy:
            shutil.copyfileobj(file, copy)

    def open(self, path: str) -> BinaryIO:
        """Opens a seekable reader."""
        file = self._file(path)
        _require_regular(file)
        return file.open("rb")

    def exists(self, path: str) -> bool:
        """Tells whether there is a file at `path`."""
        return self._file(path).is_file()

    def list(self, under: str = "") -> list[str]:
        """Returns the path of every file below `under`, sorted."""
        walk = os.walk(self.root / under, onerror=_pass_over)
        files = (Path(top) / name for top, _, names in walk for name in names)
        return sorted(file.relative_to(self.root).as_posix() for file in files)

    def delete(self, path: str) -> None:
        """Removes the file and, where that leaves it empty, its folder."""
        file = self._file(path)
        file.unlink(missing_ok=True)
        if file.parent != self.root and file.parent.is_dir() and not any(file.parent.iterdir()):
            file.parent.rmdir()

    def abort_uploads(self, paths: re.Pattern[str]) -> None:
        """Does nothing: what is half-written in a folder is listed."""

    def _file(self, path: str) -> Path:
        """Returns a file's full path.

        Raises:
            ValueError: it leads out of the folder, as an object's name in a bucket may.
        """
        relative = PurePosixPath(path)
        if relative.is_absolute() or ".." in relative.parts:
            raise ValueError(f"{path!r} must be a path within {self.root}")
        return self.root / relative

    @contextmanager
    def _replacing(self, path: str) -> Iterator[Path]:
        target = self._file(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        ending = f".{uuid.uuid4().hex}.tmp"
        begin = target.name.encode(errors="surrogateescape")[: MAX_NAME_BYTES - 1 - len(ending)]
        temporary = target.with_name(f".{begin.decode(errors='ignore')}{ending}")
        try:
            yield temporary
            _to_disk(temporary)  # else a crash may leave the new name with none of the bytes
            temporary.replace(target)
            _to_disk(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


def require_readable_size(num_bytes: int, name: str) -> None:
    """Refuses to read a whole file that is larger than `MAX_READ_BYTES`.

    Raises:
        OSError: EFBIG, naming the file.
    """
    if num_bytes > MAX_READ_BYTES:
        raise OSError(errno.EFBIG, f"over {MAX_READ_BYTES} bytes: {num_bytes}", name)


def _require_regular(file: Path) -> int:
    """Refuses a pipe, socket or device: reading one may wait or go on for ever.

    Returns:
        The file's size, bytes.

    Raises:
        OSError: ENXIO, as for the opening of a socket; or there is no such file.
    """
    found = file.stat()
    mode = found.st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or file.parent == PASSED_BY_SHELL):
        raise OSError(errno.ENXIO, "a pipe, socket or device", str(file))
    return found.st_size


def _pass_over(error: OSError) -> None:
    """Takes a folder that is gone or closed to us for an empty one, but raises a disk's failure."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError):
        raise error


def _to_disk(path: Path) -> None:
    """Waits until a file, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
