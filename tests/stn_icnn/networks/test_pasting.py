"""Label maps: parts pasted where their windows lie, as the paper's equations have them."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stn_icnn.config import TrainConfig
from stn_icnn.data.plan import Request
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.label_sets import HELEN11, PAPER9
from stn_icnn.labels import LabelSet
from stn_icnn.networks.model import Parsing, build_model
from stn_icnn.networks.pasting import (
    coarse_label_maps,
    label_map,
    label_maps,
    label_probabilities,
    place_patches,
)
from stn_icnn.scoring.confusion import parse_batch, parse_batch_coarsely


def parsing_with(
    part_logits: dict[str, Tensor],
    windows: Tensor,
    coarse_logits: Tensor | None = None,
    label_set: LabelSet = PAPER9,
) -> Parsing:
    """A face of 60 x 50 px."""
    coarse = torch.zeros(0) if coarse_logits is None else coarse_logits
    sizes = torch.tensor([[60.0, 50.0]]).expand(len(windows), 2)
    return Parsing(coarse, torch.zeros(0), windows, sizes, {}, part_logits, label_set)


def confident(network: str, channel: int, px: int = 9) -> Tensor:
    """`[1, P, C, px, px]` logits that are sure of one channel for the network's first part."""
    parts = PAPER9.parts_of_network[network]
    logits = torch.zeros(1, len(parts), 1 + len(PAPER9.part_classes[parts[0]]), px, px)
    logits[:, :, 0] = 20
    logits[:, 0, 0] = 0
    logits[:, 0, channel] = 20
    return logits


def test_parts_are_pasted_where_their_windows_lie() -> None:
    windows = torch.zeros(1, 6, 4)
    windows[0, :, :] = torch.tensor([5.0, 5.0, 4.0, 4.0])
    windows[0, 4] = torch.tensor([30.0, 20.0, 10.0, 8.0])
    windows[0, 5] = torch.tensor([31.0, 40.0, 12.0, 6.0])
    parsing = parsing_with({"nose": confident("nose", 1), "mouth": confident("mouth", 2)}, windows)
    labels = label_maps(parsing, [(60, 50)])[0]
    assert bool((labels[16:24, 25:35] == PAPER9.class_id["nose"]).all())
    assert bool((labels[37:43, 25:37] == PAPER9.class_id["inner_mouth"]).all())
    assert int((labels != 0).sum()) == 8 * 10 + 6 * 12


def test_overlapping_parts_are_resolved_by_the_surer() -> None:
    windows = torch.full((1, 6, 4), 20.0)
    nose = torch.zeros(1, 1, 2, 9, 9)
    nose[:, :, 1] = 1.0
    mouth = torch.zeros(1, 1, 4, 9, 9)
    mouth[:, :, 3] = 6.0
    parsing = parsing_with({"nose": nose, "mouth": mouth}, windows)
    (labels,) = label_maps(parsing, [(40, 40)])
    assert labels[20, 20] == PAPER9.class_id["lower_lip"]


def test_label_map_at_twice_the_size_lies_on_the_same_face() -> None:
    windows = torch.full((1, 6, 4), 5.0)
    windows[0, 4] = torch.tensor([30.0, 20.0, 10.0, 8.0])
    parsing = parsing_with({"nose": confident("nose", 1)}, windows)
    twice = label_maps(parsing, [(120, 100)], [2.0])[0]
    assert torch.equal(twice[::2, ::2], label_maps(parsing, [(60, 50)])[0])


def test_label_maps_have_the_images_sizes_and_the_models_classes(
    tiny_config: TrainConfig, tiny_faces: Callable[..., ShardedFaces]
) -> None:
    torch.manual_seed(0)
    model, faces = build_model(tiny_config.model), tiny_faces("train")
    batch = faces.__getitems__([Request(i) for i in range(3)])
    for maps in (parse_batch(model, batch), parse_batch_coarsely(model, batch)):
        for labels, (width, height) in zip(maps, batch.host_sizes, strict=True):
            assert labels.dtype == torch.uint8
            assert labels.shape == (height, width)
            assert set(labels.unique().tolist()) <= set(PAPER9.model_classes)


