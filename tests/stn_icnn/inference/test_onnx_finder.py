"""The finder's file for ONNX Runtime votes as the finder does."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stn_icnn.inference import onnx_finder as export
from stn_icnn.inference.faces import finding
from stn_icnn.inference.onnx_finder import export_finder
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.checkpoint import Checkpoint, load_checkpoint

pytestmark = pytest.mark.slow

SIZES = [
    (64, 64),
    (96, 96),
    (81, 54),
    (30, 47),  # enlarged
    (200, 131),
    (67, 128),  # 33.5 cells of 2 px: half to even
    (300, 40),  # no side below 16 px
    (1, 1),
]

Session = onnxruntime.InferenceSession


@pytest.fixture(scope="module")
def session(exported: Path) -> Session:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return Session(exported / "new" / "model_finder.onnx", options)


@pytest.fixture(scope="module")
def checkpoint(exported: Path) -> Checkpoint:
    return load_checkpoint(exported)


def photos(num: int, height: int, width: int) -> Tensor:
    blots = torch.rand(num, 3, 9, 7, generator=torch.Generator().manual_seed(height))
    return (F.interpolate(blots, (height, width), mode="bilinear") * 255).to(torch.uint8)


def expected_votes(checkpoint: Checkpoint, images: Tensor) -> tuple[Tensor, Tensor]:
    """What the finder votes on photographs that are reduced by Pillow, px of the photographs."""
    arrays = images.permute(0, 2, 3, 1).numpy()
    reduced = np.stack([finding._reduced(photo, 64) for photo in arrays])
    with torch.inference_mode():
        seen = torch.from_numpy(reduced).permute(0, 3, 1, 2).float() / 255
        output = checkpoint.model.look_for_faces(seen)
    height, width = images.shape[-2:]
    h, w = reduced.shape[1:3]
    side = max(height, width) / max(h, w)
    scale = torch.tensor([width / w, height / h, side, 1.0, 1.0])
    return output.face_logits.sigmoid(), output.frames() * scale[:, None, None]


@pytest.mark.parametrize("num", [1, 3])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_onnx_runtime_votes_as_the_finder(
    session: Session, checkpoint: Checkpoint, num: int, height: int, width: int
):
    images = photos(num, height, width)
    scores, frames = session.run(["scores", "frames"], {"images": images.numpy()})
    true_scores, true_frames = expected_votes(checkpoint, images)
    assert scores.dtype == frames.dtype == np.float32
    assert scores.shape == true_scores.shape
    assert frames.shape == true_frames.shape == (num, 5, *scores.shape[1:])
    assert np.abs(scores - true_scores.numpy()).max() < 0.05  # Pillow rounds between the axes
    off = np.abs(frames - true_frames.numpy())
    assert (off[:, :3] / frames[:, 2:3]).max() < 0.1
    assert np.median(off[:, :3] / frames[:, 2:3]) < 0.01
    assert np.median(off[:, 3:]) < 0.01


def test_there_is_something_to_compare(session: Session):
    """Else all might agree for being alike."""
    scores, frames = session.run(None, {"images": photos(2, 90, 80).numpy()})
    assert scores.std() > 0.02
    assert np.abs(scores[0] - scores[1]).max() > 0.02
    assert np.ptp(frames[:, 0]) > 40


def test_the_file_says_what_it_takes_and_gives(session: Session, checkpoint: Checkpoint):
    said = session.get_modelmeta().custom_metadata_map
    assert "uint8, RGB" in said["input"]
    assert "probability of each cell" in said["scores"]
    assert "cosine and sine of its turn, clockwise" in said["frames"]
    assert json.loads(said["parts"]) == [part.name for part in PAPER9.parts]
    mean_face = checkpoint.model.finder.mean_face.numpy()
    assert np.allclose(json.loads(said["mean_face"]), mean_face, atol=1e-4)
    assert (said["finder_px"], said["cell_px"]) == ("64", "2")


def test_a_finder_that_votes_otherwise_is_refused(
    checkpoint: Checkpoint, exported: Path, monkeypatch: pytest.MonkeyPatch
):
    """As an exporter at fault would make it: here that of another model."""
    other = load_checkpoint(exported)
    content = (exported / "new" / "model_finder.onnx").read_bytes()
    monkeypatch.setattr(export, "_exported", lambda checkpoint: content)
    assert export_finder(other) == content
    with torch.no_grad():
        other.model.finder.network.head[-1].bias += 0.2
    with pytest.raises(
        ValueError, match="finder does not do what PyTorch does, on 1 of 64 x 112 px"
    ):
        export_finder(other)


def test_a_model_without_a_trained_finder_is_refused(exported: Path, sure_parent: Path):
    without, untrained = load_checkpoint(sure_parent), load_checkpoint(exported)
    untrained.model.finder.num_averaged.zero_()
    for one in (without, untrained):
        with pytest.raises(ValueError, match="the model must be one with a trained finder"):
            export_finder(one)
