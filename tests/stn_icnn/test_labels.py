"""Label sets: what the paper's says, and that model, losses and scores follow another one."""

import pickle
import subprocess
import sys
from dataclasses import replace
from operator import itemgetter

import pytest
import torch

from stn_icnn.config import AugmentConfig, LossConfig, ModelConfig
from stn_icnn.data.augmentation import draw
from stn_icnn.data.batch import Batch
from stn_icnn.label_sets import HELEN11, PAPER9
from stn_icnn.labels import FaceClass, LabelSet, Part
from stn_icnn.networks.model import STNiCNN, build_model, located_probs
from stn_icnn.networks.pasting import coarse_label_maps, label_maps
from stn_icnn.scoring.f1 import confusion, f1_rows
from stn_icnn.scoring.window_scores import score_windows
from stn_icnn.training.losses import end_to_end_loss
from tests.samples import Sample, collate

EARS = LabelSet(
    name="ears",
    classes=(
        FaceClass("background", (0, 0, 0)),
        FaceClass("hat", (9, 9, 9), labelled=False),
        FaceClass("left_ear", (1, 2, 3)),
        FaceClass("right_ear", (4, 5, 6)),
        FaceClass("tooth", (7, 8, 9)),
    ),
    parts=(
        Part("right_ear", "ear", ("right_ear",), centre=(0.2, 0.5), mirrored=True),
        Part("left_ear", "ear", ("left_ear",), centre=(0.8, 0.5)),
        Part("tooth", "tooth", ("tooth",), centre=(0.5, 0.7)),
    ),
    mirrored_pairs=(("left_ear", "right_ear"),),
    report_groups={"ears": ("left_ear", "right_ear"), "overall": ("left_ear", "right_ear")},
)
"""Five classes, four of which the model labels, in three parts of two fine networks."""


def test_the_papers_model_labels_nine_of_helens_eleven_classes() -> None:
    assert PAPER9.num_classes == 11
    assert [PAPER9.class_names[i] for i in PAPER9.model_classes] == [
        "background",
        "left_brow",
        "right_brow",
        "left_eye",
        "right_eye",
        "nose",
        "upper_lip",
        "inner_mouth",
        "lower_lip",
    ]
    assert PAPER9.inner_classes == PAPER9.model_classes[1:]


def test_the_papers_parts_share_fine_networks_in_pairs() -> None:
    assert PAPER9.parts_of_network == {"brow": (0, 1), "eye": (2, 3), "nose": (4,), "mouth": (5,)}
    assert PAPER9.fine_networks == ("brow", "eye", "nose", "mouth")
    assert PAPER9.part_classes == ((2,), (3,), (4,), (5,), (6,), (7, 8, 9))
    assert PAPER9.part_pairs == {
        "brow": ("left_brow", "right_brow"),
        "eye": ("left_eye", "right_eye"),
    }


def test_what_the_model_labels_in_no_part_is_of_the_whole_image() -> None:
    assert PAPER9.located_classes == PAPER9.model_classes
    assert [HELEN11.class_names[i] for i in HELEN11.whole_classes] == ["skin", "hair"]
    assert HELEN11.located_classes == PAPER9.model_classes


def test_parts_are_located_alike_whatever_else_is_labelled() -> None:
    logits = torch.randn(2, 11, 4, 4)
    located = located_probs(logits, HELEN11)
    assert located.shape == (2, 9, 4, 4)
    torch.testing.assert_close(located.sum(dim=1), torch.ones(2, 4, 4))
    probs = logits.softmax(dim=1)
    torch.testing.assert_close(located[:, 5], probs[:, HELEN11.class_id["nose"]])
    torch.testing.assert_close(located[:, 0], probs[:, [0, 1, 10]].sum(dim=1))


def test_pairs_change_places_in_a_mirrored_image() -> None:
    assert PAPER9.mirrored_class == (0, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10)
    assert PAPER9.mirrored_part == (1, 0, 3, 2, 4, 5)
    assert EARS.mirrored_class == (0, 1, 3, 2, 4)
    assert EARS.mirrored_part == (1, 0, 2)


