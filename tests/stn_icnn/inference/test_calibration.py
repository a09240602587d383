"""Confidence is fitted on what came of scenes, and travels in the model file."""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stn_icnn.data.plan import Request
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.inference import calibration
from stn_icnn.inference.calibration import calibrate, fit_logistic
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.faces.confidence import FACE, PRESENCE, SIGNS
from stn_icnn.inference.faces.finding import FaceFinder, FoundFace
from stn_icnn.inference.faces.frame import FaceFrame
from stn_icnn.inference.scene_scores import SCENE_PX, ParsedScene, SceneFace, parse_scenes
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

PARTS = [part.name for part in PAPER9.parts]


def probabilities(weights: Sequence[float], signs: NDArray[np.float64]) -> NDArray[np.float64]:
    logits = signs @ np.array(weights[:-1]) + weights[-1]
    return 1 / (1 + np.exp(-logits))


def test_what_can_be_told_apart_is_told_apart() -> None:
    """The first number decides, at 3; the second means nothing."""
    rng = np.random.default_rng(0)
    signs = np.stack([rng.uniform(0, 6, 400), rng.normal(50, 9, 400)], axis=1)
    good = signs[:, 0] > 3
    weights = fit_logistic(list(signs), good.tolist())
    sure = probabilities(weights, signs)
    assert np.isfinite(weights).all()
    assert ((sure > 0.5) == good).mean() > 0.98
    assert sure[signs[:, 0] < 1].max() < 0.1
    assert sure[signs[:, 0] > 5].min() > 0.9


def test_calibrated_probabilities_are_those_of_noisy_data() -> None:
    rng = np.random.default_rng(1)
    signs = rng.normal((2.0, -30.0), (1.5, 8.0), (6000, 2))
    true = probabilities([1.2, -0.1, -4.0], signs)
    good = rng.random(len(true)) < true
    sure = probabilities(fit_logistic(list(signs[:3000]), good[:3000].tolist()), signs)
    assert np.abs(sure - true).mean() < 0.05  # of a decay that draws all to the middle
    held_out, came = sure[3000:], good[3000:]
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        within = (held_out >= low) & (held_out < low + 0.2)
        assert came[within].mean() == pytest.approx(held_out[within].mean(), abs=0.08)


@pytest.mark.parametrize("good", [True, False], ids=["all good", "none good"])
def test_where_all_faces_are_alike_the_fit_is_finite_and_sure(good: bool) -> None:
    signs = np.random.default_rng(2).normal(size=(50, 3))
    weights = fit_logistic(list(signs), [good] * 50)
    assert all(map(math.isfinite, weights))
    sure = probabilities(weights, signs)
    assert sure.min() > 0.95 if good else sure.max() < 0.05


def test_a_sign_that_never_changes_does_no_harm() -> None:
    rng = np.random.default_rng(3)
    signs = np.stack([rng.normal(size=300), np.full(300, 7.0)], axis=1)
    weights = fit_logistic(list(signs), (signs[:, 0] > 0).tolist())
    assert all(map(math.isfinite, weights))
    assert ((probabilities(weights, signs) > 0.5) == (signs[:, 0] > 0)).mean() > 0.97


def test_without_any_faces_the_probability_is_one_half() -> None:
    assert fit_logistic([], []) == [0.0] * (len(SIGNS) + 1)


FOUND = FoundFace(FaceFrame(SCENE_PX / 2, SCENE_PX / 2, SCENE_PX / 2, 10), 0.8)


@pytest.fixture(scope="module")
def calibrated(finding_parent: Path, tiny_faces: Callable[[str, bool], ShardedFaces]) -> Checkpoint:
    """A tiny model, calibrated where its finder takes the middle of each scene for a face."""
    faces = tiny_faces("val", False)
    batches = [faces.__getitems__([Request(i) for i in range(len(faces.samples))])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FaceFinder, "find", lambda finder, photos: [[FOUND] for _ in photos])
        return calibrate(load_checkpoint(finding_parent), batches, "cpu")


