"""Parsing many stored photographs in one process, and writing their output files.

Photographs and output lie in storage locations: the `stn-icnn` command works on folders, a parsing
job's workers on folders or buckets.
"""

import errno
import io
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final

from stn_icnn.decoding import RejectedError, described, read_image_file
from stn_icnn.inference.face_parser import BATCH_SIZE, FaceParser
from stn_icnn.inference.faces.cutting import FrameBesideError
from stn_icnn.inference.outputs.output_files import (
    CLASSES_FILE,
    encode_classes,
    encode_output,
    is_output,
)
from stn_icnn.inference.outputs.parsed_photo import ParsedPhoto
from stn_icnn.inference.parse_options import DOUBTFUL, ParseOptions
from stn_icnn.inference.photos.decoding import (
    DecodedPhoto,
    OpenedPhoto,
    open_photo,
    use_large_blocks,
)
from stn_icnn.inference.photos.listing import StoredPhoto, add_outputs
from stn_icnn.storage import StorageLocation

RECORD: Final = "parse.json"
"""The file in a job's output that says which model parsed which photographs."""

NUM_THREADS: Final = 4
"""Threads that read, decode, encode and write while the model computes."""

MAX_BATCH_PIXELS: Final = 64_000_000
"""The most pixels of a batch's photographs, if it is of more than one. Large ones make small
batches, as three batches are in memory: one is decoded, one parsed and one written."""

MOST_UNFORESEEN: Final = 8
"""So many photographs that fail for a reason nobody foresaw, before any is done, end the run: all
would fail."""

_NAME_FAULTS: Final = frozenset(
    (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EILSEQ, errno.EINVAL)
)
"""The numbers of errors that are the fault of one output file's name."""


@dataclass(frozen=True)
class ParseOutcome:
    """The outcome of parsing a photograph."""

    photo: StoredPhoto
    failure: str | None = None
    """The reason why it cannot be parsed; None where its output files are written."""
    is_output: bool = False
    """Whether it is an earlier label map or overlay, and was passed over."""
    is_unforeseen: bool = False
    """Whether it failed in the model, or in making the output: the next may fail alike."""
    num_faces: int = 0
    """The number of its faces."""
    num_left_out: int = 0
    """The number of faces that are less sure than was asked for."""
    confidence: float | None = None
    """That of its surest face; None where the model does not tell, or there is no face."""

    @property
    def is_parsed(self) -> bool:
        """Whether its output files are written."""
        return self.failure is None and not self.is_output

    @property
    def is_doubtful(self) -> bool:
        """Whether its surest face is not sure."""
        return self.confidence is not None and self.confidence < DOUBTFUL


def summarize(
    out: StorageLocation,
    outcomes: Sequence[ParseOutcome],
    num_skipped: int,
    passed_over: Mapping[str, int],
    seconds: float,
) -> dict[str, object]:
    """Returns what the command and the job print last, as one JSON object."""
    num_failed = sum(outcome.failure is not None for outcome in outcomes)
    num_outputs = sum(outcome.is_output for outcome in outcomes)
    parsed = [outcome for outcome in outcomes if outcome.is_parsed]
    return {
        "out": out.url,
        "parsed": len(parsed),
        "skipped": num_skipped,
        "failed": num_failed,
        "passed_over": add_outputs(passed_over, num_outputs),
        "faces": sum(outcome.num_faces for outcome in parsed),
        "without_face": sum(outcome.num_faces == 0 for outcome in parsed),
        "doubtful": sum(outcome.is_doubtful for outcome in parsed),
        "left_out": sum(outcome.num_left_out for outcome in parsed),
        "photos_per_second": round(len(parsed) / max(seconds, 1e-9), 2),
    }


