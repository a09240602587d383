"""Parsing many stored photographs in one process, and writing their output files.

Photographs and output lie in storage locations: the `stn-icnn` command works on folders, a parsing
job's workers on folders or buckets.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stn_icnn.decoding import STRICT, RejectedError, decode_photo, read_image_file
from stn_icnn.inference.face_parser import BATCH_SIZE, FaceParser, ParsedFace
from stn_icnn.inference.output_files import encode_output, output_paths
from stn_icnn.storage import StorageLocation, is_within

PHOTO_SUFFIXES: Final = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""The ends of photographs' names, in small or large letters."""

RECORD: Final = "parse.json"
"""The file in a job's output that says which model parsed which photographs."""

NUM_THREADS: Final = 4
"""Threads that read, decode, encode and write while the model computes."""

MAX_BATCH_PIXELS: Final = 64_000_000
"""The most pixels of a batch's photographs. Large ones make small batches, as three batches are in
memory: one is parsed, one read ahead and one written."""


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
class ParseOutcome:
    """The outcome of parsing a photograph."""

    photo: StoredPhoto
    failure: str | None = None
    """The reason why it cannot be parsed; None where its output files are written."""


def list_photos(source: StorageLocation, out: StorageLocation) -> list[StoredPhoto]:
    """Lists every photograph below a location, by path, without the output where it lies in it.

    Hidden files and those in hidden folders are passed over.

    Raises:
        ValueError: there is none.
    """
    out_inside = is_within(out.url, source) and out.url != source.url
    photos = [
        StoredPhoto(source, path)
        for path in source.list()
        if path.lower().endswith(PHOTO_SUFFIXES)
        and not any(name.startswith(".") for name in path.split("/"))
        and not (out_inside and is_within(source.url_of(path), out))
    ]
    if not photos:
        raise ValueError(f"{source.url} holds no photographs ({', '.join(PHOTO_SUFFIXES)})")
    return photos


def require_distinct_outputs(
    photos: Sequence[StoredPhoto], out: StorageLocation, kinds: Sequence[str]
) -> None:
    """Refuses output files that would overwrite each other or a photograph.

    Raises:
        ValueError: two collide; both are named.
    """
    originals = {photo.url for photo in photos}
    owners: dict[str, StoredPhoto] = {}
    for photo in photos:
        for path in output_paths(photo.path, kinds):
            other = owners.setdefault(path, photo)
            if other is not photo:
                raise ValueError(f"{other.url} and {photo.url} would both be written as {path}")
            if out.url_of(path) in originals:
                raise ValueError(
                    f"the results of {photo.url} would overwrite the photograph "
                    f"{out.url_of(path)}: choose another --out"
                )


def pending_photos(
    photos: Sequence[StoredPhoto], existing: Sequence[str], kinds: Sequence[str]
) -> list[StoredPhoto]:
    """Returns the photographs that lack an output file among the existing paths."""
    present = set(existing)
    return [photo for photo in photos if not present.issuperset(output_paths(photo.path, kinds))]


def summarize(
    out: StorageLocation, outcomes: Sequence[ParseOutcome], num_skipped: int, seconds: float
) -> dict[str, object]:
    """Returns what the command and the job print last, as one JSON object."""
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
    photos: Sequence[StoredPhoto],
    out: StorageLocation,
    kinds: Sequence[str],
    num_threads: int = NUM_THREADS,
) -> Iterator[ParseOutcome]:
    """Parses photographs, a batch at a time, and writes their output files.

    Yields:
        The outcome of each, once it is known. One that cannot be read does not stop the others.

    Raises:
        OSError: disk or network failed.
    """
    remaining = iter(photos)
    reading: deque[tuple[StoredPhoto, Future[NDArray[np.uint8]]]] = deque()
    writing: deque[Future[ParseOutcome]] = deque()
    batch_size, largest = num_threads, 1  # largest: pixels of a photograph, as far as seen
    with ThreadPoolExecutor(num_threads) as pool:
        while True:
            ahead = islice(remaining, max(0, 2 * batch_size - len(reading)))
            reading.extend((photo, pool.submit(_read, photo)) for photo in ahead)
            if not reading:
                break
            batch: list[tuple[StoredPhoto, NDArray[np.uint8]]] = []
            for photo, future in [reading.popleft() for _ in range(min(batch_size, len(reading)))]:
                try:
                    batch.append((photo, future.result()))
                except RejectedError as error:
                    yield ParseOutcome(photo, str(error))
            faces = parser.parse_all([image for _, image in batch])
            for (photo, image), face in zip(batch, faces, strict=True):
                largest = max(largest, image.shape[0] * image.shape[1])
                writing.append(pool.submit(_write, photo, face, out, kinds))
            batch_size = max(1, min(BATCH_SIZE, MAX_BATCH_PIXELS // largest))
            while len(writing) > batch_size:
                yield writing.popleft().result()
        for written in writing:
            yield written.result()


def _read(photo: StoredPhoto) -> NDArray[np.uint8]:
    """Returns a photograph's upright pixels, `[H, W, 3]` RGB."""
    return np.asarray(decode_photo(read_image_file(photo.location, photo.path), STRICT))


def _write(
    photo: StoredPhoto, face: ParsedFace, out: StorageLocation, kinds: Sequence[str]
) -> ParseOutcome:
    for kind, path in zip(kinds, output_paths(photo.path, kinds), strict=True):
        out.write(path, encode_output(face, kind))
    return ParseOutcome(photo)
