"""The types and helpers of the readers of raw data sets, which list items and decode samples."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sharding.manifest import Rejection, Scale
from stn_icnn.decoding import (
    DECODE_ERRORS,
    STRICT,
    FileReader,
    RejectedError,
    decode_photo,
    first_line,
    open_image,
    read_image_file,
    require_sound_png,
)
from stn_icnn.labels import LabelSet
from stn_icnn.storage import Folder, ReadableLocation

Decoded = TypeVar("Decoded")

IMAGE_FILTER: Final = Image.Resampling.LANCZOS
"""The filter that reduces photographs: of Pillow's antialiased ones it keeps most of a lash or lip
line."""

MAP_FILTER: Final = Image.Resampling.BILINEAR
"""The filter that reduces soft maps: antialiased too, and unlike LANCZOS it cannot overshoot."""

FETCHED_AT_ONCE: Final = 3
"""The number of a bucket's objects that are fetched at once. All requests of a client share boto3's
quota of some 35 retries, which more of them would use up before each has had its attempts."""

IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png")
"""The endings of photographs' names, in small letters; other files beside them are ignored."""

MAX_SIDE_PX: Final = 1024
"""The longest side of an image of a data set whose images differ in size."""


@dataclass(frozen=True)
class Item:
    """One image of the raw data set.

    Attributes:
        key: names the sample in its shard.
        source: the image's path relative to the raw root.
        split: `train`, `val` or `test`.
        parts: the parts of which a bucket's listing holds a mask; None if that is not known, and
            every part's mask is to be tried.
    """

    key: str
    source: str
    split: str
    parts: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Listing:
    """The items that a raw data set holds, before any image is opened.

    Attributes:
        items: all items, those of a split in order.
        rejected: files that can't be an item, in order.
    """

    items: Sequence[Item]
    rejected: tuple[Rejection, ...] = ()


@dataclass(frozen=True, eq=False)
class RawPhoto:
    """A decoded photograph.

    Attributes:
        image: upright, RGB.
        jpeg: the file where it is an RGB JPEG that needed no change, else None.
        sha256: the digest of the file.
    """

    image: Image.Image
    jpeg: bytes | None
    sha256: str

    def with_labels(self, labels: NDArray[np.uint8], has_soft_masks: bool = False) -> "RawSample":
        """Returns the photograph, reduced to the size of its labels, with them.

        Args:
            labels: uint8 [H, W], class ids.
            has_soft_masks: as of `RawSample`.
        """
        height, width = labels.shape
        image, jpeg = self.image, self.jpeg
        if image.size != (width, height):
            image, jpeg = image.resize((width, height), IMAGE_FILTER), None
        return RawSample(image, jpeg, self.sha256, labels, self.image.size, has_soft_masks)


@dataclass(frozen=True, eq=False)
class RawSample(RawPhoto):
    """A photograph with its labels, at the working scale.

    Attributes:
        labels: uint8 [H, W], of the photograph's size, ids of a label set's classes.
        original_size: (width, height) of the photograph before it was reduced, upright.
        has_soft_masks: whether masks that should have two values have others, and were cut.
    """

    labels: NDArray[np.uint8]
    original_size: tuple[int, int]
    has_soft_masks: bool = False


@dataclass(frozen=True)
class Layout:
    """The way in which one raw data set is listed and read.

    Attributes:
        name: `dataset` in the manifest.
        scale: the working scale, to which images are reduced.
        list_items: (source, split rule, seed, whether known defects are kept) -> the listing; the
            rule is one of `split_rules`' kind or a split file.
        read: (source, item, label set) -> the sample, its labels of that set; what the set lacks
            is background. Raises RejectedError.
        classes: names of the classes that its raw data have, but for background; None where they
            are those of the label set, whichever.
        split_rules: what `--split` takes beside a file; the first is taken where none is given.
        places: the options that say where the raw data lie: `source`, their root, or several, which
            become the folders of one.
    """

    name: str
    scale: Scale
    list_items: Callable[[ReadableLocation, str, int, bool], Listing]
    read: Callable[[ReadableLocation, Item, LabelSet], RawSample]
    classes: tuple[str, ...] | None
    split_rules: tuple[str, ...]
    places: tuple[str, ...] = ("source",)


@contextmanager
def fetched(source: ReadableLocation, paths: Iterable[str]) -> Iterator[FileReader]:
    """Yields a reader of files, each to be read once, which a few threads fetch out of a bucket.

    A folder, which answers without delay, is yielded as it is.
    """
    if isinstance(source, Folder):
        yield source
        return
    with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
        yield _FetchedFiles({path: pool.submit(source.read, path) for path in paths})


@dataclass(frozen=True)
class _FetchedFiles:
    """Files that threads are fetching."""

    futures: dict[str, Future[bytes]]

    def read(self, path: str) -> bytes:
        return self.futures.pop(path).result()


