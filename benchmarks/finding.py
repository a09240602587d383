"""Compares photographs whose faces are found with the same taken whole."""

from collections.abc import Iterator
from functools import partial

from benchmarks.measure import DEVICE, Row, in_turn
from benchmarks.subjects import Setup, photographs
from stn_icnn.inference.face_parser import FaceParser

LARGE_PX = 3464
"""The side of a photograph of 12 megapixels."""


def finding(setup: Setup) -> Iterator[Row]:
    """Yields found against whole of photographs that a face fills, and large against small ones."""
    parser = FaceParser(setup.model, DEVICE)
    small = photographs(setup, setup.batch)
    if parser.finder is None:
        yield Row(figure="found / whole", note="not measured: the model has no finder")
        return
    for num in (1, setup.batch):
        works = {
            "found": partial(parser.parse_all, small[:num], framing="found"),
            "whole": partial(parser.parse_all, small[:num], framing="whole"),
        }
        times = in_turn(works, setup.rounds)
        yield Row(
            figure=f"{num} at a time: found / whole",
            rounds=times.ratio("found", "whole"),
            absolute={f"{name}, ms a photograph": times.ms(name, num) for name in works},
        )
    large = photographs(setup, 1, LARGE_PX)
    works = {
        "large": partial(parser.parse_all, large, framing="found"),
        "small": partial(parser.parse_all, small[:1], framing="found"),
    }
    times = in_turn(works, setup.rounds)
    yield Row(
        figure=f"12 megapixels / {setup.image_px} px, found",
        rounds=times.ratio("large", "small"),
        absolute={f"{name}, ms a photograph": times.ms(name) for name in works},
    )
