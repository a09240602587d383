"""Compares inference with the authors' pipeline, and measures the networks' share of the time."""

from collections.abc import Iterator
from functools import partial

from benchmarks.measure import Row, in_turn
from benchmarks.networks import recorded
from benchmarks.reference import Reference
from benchmarks.subjects import Setup, face_parser, photographs, plain_parser
from stn_icnn.studies.timing import Work

NO_REFERENCE = "not measured: no checkout of the authors' code was given (REFERENCE=PATH)"


def inference(setup: Setup) -> Iterator[Row]:
    """Yields the figures of one face and of a batch, from array to label map."""
    photos = photographs(setup, setup.batch)
    parser, plain = (make(setup.config, photos) for make in (face_parser, plain_parser))
    authors = Reference(setup.reference) if setup.reference else None
    for num in (1, setup.batch):
        some = photos[:num]
        works: dict[str, Work] = {
            "parser": partial(parser.parse_all, some),
            "plain": partial(plain.parse_all, some),
            "networks": recorded(plain, some),
        }
        if authors is not None:
            works["authors"] = partial(authors.parse, some)
        times = in_turn(works, setup.rounds)
        what = "one face" if num == 1 else f"{num} faces at a time"
        parsing = {"FaceParser, ms a face": times.ms("parser", num)}
        figure = f"{what}: the authors' time / ours"
        if authors is None:
            yield Row(figure=figure, absolute=parsing, note=NO_REFERENCE)
        else:
            both = {"authors, ms a face": times.ms("authors", num), **parsing}
            yield Row(figure=figure, rounds=times.ratio("authors", "parser"), absolute=both)
        yield Row(
            figure=f"{what}: bare networks' share of the time",
            rounds=times.ratio("networks", "plain"),
            absolute={
                "networks, ms a face": times.ms("networks", num),
                "all, one after another": times.ms("plain", num),
            },
        )
