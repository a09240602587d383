"""The file for ONNX Runtime labels what the parser labels."""

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from stn_icnn.inference import onnx_export as export
from stn_icnn.inference.face_parser import FaceParser, fitted_size
from stn_icnn.inference.onnx_export import MIN_EQUAL_LABELS, OPSET, export_onnx
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.checkpoint import DataFacts, load_checkpoint

pytestmark = pytest.mark.slow

FACES = os.environ.get("STN_ICNN_FACES")
SIZES = [
    (64, 64),
    (96, 96),
    (81, 54),
    (200, 131),
    (32, 192),  # to 16 x 96
    (33, 192),  # 16.5 x 96: half to even
    (35, 192),  # 17.5 x 96
    (7, 60),
    (1, 300),
]

Session = onnxruntime.InferenceSession


def photos(num: int, height: int, width: int) -> Tensor:
    blots = torch.rand(num, 3, 9, 7, generator=torch.Generator().manual_seed(height))
    return (F.interpolate(blots, (height, width), mode="bilinear") * 255).to(torch.uint8)


def one_thread(model: Path | bytes) -> Session:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return Session(model, options)


@pytest.fixture(scope="module")
def session(exported: Path) -> Session:
    return one_thread(exported / "new" / "model.onnx")


@pytest.fixture(scope="module")
def parser(exported: Path) -> FaceParser:
    return FaceParser.load(exported, "cpu")


def assert_same(session: Session, parser: FaceParser, images: Tensor) -> None:
    """That labels and windows are the parser's."""
    expected = parser.parse_tensor(images)
    labels, windows = session.run(["labels", "windows"], {"images": images.numpy()})
    assert labels.dtype == np.uint8
    assert labels.shape == expected.labels.shape
    differing = int((labels != expected.labels.numpy()).sum())
    assert differing <= max(2, (1 - MIN_EQUAL_LABELS) * labels.size)  # of a line of pixels, two
    assert windows.dtype == np.float32
    assert np.abs(windows - expected.windows.numpy()).max() < 0.02


@pytest.mark.parametrize("num", [1, 2, 5])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_onnx_runtime_labels_what_the_parser_labels(
    session: Session, parser: FaceParser, num: int, height: int, width: int
):
    assert_same(session, parser, photos(num, height, width))


@pytest.mark.skipif(not FACES, reason="STN_ICNN_FACES names no folder of real faces")
@pytest.mark.parametrize("size", [(512, 512), (60, 75), (130, 90)])
def test_so_it_does_on_real_faces(session: Session, parser: FaceParser, size: tuple[int, int]):
    files = sorted(Path(f"{FACES}/celebamask/images").glob("*.jpg"))[:8]
    faces = [np.array(Image.open(file).convert("RGB").resize(size)) for file in files]
    images = torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).contiguous()
    assert_same(session, parser, images)


def test_there_are_labels_to_compare(session: Session):
    """Else they might agree for there being none, or windows for being alike."""
    labels, windows = session.run(None, {"images": photos(2, 90, 80).numpy()})
    assert len(set(np.unique(labels)) & set(PAPER9.model_classes)) >= 4
    assert (labels == 0).mean() < 0.9
    assert np.abs(windows[0] - windows[1]).max() > 0.1


def test_photographs_are_enlarged_to_an_exact_scale():
    """As CelebAMask-HQ's models want it; the other file knows `at_most`."""
    exact = DataFacts(dataset="celebamask", fingerprint="abc", scale_px=81, scale_fit="exact")

    class Fit(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return export._fit(images, exact)

    program = torch.onnx.export(
        Fit(),
        (photos(2, 40, 48),),
        dynamo=True,
        opset_version=OPSET,
        dynamic_shapes={"images": {0: "N", 2: "H", 3: "W"}},
        input_names=["images"],
        verbose=False,
    )
    session = one_thread(program.model_proto.SerializeToString())
    for height, width in SIZES:
        images = photos(1, height, width)
        [fitted] = session.run(None, {"images": images.numpy()})
        size = fitted_size((width, height), exact)[::-1]
        expected = F.interpolate(images.float(), size, mode="bicubic", antialias=True)
        expected = expected.round().clamp(0, 255).numpy()
        assert fitted.shape == expected.shape
        assert np.abs(fitted - expected).max() <= 1
        assert (fitted == expected).mean() > 0.99


def test_the_file_says_what_it_takes_and_gives(session: Session, exported: Path):
    said = session.get_modelmeta().custom_metadata_map
    assert "uint8, RGB" in said["input"]
    assert json.loads(said["classes"])[4] == "left_eye"
    assert json.loads(said["parts"]) == [part.name for part in PAPER9.parts]
    assert json.loads(said["config"])["model"]["coarse_px"] == 32
    assert (said["dataset"], said["scale_px"], said["scale_fit"]) == ("helen", "96", "at_most")
    path = exported / "new" / "model.onnx"
    finder = path.with_name("model_finder.onnx")
    assert sorted(path.parent.iterdir()) == [path, finder]  # their weights are in them
    assert str(Path(export.__file__).parent).encode() not in path.read_bytes()


def test_a_file_that_labels_otherwise_is_refused(exported: Path, monkeypatch: pytest.MonkeyPatch):
    """As an exporter at fault would make it: here that of another model."""
    other = load_checkpoint(exported)
    with torch.no_grad():
        other.model.fine["nose"].head[-1].bias[1] += 20
    content = (exported / "new" / "model.onnx").read_bytes()
    monkeypatch.setattr(export, "_exported", lambda checkpoint: content)
    with pytest.raises(ValueError, match="does not do what PyTorch does"):
        export_onnx(other)
