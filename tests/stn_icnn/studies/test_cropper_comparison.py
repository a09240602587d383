"""Croppers whose answers are known, on covered faces, and the picture of them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from stn_icnn.data.batch import Batch
from stn_icnn.data.plan import Request
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.checkpoint import Checkpoint
from stn_icnn.scoring.f1 import resize_labels
from stn_icnn.studies.cropper_comparison import CropperComparison, CroppingScores
from stn_icnn.studies.occlusion import choose_parts, cover_batch
from stn_icnn.studies.occlusion_examples import (
    COVERED_COLOUR,
    TILE_PX,
    CoveredFace,
    examples_picture,
)
from stn_icnn.studies.occlusion_report import GROUPS, count_whole

SEED = 3


def labelled_but_for(batch: Batch, hidden: Sequence[Sequence[int]], px: int) -> torch.Tensor:
    """What a perfect coarse network would say that sees nothing of some parts, `[N, 9, px, px]`."""
    assert batch.labels is not None
    logits = torch.zeros(len(batch), len(PAPER9.model_classes), px, px)
    for i, (width, height) in enumerate(batch.host_sizes):
        labels = resize_labels(batch.labels[i, :height, :width].cpu(), px, px)
        gone = [class_id for part in hidden[i] for class_id in PAPER9.part_classes[part]]
        labels[torch.isin(labels, torch.tensor(gone))] = 0
        for channel, class_id in enumerate(PAPER9.model_classes):
            logits[i, channel] = 10 * (labels == class_id)
    return logits.to(batch.images.device)


@pytest.fixture
def croppers(checkpoint: Checkpoint) -> CropperComparison:
    return CropperComparison(checkpoint, "STN-iCNN", num_covered=2, seed=SEED)


@pytest.fixture
def batch(tiny_faces) -> Batch:
    faces = tiny_faces("train", False)
    return faces.__getitems__([Request(i) for i in range(4)])


@pytest.fixture
def cut(
    croppers: CropperComparison, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> CroppingScores:
    """With a coarse network that lacks what is covered, and a localizer that knows better."""
    assert batch.present is not None
    assert batch.centres is not None
    present = batch.present.tolist()
    hidden = [
        choose_parts(key, present[i], croppers.num_covered, SEED)
        for i, key in enumerate(batch.keys)
    ]
    coarse_px = croppers.model.config.coarse_px
    shares = batch.centres / batch.sizes[:, None]
    log_factors = torch.full((len(batch), PAPER9.num_parts, 1), 0.5)
    locations = torch.cat([shares, log_factors], dim=-1)
    monkeypatch.setattr(
        croppers.model, "label_coarsely", lambda b: labelled_but_for(b, hidden, coarse_px)
    )
    monkeypatch.setattr(croppers.model, "locate", lambda logits: locations.to(logits.device))
    return croppers.score(batch)


def test_the_networks_see_the_covered_faces(
    croppers: CropperComparison, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Batch] = []
    label_coarsely = croppers.model.label_coarsely
    monkeypatch.setattr(
        croppers.model, "label_coarsely", lambda b: seen.append(b) or label_coarsely(b)
    )
    croppers.score(batch)
    covered, _ = cover_batch(batch, croppers.num_covered, SEED, label_set=PAPER9)
    assert not covered.images.equal(batch.images)
    assert seen[0].images.cpu().equal(covered.images)


def test_the_localizer_finds_what_the_centroids_cannot(cut: CroppingScores, batch: Batch) -> None:
    covered, others = cut.groups["covered"], cut.groups["not_covered"]
    assert covered.sum(dim=1).tolist() == [2] * 4
    assert torch.equal(cut.groups["covered_missing"], covered)
    assert torch.equal(covered ^ others, cut.present)
    assert batch.centres is not None
    from_centre = (batch.centres - batch.sizes[:, None] / 2).norm(dim=-1)
    error = cut.scores["iCNN"].error_px
    torch.testing.assert_close(error[covered], from_centre[covered])
    seen = others & ~cut.missing  # the thinnest fall between the coarse pixels
    assert seen.sum() > others.sum() / 2
    assert error[seen].max() < 4  # a coarse pixel is that large
    for name in ("STN-iCNN", "STN-iCNN, set size"):
        assert cut.scores[name].error_px[cut.present].max() < 1e-3
    assert (cut.scores["iCNN"].share_inside[covered] < 0.5).any()
    assert cut.scores["STN-iCNN"].share_inside[cut.present].min() > 0.95


def test_parts_are_counted_by_who_cuts_them_whole(cut: CroppingScores) -> None:
    covered = cut.groups["covered"]
    for name, shares in (("iCNN", [1, 0.95, 0.9, 0.1]), ("STN-iCNN", [1, 0.5, 0.96, 0.99])):
        scores = cut.scores[name].share_inside
        scores[covered] = torch.tensor([*shares, 0.97, 0.97, 0.97, 0.97])
        scores[~covered] = 0
    assert count_whole(cut, ("iCNN", "STN-iCNN")) == {
        "both": 5,
        "iCNN alone": 1,
        "STN-iCNN alone": 2,
        "neither": 0,
    }


def test_the_control_looks_at_nothing(cut: CroppingScores, batch: Batch) -> None:
    assert batch.centres is not None
    average = torch.tensor([part.centre for part in PAPER9.parts])
    off = (batch.centres - average * batch.sizes[:, None]).norm(dim=-1)
    error = cut.scores["average face"].error_px
    torch.testing.assert_close(error[cut.present], off[cut.present])


def test_a_part_that_is_not_there_is_in_no_group(cut: CroppingScores) -> None:
    gone = cut.present.clone()
    gone[1] = False
    without = replace(cut, present=gone)
    for group in GROUPS:
        assert not bool(without.groups[group][1].any())
        assert torch.equal(without.groups[group][[0, 2, 3]], cut.groups[group][[0, 2, 3]])


def test_each_croppers_windows_have_their_size(
    cut: CroppingScores, croppers: CropperComparison
) -> None:
    side = torch.tensor(PAPER9.per_part(croppers.model.config.window_px)).float().expand(4, 6)
    torch.testing.assert_close(cut.sides_px["iCNN"], side)
    torch.testing.assert_close(cut.sides_px["STN-iCNN, set size"], side)
    torch.testing.assert_close(cut.sides_px["STN-iCNN"], side * np.exp(0.5))


def test_batches_are_joined_in_order(cut: CroppingScores) -> None:
    two = CroppingScores.joined([cut, cut])
    assert two.keys == cut.keys * 2
    assert torch.equal(two.groups["covered"][4:], cut.groups["covered"])
    assert two.scores["iCNN"].error_px.shape == (8, 6)
    assert torch.equal(two.sides_px["STN-iCNN"][4:], cut.sides_px["STN-iCNN"])


def test_a_column_a_face_and_a_frame_a_covered_part() -> None:
    photo = torch.full((3, 200, 300), 90, dtype=torch.uint8)
    windows = torch.tensor([[150.0, 100.0, 50.0, 50.0]]).repeat(PAPER9.num_parts, 1)
    covered = [part.name in ("left_eye", "mouth") for part in PAPER9.parts]
    rough = torch.zeros(200, 300, dtype=torch.uint8)
    by_cropper = {"iCNN": windows, "STN-iCNN": windows}
    example = CoveredFace(photo, photo, rough, covered, by_cropper, PAPER9)
    picture = examples_picture([example, example], ("iCNN", "STN-iCNN"))
    in_red = (picture == COVERED_COLOUR).all(axis=2).sum()
    frame = TILE_PX**2 - (TILE_PX - 6) ** 2
    assert in_red == 2 * 2 * 2 * frame  # parts, croppers, faces
