import pytest
import torch
from torch import Tensor

from stn_icnn.label_sets import PAPER9
from stn_icnn.scoring.f1 import (
    bootstrap_interval,
    confusion,
    f1_rows,
    f1_tensors,
    label_histogram,
    mean_label_map,
    resize_labels,
)

LEFT_EYE, RIGHT_EYE = PAPER9.class_id["left_eye"], PAPER9.class_id["right_eye"]
NOSE, SKIN, HAIR = PAPER9.class_id["nose"], PAPER9.class_id["skin"], PAPER9.class_id["hair"]


def counts_of(*cells: tuple[int, int, int]) -> Tensor:
    """Counts from (truth, predicted, pixels)."""
    counts = torch.zeros(PAPER9.num_classes, PAPER9.num_classes, dtype=torch.int64)
    for truth, predicted, pixels in cells:
        counts[truth, predicted] = pixels
    return counts


def random_counts(num_images: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (num_images, PAPER9.num_classes, PAPER9.num_classes)
    confused = torch.randint(0, 20, shape, generator=generator)
    right = torch.randint(50, 900, shape[:2], generator=generator)
    return confused + torch.diag_embed(right)


def test_confusion_has_truth_in_rows_and_prediction_in_columns() -> None:
    truth = torch.tensor([[6, 6, 6], [0, 10, 2]], dtype=torch.uint8)
    predicted = torch.tensor([[6, 6, 0], [4, 0, 2]], dtype=torch.uint8)

    counts = confusion(truth, predicted, PAPER9.num_classes)

    assert counts.dtype == torch.int64
    expected = counts_of((6, 6, 2), (6, 0, 1), (0, 4, 1), (10, 0, 1), (2, 2, 1))
    assert torch.equal(counts, expected)


def test_confusion_of_a_batch_is_the_sum_of_its_images() -> None:
    generator = torch.Generator().manual_seed(0)
    truth, predicted = (
        torch.randint(0, PAPER9.num_classes, (3, 7, 5), generator=generator).to(torch.uint8)
        for _ in range(2)
    )

    of_images = [confusion(t, p, PAPER9.num_classes) for t, p in zip(truth, predicted, strict=True)]

    assert torch.equal(
        confusion(truth, predicted, PAPER9.num_classes), torch.stack(of_images).sum(dim=0)
    )
    # A permuted view is not contiguous.
    assert torch.equal(
        confusion(truth.mT, predicted.mT, PAPER9.num_classes),
        confusion(truth, predicted, PAPER9.num_classes),
    )


def test_confusion_refuses_what_it_cannot_count() -> None:
    labels = torch.zeros(4, 6, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"one shape, got \[4, 6\] and \[6, 4\]"):
        confusion(labels, labels.T, PAPER9.num_classes)
    with pytest.raises(ValueError, match=r"predicted must be uint8 class ids, got torch\.int64"):
        confusion(labels, labels.long(), PAPER9.num_classes)
    with pytest.raises(ValueError, match="truth must hold class ids below 11, got 12"):
        confusion(labels + 12, labels, PAPER9.num_classes)


def test_f1_by_hand() -> None:
    # Nose: 30 right, 10 missed, 20 false: 2 * 30 / (40 + 50). Eye: 5 right, 5 missed, 0 false.
    counts = counts_of((6, 6, 30), (6, 0, 10), (0, 6, 20), (4, 4, 5), (4, 0, 5), (0, 0, 900))

    rows = f1_rows(counts, PAPER9)

    assert rows["nose"] == pytest.approx(60 / 90)
    assert rows["eyes"] == pytest.approx(10 / 15)
    assert rows["overall"] == pytest.approx(2 * 35 / (50 + 55))
    assert rows["mean"] == pytest.approx((60 / 90 + 10 / 15) / 2)


def test_rows_are_those_of_the_tables_and_mean() -> None:
    assert list(f1_rows(random_counts(1)[0], PAPER9)) == [*PAPER9.f1_rows, "mean"]


def test_confusion_inside_a_set_costs_nothing() -> None:
    swapped = counts_of((LEFT_EYE, RIGHT_EYE, 7), (RIGHT_EYE, LEFT_EYE, 3), (0, 0, 50))
    rows = f1_rows(swapped, PAPER9)
    assert rows["eyes"] == 1.0
    assert rows["overall"] == 1.0
    assert rows["mean"] == 0.0

    as_nose = counts_of((LEFT_EYE, NOSE, 4), (LEFT_EYE, LEFT_EYE, 6))
    rows = f1_rows(as_nose, PAPER9)
    assert rows["eyes"] == pytest.approx(12 / 16)
    assert rows["overall"] == 1.0


def test_skin_and_hair_taken_for_a_part_cost_precision() -> None:
    rows = f1_rows(
        counts_of((NOSE, NOSE, 10), (SKIN, NOSE, 6), (HAIR, NOSE, 4), (SKIN, 0, 70)), PAPER9
    )
    assert rows["nose"] == pytest.approx(20 / 30)
    assert rows["overall"] == pytest.approx(20 / 30)


def test_absent_class_is_none_and_left_out_of_the_mean() -> None:
    rows = f1_rows(counts_of((NOSE, NOSE, 8), (NOSE, 0, 4), (0, 0, 9)), PAPER9)
    assert rows["eyes"] is None
    assert rows["mouth"] is None
    assert rows["mean"] == rows["nose"] == rows["overall"] == pytest.approx(16 / 20)
    assert set(f1_rows(counts_of((0, 0, 9)), PAPER9).values()) == {None}


def test_missed_class_is_zero_not_none() -> None:
    rows = f1_rows(counts_of((NOSE, 0, 8), (0, 0, 9), (LEFT_EYE, LEFT_EYE, 2)), PAPER9)
    assert rows["nose"] == 0.0
    assert rows["mean"] == 0.5


def test_skin_is_none_for_a_model_without_it() -> None:
    counts = counts_of((SKIN, SKIN, 30), (SKIN, 0, 10), (NOSE, NOSE, 5))
    assert f1_rows(counts, PAPER9)["skin"] is None
    every_class = PAPER9.labelling(PAPER9.class_names)
    assert f1_rows(counts, every_class)["skin"] == pytest.approx(60 / 70)
    without_nose = PAPER9.labelling([name for name in PAPER9.class_names if name != "nose"])
    assert f1_rows(counts, without_nose)["nose"] is None


def test_f1_of_summed_counts_is_not_the_mean_of_f1() -> None:
    small = counts_of((NOSE, NOSE, 1), (NOSE, 0, 3))
    large = counts_of((NOSE, NOSE, 90), (0, NOSE, 10))

    whole = f1_rows(small + large, PAPER9)["nose"]

    assert whole == pytest.approx(182 / (94 + 101))
    f1_small, f1_large = f1_rows(small, PAPER9)["nose"], f1_rows(large, PAPER9)["nose"]
    assert f1_small is not None
    assert f1_large is not None
    assert whole != pytest.approx((f1_small + f1_large) / 2, abs=0.1)
    with pytest.raises(ValueError, match=r"got \[2, 11, 11\]: sum over the images first"):
        f1_rows(torch.stack([small, large]), PAPER9)


def test_many_matrices_at_once_equal_one_at_a_time() -> None:
    counts = random_counts(3)
    counts[1, NOSE, :] = counts[1, :, NOSE] = 0

    at_once = f1_tensors(counts, PAPER9)

    for i in range(3):
        for row, value in f1_rows(counts[i], PAPER9).items():
            if value is None:
                assert at_once[row][i].isnan()
            else:
                assert float(at_once[row][i]) == value


@pytest.mark.parametrize("row", ["overall", "eyes"])
def test_bootstrap_contains_the_point_and_is_deterministic(row: str) -> None:
    counts = random_counts(40)
    point = f1_rows(counts.sum(dim=0), PAPER9)[row]
    assert point is not None

    low, high = bootstrap_interval(counts, PAPER9, row=row)

    assert low < point < high
    assert bootstrap_interval(counts, PAPER9, row=row) == (low, high)
    assert bootstrap_interval(counts, PAPER9, row=row, seed=1) != (low, high)


def test_bootstrap_narrows_with_more_images_and_a_lower_level() -> None:
    few, many = (
        bootstrap_interval(random_counts(20), PAPER9),
        bootstrap_interval(random_counts(500), PAPER9),
    )
    half = bootstrap_interval(random_counts(20), PAPER9, level=0.5)

    assert many[1] - many[0] < (few[1] - few[0]) / 3
    assert few[0] < half[0] < half[1] < few[1]


def test_bootstrap_draws_images_with_replacement() -> None:
    # Of two images, a quarter of the test sets hold only the first, a quarter only the second.
    right = counts_of((NOSE, NOSE, 10))
    wrong = counts_of((NOSE, 0, 10))
    both = torch.stack([right, wrong])
    assert bootstrap_interval(both, PAPER9) == (0.0, 1.0)
    assert bootstrap_interval(both, PAPER9, level=0.4) == pytest.approx((2 / 3, 2 / 3))
    assert bootstrap_interval(right[None], PAPER9) == (1.0, 1.0)


def test_bootstrap_refuses_what_has_no_interval() -> None:
    with pytest.raises(ValueError, match=r"row must be one of eyes, .*, got 'hair'"):
        bootstrap_interval(random_counts(2), PAPER9, row="hair")
    with pytest.raises(ValueError, match="at least one image"):
        bootstrap_interval(random_counts(0), PAPER9)
    with pytest.raises(ValueError, match="row 'nose' is undefined"):
        bootstrap_interval(counts_of((0, 0, 5))[None], PAPER9, row="nose")


def test_resize_labels_takes_the_pixel_under_the_centre() -> None:
    labels = torch.tensor([[0, 1, 2, 3, 4, 5]], dtype=torch.uint8)
    assert resize_labels(labels, 1, 3).tolist() == [[1, 3, 5]]
    assert resize_labels(labels[:, :2], 2, 5).tolist() == [[0, 0, 1, 1, 1]] * 2
    assert resize_labels(labels, 1, 6).tolist() == labels.tolist()


def test_mean_label_map_is_the_majority_at_each_place_whatever_the_sizes() -> None:
    top_nose = torch.zeros(4, 8, dtype=torch.uint8)
    top_nose[:2] = NOSE
    left_eye = torch.zeros(6, 2, dtype=torch.uint8)
    left_eye[:, 0] = LEFT_EYE
    also_nose = torch.zeros(10, 10, dtype=torch.uint8)
    also_nose[:5, 5:] = NOSE
    also_nose[:, :5] = LEFT_EYE

    histogram = torch.stack(
        [label_histogram(x, 2, PAPER9.num_classes) for x in (top_nose, left_eye, also_nose)]
    ).sum(0)

    assert histogram.shape == (PAPER9.num_classes, 2, 2)
    mean = mean_label_map(histogram, PAPER9.model_classes)
    assert mean.dtype == torch.uint8
    assert mean.tolist() == [[LEFT_EYE, NOSE], [LEFT_EYE, 0]]
    assert resize_labels(mean, 2, 4).tolist() == [
        [LEFT_EYE] * 2 + [NOSE] * 2,
        [LEFT_EYE] * 2 + [0] * 2,
    ]


def test_mean_label_map_counts_skin_and_hair_as_background() -> None:
    votes = torch.zeros(PAPER9.num_classes, 1, 1, dtype=torch.int64)
    votes[[0, SKIN, HAIR, NOSE], 0, 0] = torch.tensor([1, 2, 1, 3])
    before = votes.clone()
    assert mean_label_map(votes, PAPER9.model_classes).item() == 0
    assert mean_label_map(votes, range(PAPER9.num_classes)).item() == NOSE
    assert torch.equal(votes, before)