def equations_5_and_6(parsing: Parsing, index: int, size: tuple[int, int], scale: float) -> Tensor:
    """As printed: whole maps for every part, their product, argmax; `[H, W]` int64."""
    width, height = size
    x = torch.arange(width) + 0.5
    y = torch.arange(height) + 0.5
    background = torch.ones(height, width)
    probs = torch.zeros(len(PAPER9.model_classes), height, width)
    for name, logits in parsing.part_logits.items():
        for place, part in enumerate(PAPER9.parts_of_network[name]):
            cx, cy, w, h = (parsing.windows[index, part] * scale).tolist()
            u, v = (x - cx) * (2 / w), (y - cy) * (2 / h)
            inside = (u.abs() <= 1)[None] & (v.abs() <= 1)[:, None]
            grid = torch.stack(torch.meshgrid(u, v, indexing="xy"), dim=-1)[None]
            patch = logits[index, place].softmax(dim=0)[None]
            pasted = F.grid_sample(patch, grid, padding_mode="border", align_corners=False)[0]
            background *= torch.where(inside, pasted[0], 1.0)
            for channel, class_id in enumerate(PAPER9.part_classes[part], start=1):
                probs[PAPER9.model_classes.index(class_id)] = torch.where(
                    inside, pasted[channel], 0.0
                )
    probs[0] = background
    return torch.tensor(PAPER9.model_classes)[probs.argmax(dim=0)]


@pytest.mark.parametrize("scale", [1.0, 2.3])
def test_label_maps_are_those_of_the_printed_equations(scale: float) -> None:
    """Windows of all sizes that overlap, hang over the border, or lie beside the image."""
    generator = torch.Generator().manual_seed(1)
    windows = 60 * torch.rand(8, 6, 4, generator=generator) + torch.tensor([-5.0, -5.0, 4.0, 4.0])
    windows[0, 2] = torch.tensor([-40.0, 20.0, 20.0, 20.0])
    logits = {
        name: 3 * torch.randn(8, len(parts), 1 + len(PAPER9.part_classes[parts[0]]), 9, 9)
        for name, parts in PAPER9.parts_of_network.items()
    }
    parsing = parsing_with(logits, windows)
    size = (round(60 * scale), round(50 * scale))
    different = 0
    for i, labels in enumerate(label_maps(parsing, [size] * 8, [scale] * 8)):
        assert len(labels.unique()) > 5
        different += int((labels != equations_5_and_6(parsing, i, size, scale)).sum())
    assert different <= 2  # where two classes are alike but for rounding


def test_a_face_whose_windows_all_lie_beside_it_is_background() -> None:
    windows = torch.full((1, 6, 4), 9.0)
    windows[..., 0] = 300.0
    parsing = parsing_with({"nose": confident("nose", 1)}, windows)
    assert not label_maps(parsing, [(60, 50)])[0].any()


def test_coarse_label_maps_are_the_likeliest_class_of_the_enlarged_probabilities() -> None:
    logits = 3 * torch.randn(2, 9, 16, 16, generator=torch.Generator().manual_seed(0))
    sizes = [(40, 30), (16, 64)]
    for face, size, labels in zip(
        logits, sizes, coarse_label_maps(logits, sizes, PAPER9), strict=True
    ):
        enlarged = F.interpolate(face.softmax(dim=0)[None], size=size[::-1], mode="bilinear")
        assert torch.equal(labels, torch.tensor(PAPER9.model_classes)[enlarged[0].argmax(dim=0)])


def random_parsing(seed: int = 1) -> Parsing:
    """A face whose windows overlap, about (30, 25), and whose labels are of all classes."""
    generator = torch.Generator().manual_seed(seed)
    windows = 30 * torch.rand(1, 6, 4, generator=generator) + torch.tensor([15.0, 10.0, 9.0, 9.0])
    logits = {
        name: 3 * torch.randn(1, len(parts), 1 + len(PAPER9.part_classes[parts[0]]), 9, 9)
        for name, parts in PAPER9.parts_of_network.items()
    }
    return parsing_with(logits, windows)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_face_turned_by_quarters_has_its_labels_turned(quarters: int) -> None:
    """A square of 60 px, turned clockwise as seen, the photograph's origin staying its own."""
    parsing = random_parsing()
    (upright,) = label_maps(parsing, [(60, 60)])
    cosine, sine = [(0, 1), (-1, 0), (0, -1)][quarters - 1]
    x, y = (30 - (cosine * 30 - sine * 30), 30 - (sine * 30 + cosine * 30))
    (turned,) = place_patches(parsing, [((cosine, -sine, x), (sine, cosine, y))])
    labels = label_map([turned], (60, 60))
    assert len(labels.unique()) > 5
    expected = torch.rot90(upright, -quarters)
    assert int((labels != expected).sum()) <= 4  # at windows' edges, where rounding decides