def listed(source: ReadableLocation, folder: str, suffixes: tuple[str, ...] = ("",)) -> list[str]:
    """Lists the files below a folder, sorted, that have one of these endings in any case.

    Hidden files are left out: a Mac puts a `._7.jpg` beside every `7.jpg`.
    """
    return [
        path
        for path in source.list(folder)
        if path.lower().endswith(suffixes) and not PurePosixPath(path).name.startswith(".")
    ]


def where_else(source: ReadableLocation, name: str) -> str:
    """Says, for a message, where a folder is that a source lacks, or what there is in its place.

    A bucket, whose listing takes long, is not searched.
    """
    if not isinstance(source, Folder):
        return ""
    if below := sorted(source.root.glob(f"*/{name}")):
        return f"; it is in {below[0].parents[name.count('/')]}: give that as --source"
    folders = sorted(path.name for path in source.root.glob("*/"))
    return f"; there are the folders {', '.join(folders[:5])}" if folders else ""


def without(
    items: Sequence[Item], reasons: Mapping[str, str]
) -> tuple[list[Item], list[Rejection]]:
    """Separates the items whose key has a reason to reject them, as rejections, from the others."""
    left = [item for item in items if item.key not in reasons]
    return left, [Rejection(i.source, reasons[i.key]) for i in items if i.key in reasons]


def fitted(width: int, height: int) -> tuple[int, int]:
    """Reduces a size to a longer side of at most 1024, keeping its aspect to the nearest pixel."""
    scale = min(1.0, MAX_SIDE_PX / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def read_text(source: ReadableLocation, path: str, if_missing: str) -> str:
    """Reads a text file that goes with the images, with or without a byte order mark.

    Raises:
        ValueError: there is no such file, for which `if_missing` is the message, or it is not
            UTF-8.
    """
    try:
        return source.read(path).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ValueError(if_missing) from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{source.url_of(path)} must be UTF-8, got byte 0x{error.object[error.start]:02x} "
            f"at {error.start}: save it as UTF-8"
        ) from error


def read_photo(files: FileReader, path: str) -> RawPhoto:
    """Decodes a photograph, turned upright, as RGB, whatever its extension says.

    Raises:
        RejectedError: the file is missing or cannot be used.
    """
    data = read_image_file(files, path)
    image = decode_photo(data, STRICT)
    try:
        require_sound_png(data)
    except DECODE_ERRORS as error:
        raise RejectedError(f"image does not decode: {first_line(error)}") from error
    untouched = image.format == "JPEG"
    return RawPhoto(image, data if untouched else None, hashlib.sha256(data).hexdigest())


def read_mask(
    files: FileReader, path: str, part: str, size: tuple[int, int], remark: str = ""
) -> NDArray[np.uint8]:
    """Decodes a part's mask or soft label map, of any mode, as greyscale, uint8 [H, W].

    Args:
        files: where its file lies.
        path: the file's path there.
        part: its name in the reason of a rejection.
        size: the (width, height) that it must have.
        remark: follows that size in the reason of a rejection.

    Raises:
        MissingFileError: the file is missing.
        RejectedError: it cannot be used.
    """
    grey = decode_mask(files, path, part, partial(_in_grey, part=part))
    require_size(grey.size, part, size, remark)
    return np.asarray(grey)


def decode_mask(
    files: FileReader,
    path: str,
    part: str,
    convert: Callable[[Image.Image], Decoded],
) -> Decoded:
    """Decodes the file of a mask or label map.

    Args:
        files: where its file lies.
        path: the file's path there.
        part: its name in the reason of a rejection.
        convert: makes of the opened file what is wanted of it.

    Raises:
        MissingFileError: the file is missing.
        RejectedError: it cannot be used.
    """
    data = read_image_file(files, path, "mask")
    try:
        decoded = convert(open_image(data, STRICT, "mask"))
        require_sound_png(data)
    except DECODE_ERRORS as error:
        raise RejectedError(f"mask does not decode: {part}: {first_line(error)}") from error
    return decoded


def require_size(
    found: tuple[int, int], part: str, size: tuple[int, int], remark: str = ""
) -> None:
    """Refuses a mask whose (width, height) `found` is another; arguments as of `read_mask`.

    Raises:
        RejectedError: with both sizes.
    """
    if found != size:
        raise RejectedError(
            f"mask of another size: {part} must be {size[0]} x {size[1]}{remark}, "
            f"got {found[0]} x {found[1]}"
        )


def require_opaque(opened: Image.Image, part: str) -> None:
    """Refuses a mask that is transparent anywhere: its shape may be in its alpha.

    Raises:
        RejectedError: saying what to do.
    """
    if opened.has_transparency_data:
        alpha = np.asarray(opened.convert("RGBA"))[..., 3]
        if alpha.min() < 255:  # it may hold the shape, over a single colour
            raise RejectedError(
                f"mask with alpha: {part} must be opaque, save it in grey without alpha"
            )


def _in_grey(opened: Image.Image, part: str) -> Image.Image:
    require_opaque(opened, part)
    return opened.convert("L")
