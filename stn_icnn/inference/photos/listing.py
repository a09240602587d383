"""Finding the photographs below a folder or bucket, and what their output files must not be."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final

from stn_icnn.inference.outputs.output_files import ENDINGS, is_output
from stn_icnn.inference.photos.decoding import PHOTO_SUFFIXES
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
    is_named_in_full: bool = False
    """Whether the names of its output files have its suffix too, by which they differ from those
    of another photograph."""

    @property
    def url(self) -> str:
        """The full address."""
        return self.location.url_of(self.path)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name

    @property
    def names(self) -> tuple[str, ...]:
        """What a user may call it, the fullest first: its address, its path from the working
        directory and in the location, and the last part of that."""
        names = [self.url, self.path, self.name]
        if isinstance(self.location, Folder):
            names.insert(1, os.path.relpath(self.url))
        return tuple(names)

    @property
    def stem(self) -> str:
        """The path without its suffix."""
        return str(PurePosixPath(self.path).with_suffix(""))

    def output_paths(self, kinds: Sequence[str]) -> list[str]:
        """Returns the paths in the output, kind by kind."""
        name = self.path if self.is_named_in_full else self.stem
        return [name + ENDINGS[kind] for kind in kinds]


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


def plan_outputs(
    photos: Sequence[StoredPhoto],
    out: StorageLocation,
    kinds: Sequence[str],
    existing: Sequence[str],
) -> list[StoredPhoto]:
    """Gives every photograph output files of its own.

    Those that share a path but for the suffix, as `a.heic` and `a.jpg` do, have the suffix in the
    names of their output files: `a.heic.png` and `a.jpg.png`. A photograph that was parsed before
    keeps the names: those without suffix where `a_windows.json` tells that they are its own, those
    with suffix where there are all of them.

    Earlier label maps and overlays that are in the way are left out. Others are found when they are
    read: to open every file here would take too long.

    Raises:
        ValueError: output files would overwrite each other or a photograph; both are named.
    """
    outputs: set[str] = set()

    def is_photo(file: StoredPhoto) -> bool:
        if file.url not in outputs and is_stored_output(file):
            outputs.add(file.url)
        return file.url not in outputs

    num_files = Counter(photo.stem for photo in photos)
    num_photos = Counter(
        photo.stem for photo in photos if num_files[photo.stem] > 1 and is_photo(photo)
    )
    present = set(existing)

    def is_named_in_full(photo: StoredPhoto) -> bool:
        if num_photos[photo.stem] > 1:
            return _owner_of_outputs(out, photo.stem, present) != photo.name
        in_full = replace(photo, is_named_in_full=True)
        return (
            photo.path not in num_files  # else `a.jpg.png` may be of `a.jpg.tif`
            and _has_outputs(in_full, kinds, present)
            and not _has_outputs(photo, kinds, present)
        )

    planned = [replace(photo, is_named_in_full=is_named_in_full(photo)) for photo in photos]
    originals = {photo.url: photo for photo in photos}
    owners: dict[str, StoredPhoto] = {}
    for photo in planned:
        for path in photo.output_paths(kinds):
            other = owners.setdefault(path, photo)
            if other is not photo and is_photo(other) and is_photo(photo):
                raise ValueError(f"{other.url} and {photo.url} would both be written as {path}")
            original = originals.get(out.url_of(path))
            if original and is_photo(original) and is_photo(photo):
                raise ValueError(
                    f"the results of {photo.url} would overwrite the photograph "
                    f"{original.url}: choose another --out"
                )
            if other.url in outputs:
                owners[path] = photo
    return [photo for photo in planned if photo.url not in outputs]


def _owner_of_outputs(out: StorageLocation, stem: str, present: Set[str]) -> str | None:
    """Returns the name of the photograph whose output files have no suffix; None if none tells."""
    path = stem + ENDINGS["windows"]
    if path not in present:
        return None
    try:
        owner = json.loads(out.read(path))["photo"]
    except (ValueError, LookupError, TypeError):
        return None
    return str(owner)


def unowned_outputs(
    photos: Sequence[StoredPhoto], out: StorageLocation, existing: Sequence[str]
) -> list[str]:
    """Returns the output files that belong to one of several photographs, it is not known to which.

    It was parsed while no other shared its path but for the suffix.
    """
    kinds = list(ENDINGS)
    owned = {path for photo in photos for path in photo.output_paths(kinds)}
    shorter = (replace(photo, is_named_in_full=False) for photo in photos if photo.is_named_in_full)
    left = {path for photo in shorter for path in photo.output_paths(kinds)} - owned
    urls = {photo.url for photo in photos}
    return sorted(path for path in left.intersection(existing) if out.url_of(path) not in urls)


def describe_unowned(left: Sequence[str], out: StorageLocation) -> str:
    """Returns what a run says of such files, in one line."""
    more = f" and {len(left) - 1} more" if len(left) > 1 else ""
    return (
        f"used no longer: {out.url_of(left[0])}{more}, as several photographs have that name but "
        "for the suffix and no record says whose results these are"
    )


def is_stored_output(photo: StoredPhoto) -> bool:
    """Tells whether a file is an earlier label map or overlay."""
    try:
        with photo.location.open(photo.path) as file:
            return is_output(file)
    except OSError:
        return False


def add_outputs(passed_over: Mapping[str, int], number: int) -> dict[str, int]:
    """Counts some label maps and overlays among what was passed over."""
    return dict(passed_over) | ({OUTPUT: passed_over.get(OUTPUT, 0) + number} if number else {})


def pending_photos(
    photos: Sequence[StoredPhoto], existing: Sequence[str], kinds: Sequence[str]
) -> list[StoredPhoto]:
    """Returns the photographs that lack an output file among the existing paths."""
    present = set(existing)
    return [photo for photo in photos if not _has_outputs(photo, kinds, present)]


def _has_outputs(photo: StoredPhoto, kinds: Sequence[str], present: Set[str]) -> bool:
    return present >= set(photo.output_paths(kinds))
