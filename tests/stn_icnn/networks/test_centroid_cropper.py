"""The baseline's cropper: centroids by hand, and a model that has it in the localizer's place."""

from dataclasses import replace

import pytest
import torch

from stn_icnn.config import TrainConfig
from stn_icnn.data.plan import Request
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.centroid_cropper import CentroidCropper, centroids
from stn_icnn.networks.model import build_model

HEIGHT, WIDTH = 8, 16
PART = {part.name: i for i, part in enumerate(PAPER9.parts)}


def probs_of(**places: tuple[slice, slice]) -> torch.Tensor:
    """`[1, 9, 8, 16]`: sure of each class in its rows and columns, of background elsewhere."""
    probs = torch.full((1, len(PAPER9.model_classes), HEIGHT, WIDTH), 0.01)
    probs[:, 0] = 0.5
    for name, (rows, columns) in places.items():
        probs[0, PAPER9.model_classes.index(PAPER9.class_id[name]), rows, columns] = 0.6
    return probs


def test_a_centroid_is_the_mean_of_pixel_centres_as_shares_of_the_map() -> None:
    shares, present = centroids(probs_of(nose=(slice(1, 3), slice(9, 14))), PAPER9)
    # Rows 1 and 2, columns 9 to 13: the mean pixel's centre is at (11.5, 2).
    assert shares[0, PART["nose"]].tolist() == pytest.approx([11.5 / WIDTH, 2 / HEIGHT])
    assert present[0].tolist() == [part.name == "nose" for part in PAPER9.parts]


def test_every_pixel_counts_alike() -> None:
    probs = probs_of(nose=(slice(0, 1), slice(0, 3)))
    probs[0, PAPER9.model_classes.index(PAPER9.class_id["nose"]), 7, 15] = (
        0.51  # by a hair, yet the likeliest
    )
    shares, _ = centroids(probs, PAPER9)
    x, y = (0.5 + 1.5 + 2.5 + 15.5) / 4, (3 * 0.5 + 7.5) / 4
    assert shares[0, PART["nose"]].tolist() == pytest.approx([x / WIDTH, y / HEIGHT])


def test_each_channel_is_its_own_part() -> None:
    """Left is the subject's: its brow and eye lie on the right of the map."""
    found = {
        "left_brow": (slice(1, 2), slice(10, 14)),
        "right_brow": (slice(1, 2), slice(2, 5)),
        "left_eye": (slice(3, 4), slice(11, 13)),
        "right_eye": (slice(3, 4), slice(3, 4)),
    }
    shares, present = centroids(probs_of(**found), PAPER9)
    assert present[0].tolist() == [True, True, True, True, False, False]
    for name, x, y in (
        ("left_brow", 12, 1.5),
        ("right_brow", 3.5, 1.5),
        ("left_eye", 12, 3.5),
        ("right_eye", 3.5, 3.5),
    ):
        assert shares[0, PART[name]].tolist() == pytest.approx([x / WIDTH, y / HEIGHT]), name


def test_the_mouth_is_all_its_classes_together() -> None:
    """Not the mean of three centroids: the lower lip has four times the upper one's pixels."""
    shares, _ = centroids(
        probs_of(
            upper_lip=(slice(4, 5), slice(6, 8)),
            inner_mouth=(slice(5, 6), slice(6, 10)),
            lower_lip=(slice(6, 8), slice(6, 10)),
        ),
        PAPER9,
    )
    x = (2 * 7 + 4 * 8 + 8 * 8) / 14
    y = (2 * 4.5 + 4 * 5.5 + 8 * 7) / 14
    assert shares[0, PART["mouth"]].tolist() == pytest.approx([x / WIDTH, y / HEIGHT])


def test_an_absent_part_is_cut_at_the_centre() -> None:
    shares, present = centroids(probs_of(), PAPER9)
    assert not present.any()
    assert torch.equal(shares, torch.full((1, 6, 2), 0.5))


def test_it_answers_as_the_localizer_does() -> None:
    probs = torch.cat([probs_of(), probs_of(nose=(slice(0, 2), slice(0, 2)))])
    locations = CentroidCropper(PAPER9)(probs)
    assert locations.shape == (2, 6, 3)
    assert locations.dtype == torch.float32
    assert locations[1, PART["nose"]].tolist() == pytest.approx([1 / WIDTH, 1 / HEIGHT, 0])
    assert torch.equal(locations[..., 2], torch.zeros(2, 6))


def test_the_baseline_has_no_localizer_and_parses(tiny_config: TrainConfig, tiny_faces) -> None:
    torch.manual_seed(0)
    model = build_model(replace(tiny_config.model, cropper="centroid")).eval()
    assert not list(model.localizer.parameters())
    assert not any(name.startswith("localizer") for name in model.state_dict())
    faces = tiny_faces("test", False)
    batch = faces.__getitems__([Request(i) for i in range(2)])
    with torch.inference_mode():
        parsing = model(batch)
    shares, _ = centroids(parsing.coarse_logits.softmax(dim=1), PAPER9)
    assert torch.equal(parsing.windows[..., :2], shares * batch.sizes[:, None])
    side = torch.tensor(PAPER9.per_part(tiny_config.model.window_px), dtype=torch.float32)
    assert torch.equal(parsing.windows[..., 2:], side[None, :, None].expand(2, 6, 2))
    assert parsing.part_logits["mouth"].shape == (2, 1, 4, 25, 25)
