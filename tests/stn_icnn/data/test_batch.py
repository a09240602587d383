"""A batch: faces of several sizes on one canvas, and where their parts are in the frame seen."""

from dataclasses import replace
from operator import itemgetter

import torch

from stn_icnn.config import AugmentConfig
from stn_icnn.data.augmentation import Augmentation, draw
from stn_icnn.data.batch import Batch, stack_photos
from stn_icnn.label_sets import PAPER9
from tests.samples import Sample, collate


def sample(key: str, width: int, height: int, value: int) -> Sample:
    """A plain face all of one value, its parts ten pixels apart, the nose absent."""
    return Sample(
        key=key,
        image=torch.full((3, height, width), value, dtype=torch.uint8),
        labels=torch.full((height, width), value % 11, dtype=torch.uint8),
        centres=torch.tensor([[10.0 * i, 5.0] for i in range(1, 7)]),
        present=torch.tensor([True, True, True, True, False, True]),
    )


def unmoved() -> Augmentation:
    return draw(
        AugmentConfig(operations=False),
        PAPER9,
        [(100, 50)],
        [0],
        [[0]],
    ).map(itemgetter(0))


def seen_through(affine: list[list[float]], mirrored: bool = False) -> Batch:
    """One face of 100 x 50 px."""
    augmentation = replace(
        unmoved(), affine=torch.tensor(affine).float(), mirrored=torch.tensor(mirrored)
    )
    return collate([replace(sample("a", 100, 50, 7), augmentation=augmentation)])


def test_faces_lie_at_the_top_left_of_a_canvas_as_large_as_the_largest():
    batch = collate([sample("wide", 7, 3, 200), sample("high", 4, 6, 100)])
    assert batch.keys == ("wide", "high")
    assert len(batch) == 2
    assert batch.images.shape == (2, 3, 6, 7)
    assert batch.canvas_size.tolist() == [7, 6]
    assert batch.sizes.tolist() == [[7, 3], [4, 6]]
    for i, (width, height, value) in enumerate([(7, 3, 200), (4, 6, 100)]):
        canvas, labels = batch.images[i], batch.labels[i]
        assert (canvas[:, :height, :width] == value).all()
        assert canvas.sum() == 3 * width * height * value
        assert (labels[:height, :width] == value % 11).all()
        assert labels.sum() == width * height * (value % 11)


def test_photographs_without_truth_make_a_batch_without_truth():
    photo = torch.zeros(3, 4, 4, dtype=torch.uint8)
    batch = stack_photos([photo, photo])
    assert len(batch) == 2
    assert batch.labels is None
    assert batch.centres is None
    assert batch.affine is None


def test_an_image_is_reduced_without_its_canvas():
    """As it would be alone: the canvas of a larger neighbour does not bleed into it."""
    small, large = sample("a", 40, 30, 200), sample("b", 60, 50, 100)
    reduced = collate([small, large]).reduced(8)
    assert reduced.shape == (2, 3, 16, 16)
    assert (reduced[0] == 200).all()
    assert torch.equal(reduced[:1], collate([small]).reduced(8))


def test_centres_are_shares_of_each_image_s_own_size():
    batch = collate([sample("a", 100, 50, 7), sample("b", 200, 10, 7)])
    centres, present = batch.target_centres()
    assert torch.allclose(centres[0, :, 0], torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))
    assert torch.allclose(centres[1, :, 0], torch.tensor([0.05, 0.1, 0.15, 0.2, 0.25, 0.3]))
    assert torch.allclose(centres[:, :, 1], torch.tensor([[0.1], [0.5]]).expand(2, 6))
    assert present.tolist() == [[True, True, True, True, False, True]] * 2


def test_centres_are_where_the_augmented_frame_shows_them():
    """The frame's (x, y) shows the image's (x / 2 + 5, y - 5): parts appear at 2 (x - 5), y + 5."""
    centres, present = seen_through([[0.5, 0, 5], [0, 1, -5]]).target_centres()
    assert torch.allclose(centres[0, :4, 0], torch.tensor([0.1, 0.3, 0.5, 0.7]))
    assert torch.allclose(centres[0, :, 1], torch.tensor(0.2))
    assert present[0, :4].all()


def test_a_part_whose_centre_leaves_the_frame_does_not_count():
    _, present = seen_through([[1, 0, 25], [0, 1, 0]]).target_centres()  # 25 px to the left
    assert present.tolist() == [[False, False, True, True, False, True]]
    _, present = seen_through([[1, 0, -65], [0, 1, 0]]).target_centres()  # 65 px to the right
    assert present.tolist() == [[True, True, True, False, False, False]]
    _, present = seen_through([[1, 0, 0], [0, 1, 6]]).target_centres()  # 6 px up
    assert not present.any()


def test_in_a_mirrored_image_left_and_right_parts_change_places():
    """The image's left brow, at x = 10, is seen at x = 90 and is now a right brow."""
    face = seen_through([[-1, 0, 100], [0, 1, 0]], mirrored=True)
    face.present[0, 0] = False  # the left brow is not there: the mirrored face lacks the right one
    centres, present = face.target_centres()
    assert torch.allclose(centres[0, :, 0], torch.tensor([0.8, 0.9, 0.6, 0.7, 0.5, 0.4]))
    assert present.tolist() == [[True, False, True, True, False, True]]