def test_report_groups_are_rows_of_class_ids() -> None:
    assert PAPER9.f1_rows["mouth"] == (7, 8, 9)
    assert EARS.f1_rows == {"ears": (2, 3), "overall": (2, 3)}


def test_what_is_given_by_network_is_had_by_part() -> None:
    assert EARS.per_part({"tooth": 9, "ear": 5}) == (5, 5, 9)


def test_a_label_set_is_a_value() -> None:
    _ = PAPER9.f1_rows, PAPER9.parts_of_network  # what is kept of them is no part of the value
    assert pickle.loads(pickle.dumps(PAPER9)) == PAPER9 == replace(PAPER9)
    assert hash(replace(PAPER9)) == hash(PAPER9)
    assert PAPER9 != EARS


def test_it_needs_no_torch() -> None:
    code = "import sys, stn_icnn.labels; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> STNiCNN:
    """A model that labels `EARS`."""
    monkeypatch.setattr(ModelConfig, "label_set", property(lambda self: EARS))
    torch.manual_seed(0)
    return build_model(
        ModelConfig(
            coarse_px=32, window_px={"ear": 21, "tooth": 33}, patch_px={"ear": 17, "tooth": 25}
        )
    )


@pytest.fixture
def batch() -> Batch:
    """A face with a tooth and its left ear, shown as it is and mirrored."""
    labels = torch.zeros(64, 64, dtype=torch.uint8)
    labels[28:36, 44:52] = EARS.class_id["left_ear"]
    labels[40:48, 28:36] = EARS.class_id["tooth"]
    centres = torch.tensor([[0.0, 0.0], [48.0, 32.0], [32.0, 44.0]])
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    plain = draw(AugmentConfig(operations=False), EARS, [(64, 64)], [0], [[0]]).map(itemgetter(0))
    flip = torch.tensor([[-1.0, 0, 64], [0, 1, 0]])
    mirrored = replace(plain, mirrored=torch.tensor(True), affine=flip)
    face = Sample("a", image, labels, centres, torch.tensor([False, True, True]), plain)
    return collate([face, replace(face, key="b", augmentation=mirrored)])


def test_a_model_has_the_networks_and_classes_of_its_label_set(model: STNiCNN, batch: Batch):
    parsing = model(batch)
    assert list(model.fine) == ["ear", "tooth"]
    assert parsing.coarse_logits.shape == (2, 4, 32, 32)
    assert parsing.locations.shape == (2, 3, 3)
    assert parsing.windows.shape == (2, 3, 4)
    assert parsing.part_logits["ear"].shape == (2, 2, 2, 17, 17)
    assert parsing.part_logits["tooth"].shape == (2, 1, 2, 25, 25)
    end_to_end_loss(parsing, batch, LossConfig(coarse_weight=1, localizer_weight=1)).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_truth_and_scores_follow_the_label_set(model: STNiCNN, batch: Batch):
    shares, present = batch.target_centres()
    assert present.tolist() == [[False, True, True], [True, False, True]]
    assert shares[1, 0].tolist() == pytest.approx([0.25, 0.5])
    parsing = model.eval()(batch)
    whole, coarse = (
        label_maps(parsing, batch.host_sizes),
        coarse_label_maps(parsing.coarse_logits, batch.host_sizes, EARS),
    )
    for labels in (*whole, *coarse):
        assert set(labels.unique().tolist()) <= set(EARS.model_classes)
    assert batch.labels is not None
    counts = confusion(batch.labels[0], batch.labels[0], EARS.num_classes)
    assert counts.shape == (5, 5)
    assert f1_rows(counts, EARS) == {"ears": 1.0, "overall": 1.0, "mean": 1.0}
    scores = score_windows(parsing.windows, replace(batch, augmentation=None), EARS)
    assert scores.share_inside.shape == (2, 3)
