"""Timing both pipelines: the same networks, in turn, per face."""

from collections.abc import Callable

import pytest
import torch

from stn_icnn.config import TrainConfig
from stn_icnn.data.plan import Request
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.networks.centroid_cropper import centroids
from stn_icnn.networks.checkpoint import Checkpoint, DataFacts
from stn_icnn.networks.model import STNiCNN
from stn_icnn.studies import timing, timing_report
from stn_icnn.studies.timing import Work, time_in_turn
from stn_icnn.studies.timing_report import time_pipelines, with_centroids


def test_both_pipelines_have_the_same_networks_but_for_the_cropper(
    sure_model: STNiCNN, tiny_config: TrainConfig, tiny_faces
) -> None:
    facts = DataFacts(dataset="helen", fingerprint="f", scale_px=96, scale_fit="at_most")
    trained = Checkpoint(sure_model, tiny_config, facts, "end_to_end")
    baseline = with_centroids(trained)
    assert baseline.config.model.cropper == "centroid"
    assert trained.config.model.cropper == "localizer"
    theirs, ours = baseline.model.state_dict(), trained.model.state_dict()
    assert {n for n in ours if n not in theirs} == {n for n in ours if n.startswith("localizer")}
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    assert not baseline.model.training
    batch = tiny_faces("test", False)[Request(0)]
    with torch.inference_mode():
        parsing = baseline.model(batch)
    shares, _ = centroids(parsing.coarse_logits.softmax(dim=1), baseline.model.label_set)
    assert torch.equal(parsing.locations[..., :2], shares)


def test_pieces_of_work_are_timed_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def taking(work: Callable[[], object]) -> float:
        work()
        return 0.08 if order[-1] == "a" else 0.5

    monkeypatch.setattr(timing, "seconds", taking)
    works = {"A": lambda: order.append("a"), "B": lambda: order.append("b")}
    taken = time_in_turn(works, rounds=3)
    # A first call, one that tells how many a round; then rounds, of a four calls each.
    warm, rounds = "".join(order[:4]), "".join(order[4:])
    assert (warm, rounds) == ("aabb", "aaaabbaaaaaaaab")
    assert taken["A"] == pytest.approx([0.08] * 3)
    assert taken["B"] == pytest.approx([0.5] * 3)


def test_times_are_milliseconds_per_face(monkeypatch: pytest.MonkeyPatch, tiny_faces) -> None:
    calls: list[int] = []

    class Parser(FaceParser):
        def __init__(self) -> None:
            pass

        def parse_all(self, images, **settings):  # type: ignore[no-untyped-def, override]
            calls.append(len(images))

    def timed(
        works: dict[tuple[str, int], Work], rounds: int
    ) -> dict[tuple[str, int], list[float]]:
        for work in works.values():
            work()
        return {key: [0.08] * rounds for key in works}

    monkeypatch.setattr(timing_report, "time_in_turn", timed)
    faces = tiny_faces("train", False)
    times = time_pipelines({"a": Parser()}, [faces[Request(i)] for i in range(4)], rounds=2)
    assert calls == [1, 4]
    assert times == {("a", 1): [80.0, 80.0], ("a", 4): [20.0, 20.0]}
