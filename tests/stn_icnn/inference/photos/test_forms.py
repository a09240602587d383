"""What Python users have photographs in: each form gives the same pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stn_icnn.inference.photos.decoding import load_photo
from stn_icnn.inference.photos.forms import named_photos

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(PIXELS).permute(2, 0, 1)


def pixels_of(given, **how) -> list[np.ndarray]:
    return [load_photo(one.photo).pixels for one in named_photos(given, **how)]


@pytest.mark.parametrize(
    "given",
    [
        PIXELS,
        PIXELS[None],
        Image.fromarray(PIXELS),
        TENSOR,
        TENSOR[None],
        TENSOR.float() / 255,
        (TENSOR / 255).double()[None],
        [PIXELS],
        (TENSOR,),
    ],
)
def test_every_form_of_a_photograph_gives_its_pixels(given):
    (pixels,) = pixels_of(given)
    assert np.array_equal(pixels, PIXELS)


@pytest.mark.parametrize("given", [PIXELS[..., ::-1], TENSOR.flip(0), [PIXELS[..., ::-1]]])
def test_blue_green_red_is_turned_round_where_the_user_says_so(given):
    assert np.array_equal(pixels_of(given, bgr=True)[0], PIXELS)


def test_files_and_folders_give_photographs_with_names(tmp_path: Path):
    for name in ("b.png", "x/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(PIXELS).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("none")
    names = [str(tmp_path / name) for name in ("b.png", "x/a.png")]
    assert [one.name for one in named_photos(tmp_path)] == names
    assert [one.name for one in named_photos(names)] == names
    assert [one.name for one in named_photos(Path(names[0]))] == names[:1]
    assert named_photos(Image.open(names[0]))[0].name == names[0]
    assert all(np.array_equal(pixels, PIXELS) for pixels in pixels_of(str(tmp_path)))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (
            TENSOR.permute(1, 2, 0),
            r"must be \[3, H, W\] RGB, got \[7, 5, 3\]: .*permute\(2",
        ),
        (TENSOR[0], r"must be \[3, H, W\] RGB, got \[7, 5\]"),
        (TENSOR.float(), "floats must be from 0 to 1, got .* divide by"),
        (TENSOR.float() / 255 - 0.5, "floats must be from 0 to 1, got -0.5"),
        (TENSOR.int(), r"must be uint8 or floats, got torch\.int32"),
    ],
)
def test_tensors_of_another_form_are_refused(tensor: torch.Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        named_photos(tensor)
