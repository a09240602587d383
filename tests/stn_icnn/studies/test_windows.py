"""Windows whose errors are known, and a model's own."""

import pytest
import torch

from stn_icnn.context import LocalContext
from stn_icnn.data.plan import Request
from stn_icnn.networks.checkpoint import Checkpoint
from stn_icnn.scoring.confusion import count_confusions, parse_batch
from stn_icnn.studies.windows import label_faces


def test_the_models_own_windows_give_what_scoring_gives(checkpoint: Checkpoint, tiny_faces) -> None:
    faces = tiny_faces("train", False)
    labelled = label_faces(checkpoint, "STN-iCNN", faces, [])
    expected = count_confusions(
        {"own": lambda batch: parse_batch(checkpoint.model, batch)}, faces, LocalContext()
    )
    assert list(labelled) == [
        "iCNN",
        "STN-iCNN",
        "STN-iCNN, set size",
        "average face",
        "true centres",
    ]
    assert torch.equal(labelled["STN-iCNN"].counts, expected["own"])
    assert not torch.equal(labelled["iCNN"].counts, expected["own"])


def test_windows_lie_as_far_off_as_they_are_said_to(checkpoint: Checkpoint, tiny_faces) -> None:
    faces = tiny_faces("train", False)
    labelled = label_faces(checkpoint, "STN-iCNN", faces, [0.01, 0.1])
    assert labelled["true centres"].error_px < 1e-3
    near, far = labelled["true centres ± 0.01"], labelled["true centres ± 0.1"]
    assert far.error_px == pytest.approx(10 * near.error_px, rel=1e-3)
    sides = faces.__getitems__([Request(i) for i in range(len(faces))]).sizes.mean()
    assert near.error_px == pytest.approx(0.01 * float(sides) * 1.25, rel=0.2)  # of two normals
    assert labelled["true centres"].share_inside > far.share_inside
