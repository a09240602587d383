"""What a user calls: photographs in, label maps of their own size out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stn_icnn.config import TrainConfig
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.faces.cutting import fit_to_scale
from stn_icnn.inference.photos.decoding import load_photo
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.checkpoint import Checkpoint, DataFacts, save_checkpoint
from stn_icnn.networks.model import build_model

Parser = Callable[..., FaceParser]
WIDTH, HEIGHT = 70, 54


def facts(px: int, fit: str) -> DataFacts:
    return DataFacts(dataset="helen", fingerprint="abc", scale_px=px, scale_fit=fit)


@pytest.fixture(scope="module")
def checkpoint(tiny_config: TrainConfig) -> Checkpoint:
    """Untrained, but sure of its labels, so that there are many of them."""
    torch.manual_seed(0)
    model = build_model(tiny_config.model).eval()
    with torch.no_grad():
        for network in model.fine.values():
            network.head[-1].weight.mul_(200)
            network.head[-1].bias.zero_()
    return Checkpoint(model, tiny_config, facts(1024, "at_most"), "end_to_end")


@pytest.fixture(scope="module")
def parser(checkpoint: Checkpoint) -> FaceParser:
    return FaceParser(checkpoint, "cpu")


def photo(seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height)))


def test_array_image_and_file_give_one_label_map_of_the_photograph_s_size(
    parser: FaceParser, tmp_path: Path
):
    pixels = photo()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    given = [pixels, Image.fromarray(pixels), tmp_path / "a.png", str(tmp_path / "a.png")]
    faces = [parser.parse(each) for each in given]
    assert faces[0].labels.shape == (HEIGHT, WIDTH)
    assert faces[0].labels.dtype == np.uint8
    found = set(np.unique(faces[0].labels).tolist())
    assert len(found) > 3
    assert found <= set(PAPER9.model_classes)
    for face in faces:
        assert np.array_equal(face.image, pixels)
        assert np.array_equal(face.labels, faces[0].labels)


def test_a_rotated_file_is_parsed_upright(parser: FaceParser, tmp_path: Path):
    """A phone's portrait: stored on its side, its orientation in EXIF."""
    upright = Image.fromarray(photo())
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter to be shown
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "phone.png", exif=exif)
    face = parser.parse(tmp_path / "phone.png")
    assert face.labels.shape == (HEIGHT, WIDTH)
    assert np.array_equal(face.image, np.asarray(upright))
    assert np.array_equal(face.labels, parser.parse(upright).labels)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_photographs_of_other_modes_are_parsed(parser: FaceParser, mode: str):
    face = parser.parse(Image.fromarray(photo()).convert(mode))
    assert face.labels.shape == (HEIGHT, WIDTH)
    assert face.image.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("px", "fit", "size", "fitted"),
    [
        (50, "exact", (100, 60), (50, 30)),
        (200, "exact", (100, 60), (200, 120)),
        (200, "exact", (60, 100), (120, 200)),
        (50, "at_most", (100, 60), (50, 30)),
        (200, "at_most", (100, 60), (100, 60)),
        (10, "exact", (300, 1), (10, 1)),
    ],
)
def test_photographs_are_fitted_to_the_data_s_scale(px: int, fit: str, size: tuple, fitted: tuple):
    image = np.zeros((size[1], size[0], 3), np.uint8)
    assert fit_to_scale(image, facts(px, fit)).shape == (fitted[1], fitted[0], 3)


@pytest.mark.parametrize(("px", "fit", "factor"), [(50, "exact", 2.0), (400, "at_most", 1.0)])
def test_windows_are_in_the_photograph_s_pixels(
    checkpoint: Checkpoint, px: int, fit: str, factor: float
):
    """An untrained model cuts an average face, with windows of the config's size when fitted."""
    scaled = Checkpoint(checkpoint.model, checkpoint.config, facts(px, fit), "end_to_end")
    face = FaceParser(scaled, "cpu").parse(photo(width=100, height=60))
    assert face.labels.shape == (60, 100)
    sides = PAPER9.per_part(checkpoint.config.model.window_px)
    for (x, y, width, height), part, side in zip(face.windows, PAPER9.parts, sides, strict=True):
        share_x, share_y = part.centre
        assert (x, y) == pytest.approx((100 * share_x, 60 * share_y), abs=1)
        assert (width, height) == pytest.approx((factor * side, factor * side), rel=0.02)


