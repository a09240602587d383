"""Finding the photographs below a folder or bucket, and what their output files must not be."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from PIL import Image

from stn_icnn.decoding import DECODE_ERRORS
from stn_icnn.inference.output_files import is_output, output_paths
from stn_icnn.inference.photo_decoding import PHOTO_SUFFIXES
from stn_icnn.storage import Folder, StorageLocation, is_within

HIDDEN: Final = "hidden"
LINKED: Final = "linked folder"
NO_SUFFIX: Final = "no suffix"
OUTPUT: Final = "label map or overlay"
"""What is passed over for another reason than the end of its name."""


@dataclass(frozen=True)
class StoredPhoto:
    """A photograph in a storage location; its output files mirror its path."""

    location: StorageLocation
    path: str

    @property
    def url(self) -> str:
        """The full address."""
        return self.location.url_of(self.path)


@dataclass(frozen=True)
class PhotoListing:
    """The photographs that were found, and what was passed over."""

    photos: Sequence[StoredPhoto]
    passed_over: Mapping[str, int]
    """The number of files by the end of their names, or by why they were passed over."""


def list_photos(source: StorageLocation, out: StorageLocation) -> PhotoListing:
    """Lists every photograph below a location, by path, without the output where it lies in it.

    What is hidden, or in a hidden folder, is passed over, and so are linked folders and files whose
    names do not end as those of photographs.

    Raises:
        ValueError: there is none.
    """
    out_inside = is_within(out.url, source) and out.url != source.url
    photos, passed_over = [], Counter[str]()
    for path in source.list():
        if out_inside and is_within(source.url_of(path), out):
            continue
        if any(name.startswith(".") for name in path.split("/")):
            passed_over[HIDDEN] += 1
        elif path.lower().endswith(PHOTO_SUFFIXES):
            photos.append(StoredPhoto(source, path))
        else:
            passed_over[PurePosixPath(path).suffix.lower() or NO_SUFFIX] += 1
    if num_linked := _count_linked_folders(source):
        passed_over[LINKED] = num_linked
    if not photos:
        others = ", ".join(f"{number} {kind}" for kind, number in passed_over.most_common())
        raise ValueError(
            f"{source.url} holds no photographs ({', '.join(PHOTO_SUFFIXES)})"
            + (f", but: {others}" if others else "")
        )
    return PhotoListing(photos, dict(passed_over.most_common()))


def _count_linked_folders(source: StorageLocation) -> int:
    """Counts the links to folders, which are not followed: one may lead back to where it lies."""
    if not isinstance(source, Folder):
        return 0
    walk = os.walk(source.root)
    return sum(os.path.islink(os.path.join(top, name)) for top, names, _ in walk for name in names)


def without_outputs(
    photos: Sequence[StoredPhoto], out: StorageLocation, kinds: Sequence[str]
) -> list[StoredPhoto]:
    """Leaves out earlier label maps and overlays that are in the way of output files.

    Those that are not in the way are found when they are read: to open every file here would take
    too long.

    Raises:
        ValueError: output files would overwrite each other or a photograph; both are named.
    """
    originals = {photo.url: photo for photo in photos}
    owners: dict[str, StoredPhoto] = {}
    outputs: dict[StoredPhoto, bool] = {}

    def is_passed_over(photo: StoredPhoto) -> bool:
        if photo not in outputs:
            outputs[photo] = _is_stored_output(photo)
        return outputs[photo]

    for photo in photos:
        for path in output_paths(photo.path, kinds):
            other = owners.setdefault(path, photo)
            if other is not photo and not is_passed_over(other) and not is_passed_over(photo):
                raise ValueError(f"{other.url} and {photo.url} would both be written as {path}")
            original = originals.get(out.url_of(path))
            if original and not is_passed_over(original) and not is_passed_over(photo):
                raise ValueError(
                    f"the results of {photo.url} would overwrite the photograph "
                    f"{original.url}: choose another --out"
                )
            if other is not photo and is_passed_over(other):
                owners[path] = photo
    return [photo for photo in photos if not outputs.get(photo)]


def _is_stored_output(photo: StoredPhoto) -> bool:
    try:
        with photo.location.open(photo.path) as file:
            return is_output(Image.open(file, formats=("PNG", "JPEG")))
    except DECODE_ERRORS:
        return False


def add_outputs(passed_over: Mapping[str, int], number: int) -> dict[str, int]:
    """Counts some label maps and overlays among what was passed over."""
    return dict(passed_over) | ({OUTPUT: passed_over.get(OUTPUT, 0) + number} if number else {})


def pending_photos(
    photos: Sequence[StoredPhoto], existing: Sequence[str], kinds: Sequence[str]
) -> list[StoredPhoto]:
    """Returns the photographs that lack an output file among the existing paths."""
    present = set(existing)
    return [photo for photo in photos if not present.issuperset(output_paths(photo.path, kinds))]
