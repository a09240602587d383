"""Windows against the truth: by hand, and means with their intervals."""

import math

import pytest
import torch

from stn_icnn.data.batch import Batch
from stn_icnn.label_sets import PAPER9
from stn_icnn.scoring.window_scores import MEASURES, WindowScores, score_windows, summarise_windows
from tests.samples import Sample, collate

NAMES = [part.name for part in PAPER9.parts]
NOSE, MOUTH = NAMES.index("nose"), NAMES.index("mouth")


def face() -> Batch:
    """20 x 12 px: a nose of rows 2 to 5 and columns 10 to 13; of the mouth three classes."""
    labels = torch.zeros(12, 20, dtype=torch.uint8)
    labels[2:6, 10:14] = PAPER9.class_id["nose"]
    labels[8, 4:12] = PAPER9.class_id["upper_lip"]
    labels[9, 4:12] = PAPER9.class_id["inner_mouth"]
    labels[10, 4:12] = PAPER9.class_id["lower_lip"]
    centres = torch.zeros(PAPER9.num_parts, 2)
    centres[NOSE], centres[MOUTH] = torch.tensor([12.0, 4.0]), torch.tensor([8.0, 9.5])
    present = torch.tensor([name in ("nose", "mouth") for name in NAMES])
    image = torch.zeros(3, 12, 20, dtype=torch.uint8)
    return collate([Sample("a", image, labels, centres, present)])


def windows_of(nose: tuple[float, ...], mouth: tuple[float, ...]) -> torch.Tensor:
    windows = torch.ones(1, PAPER9.num_parts, 4)
    windows[0, NOSE], windows[0, MOUTH] = torch.tensor(nose), torch.tensor(mouth)
    return windows


@pytest.mark.parametrize(
    ("nose", "share", "error"),
    [
        ((12.0, 4.0, 4.0, 4.0), 1.0, 0.0),
        ((15.0, 8.0, 4.0, 4.0), 0.0, 5.0),
        ((9.0, 4.0, 6.0, 2.0), 4 / 16, 3.0),  # columns 6 to 11, rows 3 and 4
        ((12.0, 0.0, 40.0, 8.0), 8 / 16, 4.0),  # rows up to 3, over the edges of the image
        ((11.9, 4.0, 3.0, 4.0), 12 / 16, 0.1),  # 10.4 to 13.4: the centres 10.5, 11.5, 12.5
    ],
)
def test_share_and_error_by_hand(nose: tuple[float, ...], share: float, error: float) -> None:
    scores = score_windows(windows_of(nose, (8, 9.5, 8, 3)), face(), PAPER9)
    assert scores.share_inside[0, NOSE].item() == pytest.approx(share)
    assert scores.error_px[0, NOSE].item() == pytest.approx(error, abs=1e-5)


def test_the_mouth_is_all_its_classes() -> None:
    scores = score_windows(windows_of((12, 4, 4, 4), (8.0, 9.0, 8.0, 2.0)), face(), PAPER9)
    assert scores.share_inside[0, MOUTH].item() == pytest.approx(2 / 3)
    assert scores.error_px[0, MOUTH].item() == pytest.approx(0.5)


def test_an_absent_part_has_no_score() -> None:
    scores = score_windows(windows_of((12, 4, 4, 4), (8, 9.5, 8, 3)), face(), PAPER9)
    absent = torch.tensor([name not in ("nose", "mouth") for name in NAMES])
    assert torch.equal(scores.share_inside[0].isnan(), absent)
    assert torch.equal(scores.error_px[0].isnan(), absent)


def three_faces() -> tuple[WindowScores, torch.Tensor]:
    """A nose each; a mouth in the first, whose share is just not enough."""
    share, error = (
        torch.full((3, PAPER9.num_parts), math.nan),
        torch.full((3, PAPER9.num_parts), math.nan),
    )
    share[:, NOSE], error[:, NOSE] = torch.tensor([1.0, 0.96, 0.2]), torch.tensor([0.0, 2, 10])
    share[0, MOUTH], error[0, MOUTH] = 0.94, 4.0
    return WindowScores(share, error), ~share.isnan()


def test_means_are_over_the_parts_of_the_group() -> None:
    scores, group = three_faces()
    summary = summarise_windows(scores, group, PAPER9)
    assert summary.rows == ("all", *NAMES)
    at = {row: summary.rows.index(row) for row in ("all", "nose", "mouth", "left_eye")}
    assert summary.num.tolist() == [4 if r == "all" else 3 * (r == "nose") + (r == "mouth")
                                    for r in summary.rows]  # fmt: skip
    share, found, error = (summary.mean[i] for i in range(len(MEASURES)))
    assert share[at["all"]].item() == pytest.approx((1 + 0.96 + 0.2 + 0.94) / 4)
    assert found[at["all"]].item() == pytest.approx(2 / 4)
    assert error[at["all"]].item() == pytest.approx(16 / 4)
    assert share[at["nose"]].item() == pytest.approx((1 + 0.96 + 0.2) / 3)
    assert found[at["mouth"]].item() == 0
    assert math.isnan(error[at["left_eye"]])
    group[1, NOSE] = False
    assert summarise_windows(scores, group, PAPER9).mean[2, at["nose"]].item() == pytest.approx(5)


def test_intervals_are_over_faces() -> None:
    scores, group = three_faces()
    summary = summarise_windows(scores, group, PAPER9)
    nose = summary.rows.index("nose")
    # Of 27 draws of three faces one is the last alone, one the first alone.
    assert summary.low[2, nose].item() == 0
    assert summary.high[2, nose].item() == 10
    narrow = summarise_windows(scores, group, PAPER9, level=0.01)
    assert narrow.high[2, nose] - narrow.low[2, nose] < 1
    again = summarise_windows(scores, group, PAPER9)
    assert torch.equal(again.low.nan_to_num(), summary.low.nan_to_num())
    assert bool((summary.low <= summary.mean)[~summary.mean.isnan()].all())
    assert bool((summary.mean <= summary.high)[~summary.mean.isnan()].all())


def test_a_draw_without_the_part_does_not_count() -> None:
    scores, group = three_faces()
    summary = summarise_windows(scores, group, PAPER9)
    mouth = summary.rows.index("mouth")  # in one face of three
    assert summary.low[2, mouth].item() == summary.high[2, mouth].item() == 4