def parse_photos(
    parser: FaceParser,
    photos: Sequence[StoredPhoto],
    out: StorageLocation,
    options: ParseOptions,
    num_threads: int = NUM_THREADS,
    any_done: bool = False,
) -> Iterator[ParseOutcome]:
    """Parses photographs, a batch at a time, and writes their output files.

    Args:
        parser: the parser.
        photos: what to parse.
        out: where the output files go.
        options: how they are parsed, and which output files are written.
        num_threads: threads that read, decode, encode and write.
        any_done: whether others of the same run are parsed already, as `until_all_fail` takes it.

    Yields:
        The outcome of each, once it is known. Whatever goes wrong with one does not stop the
        others.

    Raises:
        OSError: disk or network failed.
        ValueError: all photographs fail.
    """
    use_large_blocks()
    with ThreadPoolExecutor(num_threads) as pool:
        batches = _decoded_batches(parser, photos, pool, num_threads)
        outcomes = _parse_batches(parser, batches, out, options, pool)
        for [outcome] in until_all_fail(([outcome] for outcome in outcomes), any_done):
            yield outcome
    if {"labels", "probabilities"} & {*options.kinds} and not out.exists(CLASSES_FILE):
        out.write(CLASSES_FILE, encode_classes(parser.model.label_set))


def until_all_fail(
    groups: Iterable[Sequence[ParseOutcome]], any_done: bool
) -> Iterator[Sequence[ParseOutcome]]:
    """Passes the outcomes of a whole run on, as groups in any order.

    Args:
        groups: outcomes that became known together.
        any_done: whether others are parsed already, so that it is not the model that fails.

    Raises:
        ValueError: so many have failed for unforeseen reasons, and none is done, that all would.
    """
    num_unforeseen = 0
    for group in groups:
        yield group
        any_done |= any(outcome.is_parsed for outcome in group)
        unforeseen = [outcome for outcome in group if outcome.is_unforeseen]
        num_unforeseen += len(unforeseen)
        if unforeseen and num_unforeseen >= MOST_UNFORESEEN and not any_done:
            last = unforeseen[-1]
            raise ValueError(
                f"all photographs fail, {last.photo.url} as the others: {last.failure}"
            )


@dataclass(eq=False)
class _Reading:
    """A photograph that threads read: its file first, then its pixels."""

    photo: StoredPhoto
    opening: Future[OpenedPhoto | ParseOutcome]
    decoding: Future[DecodedPhoto | ParseOutcome] | None = None

    @property
    def num_pixels(self) -> int:
        """The number of pixels that it is decoded to, once it is opened."""
        opened = self.opening.result()
        return 0 if isinstance(opened, ParseOutcome) else opened.num_pixels


