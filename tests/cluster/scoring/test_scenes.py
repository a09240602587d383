"""Scoring on scenes, in this process: every pixel of every scene counts, and pictures agree."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cluster.scoring.scenes import score_scenes
from cluster.scoring.worker import ScoredSplit, ScoringTask
from cluster.storage.datasets import ShardedData
from stn_icnn.config import TrainConfig
from stn_icnn.context import LocalContext
from stn_icnn.inference.scene_scores import SCENE_PX
from stn_icnn.networks.checkpoint import Checkpoint, save_checkpoint
from stn_icnn.networks.model import STNiCNN, build_model
from stn_icnn.scoring.f1 import confusion
from tests.phase_runs import with_finder

SYSTEM = "STN-iCNN"


@pytest.fixture(scope="module")
def task(shards: Path, tiny_config: TrainConfig, sure_model: STNiCNN) -> ScoringTask:
    """A model whose finder takes its first look for a training, and so finds whatever it likes."""
    config, data = with_finder(tiny_config), ShardedData.open(str(shards))
    torch.manual_seed(0)
    model = build_model(config.model)
    model.load_state_dict(sure_model.state_dict(), strict=False)
    assert model.finder is not None
    model.finder.average(model.finder.mean_face[None], torch.ones(1, 6, dtype=torch.bool))
    with torch.no_grad():
        model.finder.network.head[-1].bias[model.finder.num_classes] = 3.0  # a face everywhere
    file = io.BytesIO()
    save_checkpoint(file, Checkpoint(model.eval(), config, data.facts, "finder"))
    return ScoringTask({SYSTEM: file.getvalue()}, data, "val", framing="found", examples_per_kind=1)


@pytest.fixture(scope="module")
def scored(task: ScoringTask) -> ScoredSplit:
    return score_scenes(LocalContext(), task)


def test_every_pixel_of_a_scene_of_each_face_is_counted(
    scored: ScoredSplit, task: ScoringTask
) -> None:
    assert list(scored.counts) == [SYSTEM]
    assert scored.counts[SYSTEM].sum(dim=(1, 2)).tolist() == [SCENE_PX**2] * 2
    assert all(key.startswith("scene-") for key in scored.keys)
    assert task.dataset == "scenes of helen"
    assert scored.seconds > 0


def test_the_same_split_makes_the_same_scenes(scored: ScoredSplit, task: ScoringTask) -> None:
    again = score_scenes(LocalContext(), replace(task, examples_per_kind=0))
    assert again.keys == scored.keys
    truth = scored.counts[SYSTEM].sum(dim=2)
    assert again.counts[SYSTEM].sum(dim=2).equal(truth)
    assert list(again.faces) == []
    assert not any(again.examples.values())


def test_scenes_that_are_shown_are_those_that_were_counted(scored: ScoredSplit) -> None:
    shown = [face for of_kind in scored.examples.values() for face in of_kind]
    assert shown
    for face in shown:
        assert face.image.shape == (SCENE_PX, SCENE_PX, 3)
        truth, predicted = torch.from_numpy(face.truth), torch.from_numpy(face.predicted)
        counted = scored.counts[SYSTEM][scored.keys.index(face.key)]
        assert confusion(truth, predicted, len(counted)).equal(counted)
    assert len(scored.faces) == 2
    for small in scored.faces:
        assert np.asarray(Image.open(io.BytesIO(small.photo))).shape == (128, 128, 3)
