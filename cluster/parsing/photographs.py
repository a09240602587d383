"""Photographs and their results, in folders and buckets; many at a time, in one process.

Knows no Ray: the `stn-icnn` command works with it as well.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sharding.layouts.raw import read_photo
from stn_icnn.decoding import RejectedError
from stn_icnn.inference.face_parser import FaceParser, ParsedFace
from stn_icnn.inference.results import PHOTO_SUFFIXES, encode_result, is_photo, result_paths
from stn_icnn.storage import StorageLocation

RECORD: Final = "parse.json"
"""In the output of a job: which model made its results, of which photographs."""

THREADS: Final = 4
"""That read, decode, encode and write while the model computes."""

BATCH: Final = 16
MOST_PIXELS: Final = 64_000_000
"""Of the photographs of a batch: large ones make small batches, as three batches are in memory, one
read ahead and one being written."""


@dataclass(frozen=True)
class Photo:
    """A photograph; its results go to the same path in the output."""

    place: StorageLocation
    path: str

    @property
    def url(self) -> str:
        """Its full address."""
        return self.place.url_of(self.path)


@dataclass(frozen=True)
class Outcome:
    """What came of a photograph."""

    photo: Photo
    failure: str | None = None
    """Why it can't be parsed; None: its results are written."""


def list_photos(place: StorageLocation, out: StorageLocation) -> list[Photo]:
    """Every photograph below a place, by path; not the results, where `out` lies in it.

    Raises:
        ValueError: where there is none.
    """
    out_inside = f"{out.url}/".startswith(f"{place.url}/") and out.url != place.url
    photos = [
        Photo(place, path)
        for path in place.list()
        if is_photo(path) and not (out_inside and place.url_of(path).startswith(f"{out.url}/"))
    ]
    if not photos:
        raise ValueError(f"{place.url} holds no photographs ({', '.join(PHOTO_SUFFIXES)})")
    return photos


def require_distinct_results(
    photos: Sequence[Photo], out: StorageLocation, kinds: Sequence[str]
) -> None:
    """Refuses results that would overwrite each other or a photograph.

    Raises:
        ValueError: naming both.
    """
    originals = {photo.url for photo in photos}
    owners: dict[str, Photo] = {}
    for photo in photos:
        for path in result_paths(photo.path, kinds):
            other = owners.setdefault(path, photo)
            if other is not photo:
                raise ValueError(f"{other.url} and {photo.url} would both be written as {path}")
            if out.url_of(path) in originals:
                raise ValueError(
                    f"the results of {photo.url} would overwrite the photograph "
                    f"{out.url_of(path)}: choose another --out"
                )


def pending_photos(
    photos: Sequence[Photo], there: Sequence[str], kinds: Sequence[str]
) -> list[Photo]:
    """The photographs that lack a result among the paths that are there."""
    present = set(there)
    return [photo for photo in photos if not present.issuperset(result_paths(photo.path, kinds))]


def summary(
    out: StorageLocation, outcomes: Sequence[Outcome], num_skipped: int, seconds: float
) -> dict[str, object]:
    """What is said at the end, as one JSON object."""
    num_failed = sum(outcome.failure is not None for outcome in outcomes)
    num_parsed = len(outcomes) - num_failed
    return {
        "out": out.url,
        "parsed": num_parsed,
        "skipped": num_skipped,
        "failed": num_failed,
        "photos_per_second": round(num_parsed / max(seconds, 1e-9), 2),
    }


def parse_photos(
    parser: FaceParser,
    photos: Sequence[Photo],
    out: StorageLocation,
    kinds: Sequence[str],
    threads: int = THREADS,
) -> Iterator[Outcome]:
    """Parses photographs, some at a time, and writes their results.

    Yields:
        What came of each, when that is known: one that can't be read does not stop the others.

    Raises:
        OSError: disk or network failed.
    """
    rest = iter(photos)
    reading: deque[tuple[Photo, Future[NDArray[np.uint8]]]] = deque()
    writing: deque[Future[Outcome]] = deque()
    most, largest = threads, 1  # of a batch; px of a photograph, as far as seen
    with ThreadPoolExecutor(threads) as pool:
        while True:
            ahead = islice(rest, max(0, 2 * most - len(reading)))
            reading.extend((photo, pool.submit(_read, photo)) for photo in ahead)
            if not reading:
                break
            batch: list[tuple[Photo, NDArray[np.uint8]]] = []
            for photo, future in [reading.popleft() for _ in range(min(most, len(reading)))]:
                try:
                    batch.append((photo, future.result()))
                except RejectedError as error:
                    yield Outcome(photo, str(error))
            faces = parser.parse_all([image for _, image in batch])
            for (photo, image), face in zip(batch, faces, strict=True):
                largest = max(largest, image.shape[0] * image.shape[1])
                writing.append(pool.submit(_write, photo, face, out, kinds))
            most = max(1, min(BATCH, MOST_PIXELS // largest))
            while len(writing) > most:
                yield writing.popleft().result()
        for written in writing:
            yield written.result()


def _read(photo: Photo) -> NDArray[np.uint8]:
    return np.asarray(read_photo(photo.place, photo.path).image)


def _write(photo: Photo, face: ParsedFace, out: StorageLocation, kinds: Sequence[str]) -> Outcome:
    for kind, path in zip(kinds, result_paths(photo.path, kinds), strict=True):
        out.write(path, encode_result(face, kind))
    return Outcome(photo)
