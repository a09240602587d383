"""Archives from elsewhere, read within bounds: tars of samples, and the zips of tensors and arrays.

Neither is ever unpacked to a disk. A header can claim any size: of a member whose bytes are not
there (a sparse one), of a name, of what a compressed member becomes.
"""

import tarfile
import zipfile
from typing import Any, BinaryIO, Final

MAX_SAMPLE_BYTES: Final = 256 << 20
"""The most bytes of a sample, or of a member: several times a photograph of 50 megapixels."""

MAX_NAME_BYTES: Final = 64 << 10
"""The most bytes of a member's long name, or of the settings that lie before it."""

_LONG_NAMES: Final = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
"""The kinds of members that tarfile reads whole as it looks for the next one."""


class _BoundedMember(tarfile.TarInfo):
    """A member whose name is not read where it is too long."""

    def _proc_member(self, tarfile: Any) -> Any:  # the hook that tarfile has for such a class
        if self.type in _LONG_NAMES:
            require_size("a name", self.size, MAX_NAME_BYTES)
        return super()._proc_member(tarfile)  # type: ignore[misc]


def open_tar(file: BinaryIO) -> tarfile.TarFile:
    """Opens a tar, which must not be compressed; what of it is read at once has a bound.

    Raises:
        tarfile.TarError: it is none, or says so of a name; as its members are read, too.
    """
    return tarfile.open(fileobj=file, mode="r:", tarinfo=_BoundedMember)


def read_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Returns a member's content; none of one that is no file, or a sparse one.

    A link may lead nowhere, and of a sparse file most bytes are not in the tar, which may so claim
    more than any memory holds.

    Raises:
        tarfile.ReadError: it is too large, or the tar ends within it.
    """
    require_size(member.name, member.size)
    content = tar.extractfile(member) if member.isfile() and not member.issparse() else None
    return content.read() if content else b""


def require_size(what: str, size: int, most: int = MAX_SAMPLE_BYTES) -> None:
    """Refuses to read more than a number of bytes at once.

    Raises:
        tarfile.ReadError: naming what is too large.
    """
    if size > most:
        raise tarfile.ReadError(f"{what} must have at most {most} bytes, got {size}")


def require_total(archive: zipfile.ZipFile, most: int) -> None:
    """Refuses a zip whose members, decompressed, are more than a number of bytes together.

    Raises:
        ValueError: with the number.
    """
    size = sum(member.file_size for member in archive.infolist())
    if size > most:
        raise ValueError(f"its members must have at most {most} bytes, got {size}")