def test_a_turned_and_enlarged_face_is_labelled_where_its_map_leads() -> None:
    parsing = random_parsing()
    (a, b, x, y) = (2.4, 1.1, 50.0, 10.0)
    (placed,) = place_patches(parsing, [((a, -b, x), (b, a, y))])
    labels = label_map([placed], (160, 190))
    (upright,) = label_maps(parsing, [(600, 500)], [10.0])
    rows, columns = torch.meshgrid(torch.arange(190) + 0.5, torch.arange(160) + 0.5, indexing="ij")
    u, v = columns - x, rows - y
    at = torch.stack([a * u + b * v, a * v - b * u]) / (a * a + b * b) * 10
    inside = ((at > 0) & (at < torch.tensor([600.0, 500.0])[:, None, None])).all(dim=0)
    expected = upright[at[1].long().clamp(0, 499), at[0].long().clamp(0, 599)] * inside
    assert (labels > 0).sum() > 2000
    assert (labels != expected).float().mean() < 0.01


def test_where_faces_overlap_the_surer_keeps_its_pixels() -> None:
    first, second = (place_patches(random_parsing(seed))[0] for seed in (1, 2))
    alone, other = (label_map([face], (60, 50)) for face in (first, second))
    both = label_map([first, second], (60, 50))
    assert torch.equal(both, torch.where(alone > 0, alone, other))
    assert bool(((alone > 0) & (other > 0) & (alone != other)).any())


def test_the_most_probable_class_is_the_label_and_probabilities_add_up_to_one() -> None:
    faces = [place_patches(random_parsing(seed))[0] for seed in (1, 2)]
    probs = label_probabilities(faces, (60, 50))
    assert probs.shape == (PAPER9.num_classes, 50, 60)
    assert torch.equal(probs.argmax(dim=0).byte(), label_map(faces, (60, 50)))
    torch.testing.assert_close(probs.sum(dim=0), torch.ones(50, 60))


def whole_parsing(of_class: str) -> Parsing:
    """A nose in the middle of a face whose left half is skin, and right half of another class."""
    windows = torch.full((1, 6, 4), 10.0)
    windows[0, 4] = torch.tensor([30.0, 25.0, 10.0, 8.0])
    coarse = torch.zeros(1, 11, 32, 32)
    coarse[:, HELEN11.class_id["skin"], :, :16] = 20
    coarse[:, HELEN11.class_id[of_class], :, 16:] = 20
    return parsing_with({"nose": confident("nose", 1)}, windows, coarse, HELEN11)


def test_classes_of_the_whole_image_lie_where_there_is_no_part() -> None:
    (labels,) = label_maps(whole_parsing("hair"), [(60, 50)])
    nose = labels == HELEN11.class_id["nose"]
    assert int(nose.sum()) == 8 * 10
    assert bool(nose[21:29, 25:35].all())
    assert set(labels[~nose].tolist()) == {1, 10}
    assert bool((labels[:20, :29] == HELEN11.class_id["skin"]).all())
    assert bool((labels[:20, 31:] == HELEN11.class_id["hair"]).all())


def test_the_last_row_of_a_photograph_that_was_fitted_a_little_short_is_labelled() -> None:
    (labels,) = label_maps(whole_parsing("hair"), [(600, 501)], [10.0])
    assert set(labels[-1].tolist()) == {1, 10}


def test_where_no_part_is_a_part_of_the_coarse_labels_counts_for_nothing() -> None:
    """The coarse network takes the right half for a nose; the fine one sees more, and does not."""
    (labels,) = label_maps(whole_parsing("nose"), [(60, 50)])
    right = labels[:20, 31:]
    assert not bool((right == HELEN11.class_id["nose"]).any())


def test_classes_of_the_whole_image_follow_the_face_into_its_photograph() -> None:
    (placed,) = place_patches(whole_parsing("hair"), [((0.0, -1.0, 60.0), (1.0, 0.0, 5.0))])
    labels = label_map([placed], (80, 70))  # turned by a quarter: left is up now
    assert bool((labels[6:34, 12:24] == HELEN11.class_id["skin"]).all())
    assert bool((labels[37:64, 12:24] == HELEN11.class_id["hair"]).all())
    assert not bool(labels[:4].any())
    assert not bool(labels[:, :9].any())
    probs = label_probabilities([placed], (80, 70))
    assert torch.equal(probs.argmax(dim=0).byte(), labels)


def test_the_part_of_one_face_shows_through_the_hair_of_a_surer_one() -> None:
    surer, other = (
        place_patches(whole_parsing("hair"), [((1.0, 0.0, x), (0.0, 1.0, 0.0))])[0] for x in (0, 20)
    )
    labels = label_map([surer, other], (90, 50))
    assert bool((labels[21:29, 45:55] == HELEN11.class_id["nose"]).all())


def test_no_faces_label_nothing() -> None:
    assert not label_map([], (60, 50)).any()