def test_all_estimates_are_fitted(calibrated: Checkpoint, finding_parent: Path) -> None:
    assert calibrated.calibration is not None
    assert list(calibrated.calibration) == [PRESENCE, FACE, *PARTS]
    assert all(len(row) == len(SIGNS) + 1 for row in calibrated.calibration.values())
    before = load_checkpoint(finding_parent)
    assert before.calibration is None
    weights = calibrated.model.state_dict()
    assert all(weights[name].equal(one) for name, one in before.model.state_dict().items())


def test_it_is_saved_loaded_and_used(
    calibrated: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An untrained model labels no face well, and says so."""
    save_checkpoint(tmp_path / "model.pt", calibrated)
    loaded = load_checkpoint(tmp_path / "model.pt")
    assert loaded.calibration == calibrated.calibration
    parser = FaceParser(loaded, "cpu")
    photo = np.random.default_rng(0).integers(0, 256, (SCENE_PX, SCENE_PX, 3), np.uint8)
    given = [250.0, 200.0, 390.0, 400.0]
    (face,) = parser.parse(photo, boxes=given).faces
    assert face.confidence is not None
    assert face.confidence < 0.3
    assert set(face.part_confidence) == set(PARTS)
    left = parser.parse(photo, boxes=given, min_confidence=0.3)
    assert (left.faces, left.left_out) == ((), 1)
    for constant, number in ((-3.0, 0), (3.0, 1)):  # whether what is found counts as a face
        presence = {PRESENCE: [0.0] * len(SIGNS) + [constant]}
        known = {**(loaded.calibration or {}), **presence}
        parser = FaceParser(replace(loaded, calibration=known), "cpu")
        monkeypatch.setattr(parser.finder, "find", lambda photos: [[FOUND] for _ in photos])
        faces = parser.parse(photo).faces
        assert [(one.score, one.frame.side) for one in faces] == [(0.8, 320)] * number


def test_faces_that_are_there_and_labelled_well_count_as_good(
    finding_parent: Path,
    tiny_faces: Callable[[str, bool], ShardedFaces],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if every face of a scene, and nothing else, were found and labelled without a fault."""
    monkeypatch.setattr(FaceFinder, "find", lambda finder, photos: [[FOUND] for _ in photos])

    def as_labelled(*arguments: object) -> Iterator[ParsedScene]:
        for scene in parse_scenes(*arguments):
            faces = [SceneFace(face.labels) for face in scene.photo.faces]
            yield replace(scene, faces=faces)

    monkeypatch.setattr(calibration, "parse_scenes", as_labelled)
    faces = tiny_faces("val", False)
    batches = [faces.__getitems__([Request(0), Request(1)])]
    fitted = calibrate(load_checkpoint(finding_parent), batches, "cpu")
    parser = FaceParser(fitted, "cpu")
    photo = np.random.default_rng(0).integers(0, 256, (SCENE_PX, SCENE_PX, 3), np.uint8)
    (face,) = parser.parse(photo, boxes=[250.0, 200.0, 390.0, 400.0]).faces
    assert face.confidence is not None
    assert face.confidence > 0.7


@pytest.mark.parametrize("kind", ["without a finder", "with an untrained one"])
def test_a_model_that_finds_no_faces_is_refused(
    kind: str, sure_parent: Path, finding_parent: Path
) -> None:
    checkpoint = load_checkpoint(sure_parent if kind == "without a finder" else finding_parent)
    if checkpoint.model.finder is not None:
        checkpoint.model.finder.num_averaged.zero_()
    with pytest.raises(ValueError, match="the model must be one with a trained finder"):
        calibrate(checkpoint, [], "cpu")


def test_models_without_a_calibration_keep_their_files(
    calibrated: Checkpoint, finding_parent: Path
) -> None:
    """Byte by byte: what was stored before there was any is what is stored now."""
    plain, back = io.BytesIO(), io.BytesIO()
    save_checkpoint(plain, load_checkpoint(finding_parent))
    save_checkpoint(back, replace(calibrated, calibration=None))
    content = torch.load(io.BytesIO(plain.getvalue()), weights_only=True)
    assert "calibration" not in content
    assert plain.getvalue() == back.getvalue()
    save_checkpoint(with_it := io.BytesIO(), calibrated)
    with_it.seek(0)
    assert set(torch.load(with_it, weights_only=True)) == {*content, "calibration"}