def _decoded_batches(
    parser: FaceParser, photos: Sequence[StoredPhoto], pool: ThreadPoolExecutor, batch_size: int
) -> Iterator[list[_Reading]]:
    """Yields batches of photographs, each while the next is being decoded.

    The first has `batch_size`, so that the model has work soon.
    """
    remaining = iter(photos)
    opening: deque[_Reading] = deque()
    ready: list[_Reading] = []
    largest = 1  # pixels of a photograph, as far as seen
    while True:
        for photo in islice(remaining, max(0, 2 * batch_size - len(opening))):
            opening.append(_Reading(photo, pool.submit(_open, photo, parser.max_megapixels)))
        batch: list[_Reading] = []
        num_pixels = 0
        while opening and len(batch) < batch_size:
            num_pixels += opening[0].num_pixels
            if batch and num_pixels > MAX_BATCH_PIXELS:
                break
            reading = opening.popleft()
            largest = max(largest, reading.num_pixels)
            reading.decoding = pool.submit(_decode, reading)
            batch.append(reading)
        batch_size = max(1, min(BATCH_SIZE, MAX_BATCH_PIXELS // largest))
        if ready:
            yield ready
        ready = batch
        if not batch:
            return


def _parse_batches(
    parser: FaceParser,
    batches: Iterable[list[_Reading]],
    out: StorageLocation,
    options: ParseOptions,
    pool: ThreadPoolExecutor,
) -> Iterator[ParseOutcome]:
    """Parses batches as they are decoded, and has the output files written beside that."""
    writing: deque[Future[ParseOutcome]] = deque()
    for batch in batches:
        decoded: list[tuple[StoredPhoto, DecodedPhoto]] = []
        for reading in batch:
            assert reading.decoding is not None
            result = reading.decoding.result()
            if isinstance(result, ParseOutcome):
                yield result
            else:
                decoded.append((reading.photo, result))
        while len(writing) >= len(batch):
            yield writing.popleft().result()
        for photo, parsed in _parse_each(parser, decoded, options):
            if isinstance(parsed, ParseOutcome):
                yield parsed
            else:
                writing.append(pool.submit(_write, photo, parsed, out, options.kinds))
    for written in writing:
        yield written.result()


def _open(photo: StoredPhoto, max_megapixels: float) -> OpenedPhoto | ParseOutcome:
    """Reads a photograph's file."""
    content = _read(photo)
    if isinstance(content, ParseOutcome):
        return content
    try:
        if is_output(io.BytesIO(content)):
            return ParseOutcome(photo, is_output=True)
        return open_photo(content, max_megapixels, option="--max-megapixels ")
    except RejectedError as error:
        return ParseOutcome(photo, str(error))


def _read(photo: StoredPhoto) -> bytes | ParseOutcome:
    try:
        return read_image_file(photo.location, photo.path)
    except RejectedError as error:
        return ParseOutcome(photo, str(error))


def _decode(reading: _Reading) -> DecodedPhoto | ParseOutcome:
    """Decodes a photograph that is opened."""
    opened = reading.opening.result()
    if isinstance(opened, ParseOutcome):
        return opened
    try:
        return opened.decode()
    except RejectedError as error:
        return ParseOutcome(reading.photo, str(error))
    finally:
        opened.image.close()  # else its pixels would be in memory twice


def _parse_each(
    parser: FaceParser,
    decoded: Sequence[tuple[StoredPhoto, DecodedPhoto]],
    options: ParseOptions,
) -> Iterator[tuple[StoredPhoto, ParsedPhoto | ParseOutcome]]:
    """Parses a batch or, where that fails, each photograph of it alone."""
    try:
        boxes = options.boxes
        parsed = parser.parse_all(
            [pixels for _, pixels in decoded],
            None if boxes is None else [boxes.of(photo.names) for photo, _ in decoded],
            options.framing,
            options.min_confidence,
        )
        yield from zip((photo for photo, _ in decoded), parsed, strict=True)
        return
    except Exception as error:
        if len(decoded) == 1:
            photo, is_unforeseen = decoded[0][0], not isinstance(error, FrameBesideError)
            reason = f"not parsed: {described(error)}" if is_unforeseen else str(error)
            yield photo, ParseOutcome(photo, reason, is_unforeseen=is_unforeseen)
            return
    for one in decoded:
        yield from _parse_each(parser, [one], options)


def _write(
    photo: StoredPhoto, parsed: ParsedPhoto, out: StorageLocation, kinds: Sequence[str]
) -> ParseOutcome:
    """Makes and writes a photograph's output files.

    Raises:
        OSError: disk or network failed, as it would for every photograph.
    """
    for kind, path in zip(kinds, photo.output_paths(kinds), strict=True):
        try:
            content = encode_output(parsed, kind, photo.name)
        except Exception as error:
            return ParseOutcome(photo, f"{kind} not made: {described(error)}", is_unforeseen=True)
        try:
            out.write(path, content)
        except UnicodeError as error:
            return ParseOutcome(photo, f"{kind} not written: {described(error)}")
        except OSError as error:
            if error.errno not in _NAME_FAULTS:
                raise
            return ParseOutcome(photo, f"{kind} not written: {error.strerror}: {out.url_of(path)}")
    return ParseOutcome(
        photo,
        num_faces=len(parsed.faces),
        num_left_out=parsed.left_out,
        confidence=parsed.confidence,
    )
