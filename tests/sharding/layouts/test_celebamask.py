"""CelebAMask-HQ's reader: sides, painting order, mask modes, rejects, splits."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sharding.layouts.celebamask import LAYOUT
from sharding.layouts.raw import Item, RawSample
from sharding.layouts.splits import by_split
from sharding.storage.location import open_location
from stn_icnn.decoding import RejectedError
from stn_icnn.label_sets import PAPER9

Draw = Callable[..., None]
WHOLE = (0, 0, 512, 512)


def read(root: Path, number: int) -> RawSample:
    return LAYOUT.read(
        open_location(root), Item(f"{number:05d}", f"CelebA-HQ-img/{number}.jpg", "x"), PAPER9
    )


def split_keys(root: Path, rule: str, seed: int = 0) -> dict[str, list[str]]:
    listing = LAYOUT.list_items(open_location(root), rule, seed, False)
    return {split: [i.key for i in items] for split, items in by_split(listing.items).items()}


def test_left_eye_of_the_subject_is_in_the_right_half(tmp_path: Path, draw_celebamask: Draw):
    draw_celebamask(tmp_path, 7)
    labels = read(tmp_path, 7).labels
    for part in ("eye", "brow"):
        left = np.nonzero(labels == PAPER9.class_id[f"left_{part}"])[1]
        right = np.nonzero(labels == PAPER9.class_id[f"right_{part}"])[1]
        assert left.min() > 256 > right.max()


def test_every_part_has_its_class(tmp_path: Path, draw_celebamask: Draw):
    draw_celebamask(tmp_path, 7)
    labels = read(tmp_path, 7).labels
    assert labels.shape == (512, 512)
    assert labels.dtype == np.uint8
    centres = {
        (120, 450): "skin",
        (255, 290): "nose",
        (325, 210): "left_eye",
        (175, 210): "right_eye",
        (325, 178): "left_brow",
        (175, 178): "right_brow",
        (255, 385): "inner_mouth",
        (255, 370): "upper_lip",
        (255, 400): "lower_lip",
        (255, 60): "hair",
        (20, 20): "background",
    }
    assert {xy: labels[xy[1], xy[0]] for xy in centres} == {
        xy: PAPER9.class_id[name] for xy, name in centres.items()
    }


@pytest.mark.parametrize(
    ("parts", "on_top"),
    [
        (("hair", "hat"), "background"),
        (("skin", "l_ear"), "background"),
        (("skin", "hair"), "hair"),
        (("skin", "eye_g"), "background"),
        (("eye_g", "l_eye"), "left_eye"),
        (("hair", "cloth"), "background"),
        (("mouth", "u_lip"), "upper_lip"),
        (("r_brow", "hair"), "hair"),
    ],
)
def test_later_part_covers_earlier(
    tmp_path: Path, draw_celebamask: Draw, parts: tuple[str, str], on_top: str
):
    draw_celebamask(tmp_path, 7, parts=dict.fromkeys(parts, WHOLE))
    assert (read(tmp_path, 7).labels == PAPER9.class_id[on_top]).all()


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "LA"])
def test_mask_modes_read_alike(tmp_path: Path, draw_celebamask: Draw, mode: str):
    draw_celebamask(tmp_path, 7)
    draw_celebamask(tmp_path, 8, mode=mode)
    np.testing.assert_array_equal(read(tmp_path, 7).labels, read(tmp_path, 8).labels)


def test_palette_mask_with_indices_0_and_1(tmp_path: Path, draw_celebamask: Draw):
    draw_celebamask(tmp_path, 7, parts={"nose": WHOLE})
    mask = Image.new("P", (512, 512), 1)
    mask.putpalette([0, 0, 0, 255, 255, 255])
    mask.paste(0, (0, 0, 256, 512))
    mask.save(tmp_path / "CelebAMask-HQ-mask-anno/0/00007_nose.png")
    labels = read(tmp_path, 7).labels
    assert (labels[:, :256] == 0).all()
    assert (labels[:, 256:] == PAPER9.class_id["nose"]).all()


def test_part_without_file_is_absent(tmp_path: Path, draw_celebamask: Draw):
    draw_celebamask(tmp_path, 7, parts={"skin": WHOLE, "l_eye": (300, 200, 350, 220)})
    assert set(np.unique(read(tmp_path, 7).labels)) == {
        PAPER9.class_id["skin"],
        PAPER9.class_id["left_eye"],
    }


def test_masks_lie_in_the_folder_of_id_over_2000(tmp_path: Path, draw_celebamask: Draw):
    draw_celebamask(tmp_path, 3999)
    draw_celebamask(tmp_path, 4000)
    assert (tmp_path / "CelebAMask-HQ-mask-anno/1/03999_skin.png").exists()
    assert (tmp_path / "CelebAMask-HQ-mask-anno/2/04000_skin.png").exists()
    np.testing.assert_array_equal(read(tmp_path, 3999).labels, read(tmp_path, 4000).labels)


def test_image_of_1024_is_halved_in_place(tmp_path: Path, draw_celebamask: Draw):
    """A bright square of the photograph stays where its mask is."""
    draw_celebamask(tmp_path, 7, parts={"nose": (100, 300, 200, 400)})
    image = Image.new("RGB", (1024, 1024))
    image.paste((255, 255, 255), (200, 600, 400, 800))
    image.save(tmp_path / "CelebA-HQ-img/7.jpg", quality=95)
    raw = read(tmp_path, 7)
    assert raw.image.size == (512, 512)
    assert raw.original_size == (1024, 1024)
    assert raw.jpeg is None
    bright = np.asarray(raw.image.convert("L")) > 127
    np.testing.assert_array_equal(bright, raw.labels == PAPER9.class_id["nose"])


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"mask_px": 256}, "mask of another size: skin must be 512 x 512, got 256 x 256"),
        ({"parts": {}}, r"no masks: no CelebAMask-HQ-mask-anno/0/00007_\*.png"),
        ({"image": b"not an image"}, "image does not decode: not an image"),
    ],
)
def test_unusable_face_is_rejected_with_the_reason(
    tmp_path: Path, draw_celebamask: Draw, how: dict, reason: str
):
    draw_celebamask(tmp_path, 7, **how)
    with pytest.raises(RejectedError, match=reason):
        read(tmp_path, 7)


def test_broken_files_are_rejected(tmp_path: Path, draw_celebamask: Draw):
    draw_celebamask(tmp_path, 7)
    image = tmp_path / "CelebA-HQ-img/7.jpg"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RejectedError, match="image does not decode: image file is truncated"):
        read(tmp_path, 7)
    image.write_bytes(b"")
    with pytest.raises(RejectedError, match="image empty: a file of 0 bytes"):
        read(tmp_path, 7)
    Image.new("RGB", (600, 512)).save(image)
    with pytest.raises(RejectedError, match=r"another shape: must be square.*600 x 512"):
        read(tmp_path, 7)
    image.write_bytes(whole)
    mask = tmp_path / "CelebAMask-HQ-mask-anno/0/00007_nose.png"
    mask.write_bytes(mask.read_bytes()[:200])
    with pytest.raises(RejectedError, match="mask does not decode: nose: "):
        read(tmp_path, 7)


def test_paper_split_is_6_2_2_and_follows_the_seed(celebamask: Path):
    split = split_keys(celebamask, "paper")
    assert {name: len(keys) for name, keys in split.items()} == {"train": 6, "val": 2, "test": 2}
    everything = [key for keys in split.values() for key in keys]
    assert sorted(everything) == [f"{number:05d}" for number in range(1995, 2005)]
    assert split == split_keys(celebamask, "paper")
    assert split != split_keys(celebamask, "paper", seed=1)


def test_official_split_goes_by_the_number_of_the_original_file(celebamask: Path):
    """At both borders `orig_idx` would say otherwise."""
    borders = {1995: 162770, 1996: 162771, 1997: 182637, 1998: 182638}
    lines = ["idx\torig_idx\torig_file"]
    for number in range(1995, 2005):
        original = borders.get(number, 1)
        lines.append(f"{number}        {original - 1}        {original:06d}.jpg")
    mapping = celebamask / "CelebA-HQ-to-CelebA-mapping.txt"
    mapping.write_text("\n".join(lines) + "\n")
    split = split_keys(celebamask, "official")
    assert split["val"] == ["01996", "01997"]
    assert split["test"] == ["01998"]
    assert split["train"] == ["01995", *(f"{number:05d}" for number in range(1999, 2005))]

    mapping.write_text("idx orig_idx orig_file\n7 6 000007.jpg\n")
    none = r"mapping.txt has a line for none of the 10 images, expected .* CelebA-HQ-img/1995.jpg"
    with pytest.raises(ValueError, match=none):
        split_keys(celebamask, "official")
    mapping.write_text("header\n1995 nonsense\n")
    with pytest.raises(ValueError, match=r"expected '<idx> <orig_idx> <orig_file>'"):
        split_keys(celebamask, "official")
    mapping.unlink()
    with pytest.raises(ValueError, match=r"--split official needs .*mapping.txt"):
        split_keys(celebamask, "official")


def test_split_file(celebamask: Path, tmp_path: Path):
    file = tmp_path / "split.json"
    file.write_text(json.dumps({"train": ["02001", "01999"], "test": ["01995"]}))
    assert split_keys(celebamask, str(file)) == {
        "train": ["02001", "01999"],
        "val": [],
        "test": ["01995"],
    }
    for malformed in ('{"training": []}', '{"train": [1995]}', "[]"):
        file.write_text(malformed)
        with pytest.raises(ValueError, match="must be"):
            split_keys(celebamask, str(file))
    with pytest.raises(ValueError, match=r"no split file at .*papr"):
        split_keys(celebamask, "papr")


def test_lists_are_utf_8(celebamask: Path, tmp_path: Path):
    """With a byte order mark or without, as editors under Windows save them."""
    mapping = celebamask / "CelebA-HQ-to-CelebA-mapping.txt"
    lines = ["idx orig_idx orig_file", *(f"{n} 0 000001.jpg" for n in range(1995, 2005))]
    split = tmp_path / "split.json"
    keys = {"train": [f"{number:05d}" for number in range(1995, 2005)], "val": [], "test": []}
    for file, rule, text in (
        (mapping, "official", "\n".join(lines)),
        (split, str(split), json.dumps(keys)),
    ):
        file.write_text(text, "utf-8-sig")
        assert split_keys(celebamask, rule) == keys
        file.write_bytes(b"\xff\xfe" + text.encode("utf-16-le"))
        refused = rf"/{file.name} must be UTF-8, got byte 0xff at 0: save it as UTF-8"
        with pytest.raises(ValueError, match=refused):
            split_keys(celebamask, rule)


def test_source_of_another_layout_is_refused(helen: Path):
    with pytest.raises(ValueError, match=r"no images at .*CelebA-HQ-img"):
        split_keys(helen, "paper")


def test_files_that_are_no_images_are_passed_over(celebamask: Path):
    (celebamask / "CelebA-HQ-img/Thumbs.db").write_bytes(b"x")
    (celebamask / "CelebA-HQ-img/._1995.jpg").write_bytes(b"x")
    (celebamask / "CelebAMask-HQ-mask-anno/0/._01995_skin.png").write_bytes(b"x")
    listing = LAYOUT.list_items(open_location(celebamask), "paper", 0, False)
    assert len(listing.items) == 10
    assert listing.rejected == ()
