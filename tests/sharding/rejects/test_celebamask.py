"""What can't be used of CelebAMask-HQ is left out with its reason, everything else is sharded."""

import json
from pathlib import Path

from tests.sharding.rejects.spoiled_data import (
    FILE_FAULTS,
    FOLDER_FAULT,
    Draw,
    Raw,
    check,
    folder,
    gone,
    of_size,
)


def add_celebamask(raw: Raw, number: int, draw: Draw, **how: object) -> tuple[str, str]:
    """Draws a face; the paths of its image and of its nose's mask."""
    draw(raw.root, number, **how)
    nose = f"CelebAMask-HQ-mask-anno/{number // 2000}/{number:05d}_nose.png"
    return f"CelebA-HQ-img/{number}.jpg", nose


def test_bad_files_of_celebamask(raw_celebamask: Raw, draw_celebamask: Draw, tmp_path: Path):
    raw, number = raw_celebamask, 6000
    for what, faults in (("image", FILE_FAULTS), ("mask", FILE_FAULTS | FOLDER_FAULT)):
        for spoil, reason in faults.items():
            number += 1
            image, nose = add_celebamask(raw, number, draw_celebamask)
            part = "nose: " if what == "mask" else ""
            reason = f"{what} {reason.format(part=part)}"
            raw.spoil(spoil, image if what == "image" else nose, reason, image)
    for spoil, reason in (
        (of_size(600, 512), "image of another shape: must be square and at least 512 x 512, got"),
        (of_size(511, 511), "image of another shape: must be square and at least 512 x 512, got"),
    ):
        number += 1
        image, _ = add_celebamask(raw, number, draw_celebamask)
        raw.spoil(spoil, image, reason, image)
    number += 1
    image, nose = add_celebamask(raw, number, draw_celebamask)
    reason = "mask of another size: nose must be 512 x 512, got 256 x 128"
    raw.spoil(of_size(256, 128), nose, reason, image)
    image, _ = add_celebamask(raw, 7001, draw_celebamask, parts={})
    raw.reasons[image] = "no masks: no CelebAMask-HQ-mask-anno/3/07001_*.png"
    image, _ = add_celebamask(raw, 7002, draw_celebamask, parts={"nose": (0, 0, 0, 0)})
    raw.reasons[image] = "nothing labelled: all masks are empty"
    check(raw, "celebamask", tmp_path / "out")


def test_names_of_celebamask(raw_celebamask: Raw, draw_celebamask: Draw, tmp_path: Path):
    """Odd names, two images of one id, masks without an image and the reverse."""
    raw = raw_celebamask
    images = raw.root / "CelebA-HQ-img"
    good = (images / "1995.jpg").read_bytes()
    for name in ("12.5.jpg", "7_1.jpg", "face.jpg", "-3.jpg", "٣.jpg", "1234567890.jpg", "a/8.jpg"):
        (images / name).parent.mkdir(exist_ok=True)
        (images / name).write_bytes(good)
        raw.reasons[f"CelebA-HQ-img/{name}"] = "name not usable: expected CelebA-HQ-img/NUMBER.jpg"
    for name in ("01995.jpg", "1995.png"):
        (images / name).write_bytes(good)
        raw.reasons[f"CelebA-HQ-img/{name}"] = "same id twice: as CelebA-HQ-img/1995.jpg"
    for number, spoil in ((10, gone), (6001, folder)):
        image, _ = add_celebamask(raw, number, draw_celebamask)
        spoil(raw.root / image)
        masks = f"CelebAMask-HQ-mask-anno/{number // 2000}/{number:05d}_*.png"
        raw.reasons[masks] = "masks without an image: no such id"
    image, nose = add_celebamask(raw, 6002, draw_celebamask)
    (raw.root / nose).unlink()
    raw.good.add("06002")
    manifest = check(raw, "celebamask", tmp_path / "out")
    kinds = [rejection.kind for rejection in manifest.rejected]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "name not usable": 7,
        "same id twice": 2,
        "masks without an image": 2,
    }


def test_masks_that_are_not_where_they_are_looked_for(
    raw_celebamask: Raw, draw_celebamask: Draw, tmp_path: Path
):
    """Their faces would be taken to lack these parts."""
    raw = raw_celebamask
    masks = "CelebAMask-HQ-mask-anno"
    for number, moved, kind in (
        (6000, f"{masks}/0/06000_nose.png", "mask in the wrong folder"),
        (6001, f"{masks}/06001_nose.png", "mask in the wrong folder"),
        (6002, f"{masks}/3/06002_nose.PNG", "mask name not usable"),
        (6003, f"{masks}/3/06003_Nose.png", "mask name not usable"),
        (6004, f"{masks}/3/06004_nose.jpg", "mask name not usable"),
        (6005, f"{masks}/3/6005_nose.png", "mask name not usable"),
    ):
        image, nose = add_celebamask(raw, number, draw_celebamask)
        (raw.root / nose).rename(raw.root / moved)
        raw.reasons[image] = f"{kind}: {moved}, expected {nose}"
    _, nose = add_celebamask(raw, 6006, draw_celebamask)
    (raw.root / masks / "0/06006_nose.png").write_bytes((raw.root / nose).read_bytes())
    (raw.root / masks / "3/06006_smile.png").write_bytes(b"a part that is none of ours")
    raw.good.add("06006")
    (raw.root / masks / "3/07999_nose.PNG").write_bytes(b"a mask")
    raw.reasons[f"{masks}/3/07999_*.png"] = "masks without an image: no such id"
    check(raw, "celebamask", tmp_path / "out")


def test_images_that_the_mapping_of_celebamask_lacks(raw_celebamask: Raw, tmp_path: Path):
    raw = raw_celebamask
    lines = [f"{number} 0 000001.jpg\n" for number in range(1996, 2005)]
    mapping = raw.root / "CelebA-HQ-to-CelebA-mapping.txt"
    mapping.write_text("".join(["idx orig_idx orig_file\n", *lines]))
    raw.good.remove("01995")
    reason = "not in the mapping file: no line of CelebA-HQ-to-CelebA-mapping.txt has idx 1995"
    raw.reasons["CelebA-HQ-img/1995.jpg"] = reason
    check(raw, "celebamask", tmp_path / "out", "official")


def test_names_in_a_split_file_of_celebamask(raw_celebamask: Raw, tmp_path: Path):
    raw, split = raw_celebamask, tmp_path / "split.json"
    names = {
        "train": ["01995", "2001", "face", "../../secret", "01997"],
        "val": ["01996", "09999", "01996"],
        "test": ["01997"],
    }
    split.write_text(json.dumps(names))
    raw.good = {"01995", "01996", "01997"}
    where, expected = "train of the split file", "expected an id of five digits"
    raw.reasons = {
        f"CelebA-HQ-img/{name}.jpg": f"name not usable: {name!r} in {where}, {expected}"
        for name in ("2001", "face", "../../secret")
    }
    raw.reasons["CelebA-HQ-img/09999.jpg"] = "image missing"
    twice = f"listed twice: in {where} and test of the split file"
    raw.reasons["CelebA-HQ-img/1997.jpg"] = twice
    twice = "listed twice: in val of the split file and val of the split file"
    raw.reasons["CelebA-HQ-img/1996.jpg"] = twice
    manifest = check(raw, "celebamask", tmp_path / "out", str(split))
    assert manifest.num_samples == {"train": 1, "val": 1, "test": 1}