@pytest.mark.parametrize(("px", "fit"), [(1024, "at_most"), (80, "exact")])
def test_a_part_s_labels_lie_in_its_window(checkpoint: Checkpoint, px: int, fit: str):
    scaled = Checkpoint(checkpoint.model, checkpoint.config, facts(px, fit), "end_to_end")
    face = FaceParser(scaled, "cpu").parse(photo(width=160, height=160))
    assert face.labels.any()
    for classes, (x, y, width, height) in zip(PAPER9.part_classes, face.windows, strict=True):
        ys, xs = np.nonzero(np.isin(face.labels, classes))
        assert (np.abs(xs + 0.5 - x) <= width / 2).all()
        assert (np.abs(ys + 0.5 - y) <= height / 2).all()


def test_many_photographs_give_what_each_gives_alone(parser: FaceParser):
    """More than one batch, of sizes that are padded to each other's."""
    photos = [photo(i, width=50 + 7 * i % 40, height=80 - 5 * i % 33) for i in range(10)]
    for pixels, face in zip(photos, parser.parse_all(photos), strict=True):
        alone = parser.parse(pixels)
        assert face.labels.shape == pixels.shape[:2]
        assert np.allclose(face.windows, alone.windows, atol=1e-3)
        assert (face.labels != alone.labels).mean() < 2e-3  # ties, rounded otherwise


def test_no_photographs_give_no_faces(parser: FaceParser):
    assert parser.parse_all([]) == []


def test_a_model_file_and_its_folder_are_loaded(checkpoint: Checkpoint, tmp_path: Path):
    save_checkpoint(tmp_path / "model.pt", checkpoint)
    expected = FaceParser(checkpoint, "cpu").parse(photo()).labels
    for path in (tmp_path, tmp_path / "model.pt"):
        assert np.array_equal(FaceParser.load(path, "cpu").parse(photo()).labels, expected)


def test_what_is_no_photograph_is_named(parser: FaceParser, tmp_path: Path):
    (tmp_path / "notes.jpg").write_text("not a photograph")
    whole = tmp_path / "whole.png"
    Image.fromarray(photo(width=300, height=300)).save(whole)
    (tmp_path / "half.png").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    for name in ("notes.jpg", "half.png", "missing.jpg", "."):
        with pytest.raises(ValueError, match=r"can't be read as a photograph") as error:
            parser.parse_all([photo(), tmp_path / name])
        assert str(tmp_path / name) in str(error.value)


def test_a_photograph_over_pillow_s_limit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.fromarray(photo()).save(tmp_path / "huge.gif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"huge\.gif can't be read as a photograph: .*exceeds lim"):
        load_photo(tmp_path / "huge.gif")


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5, 3), np.float32)],
)
def test_arrays_of_another_form_are_refused(pixels: np.ndarray):
    with pytest.raises(ValueError, match=r"must be \[H, W, 3\] uint8 RGB, got \[5, 5"):
        load_photo(pixels)


@pytest.mark.slow
def test_threads_side_by_side_change_no_label(checkpoint: Checkpoint):
    """Whether they share the networks, of one photograph, or the photographs."""
    photos = [photo(seed, WIDTH + seed) for seed in range(7)]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = FaceParser(checkpoint, "cpu")
        torch.set_num_threads(3)
        many = FaceParser(checkpoint, "cpu")
        assert torch.get_num_threads() == 3
        assert alone.model.execution.threads is None
        assert many.model.execution.threads is not None
        for num in (1, 5, 7):
            expected = [alone.parse(each) for each in photos[:num]]
            for face, same in zip(many.parse_all(photos[:num]), expected, strict=True):
                assert np.array_equal(face.image, same.image)
                assert np.mean(face.labels == same.labels) > 0.999
                assert np.allclose(face.windows, same.windows, atol=1e-3)
        with pytest.raises(ValueError, match="can't be read as a photograph"):
            many.parse_all([*photos, "no-such-file.jpg"])
    finally:
        torch.set_num_threads(threads)
