"""What can't be used is left out with its reason, and everything else is sharded."""

import errno
import json
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sharding.manifest import Manifest
from sharding.packing.building import Recipe, build
from sharding.packing.sample import read_samples
from sharding.packing.verify import verify
from stn_icnn.storage import Folder

Draw = Callable[..., None]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def no_image(file: Path) -> None:
    file.write_bytes(b"<html>404 Not Found</html>")


def sixteen_bits(file: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(file, "PNG")


def bomb(px: int) -> Callable[[Path], None]:
    """A PNG of some 70 bytes that says it is so large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    def spoil(file: Path) -> None:
        header = struct.pack(">IIBBBBB", px, px, 8, 2, 0, 0, 0)
        chunks = chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
        file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)

    return spoil


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def lost_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere.jpg")


def link_to_itself(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)


def gone(file: Path) -> None:
    file.unlink()


def of_size(width: int, height: int) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        Image.new("L", (width, height), 255).save(file, "PNG")

    return spoil


# What is done to the file -> the reason given, after "image " or "mask "; {part} of a mask alone.
FILE_FAULTS = {
    cut: "does not decode: {part}",
    empty: "empty: a file of 0 bytes",
    no_image: "does not decode: {part}not an image",
    sixteen_bits: "of 16 bits: mode I;16, convert it to 8 bits",
    bomb(8000): "too large: 8000 x 8000 px",
    bomb(60_000): "too large: Image size (3600000000 pixels) exceeds limit",
    lost_link: "not readable: a link that leads nowhere",
    link_to_itself: "not readable: Too many levels of symbolic links",
}
FOLDER_FAULT = {folder: "not readable: Is a directory"}


@dataclass
class Raw:
    """A raw data set in the making.

    Attributes:
        root: where it is.
        good: keys of faces that can be used.
        reasons: by source, how the reason begins for which it is rejected.
    """

    root: Path
    good: set[str] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)

    def spoil(self, spoil: Callable[[Path], None], path: str, reason: str, source: str) -> None:
        spoil(self.root / path)
        self.reasons[source] = reason


def keys_in(out: Path) -> set[str]:
    found = set()
    for shard in out.rglob("*.tar"):
        with shard.open("rb") as file:
            found |= {key for key, _ in read_samples(file)}
    return found


def check(raw: Raw, layout: str, out: Path, split: str = "paper") -> Manifest:
    """Shards it: what is listed as rejected, what is there, and that it is sound."""
    recipe = Recipe(layout=layout, split=split, shard_size=5, max_rejected=1)
    manifest = build(raw.root, out, recipe)
    found = {rejection.source: rejection.reason for rejection in manifest.rejected}
    begins = {source: found[source][: len(raw.reasons.get(source, ""))] for source in found}
    assert begins == raw.reasons
    assert len(found) == len(manifest.rejected)
    assert keys_in(out) == raw.good
    assert sum(manifest.num_samples.values()) == len(raw.good)
    assert verify(out) == []
    return manifest


def add_celebamask(raw: Raw, number: int, draw: Draw, **how: object) -> tuple[str, str]:
    """Draws a face; the paths of its image and of its nose's mask."""
    draw(raw.root, number, **how)
    nose = f"CelebAMask-HQ-mask-anno/{number // 2000}/{number:05d}_nose.png"
    return f"CelebA-HQ-img/{number}.jpg", nose


@pytest.fixture
def raw_celebamask(celebamask: Path) -> Raw:
    return Raw(celebamask, good={f"{number:05d}" for number in range(1995, 2005)})


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


@pytest.fixture
def raw_helen(helen: Path) -> Raw:
    return Raw(helen, good={"11_1", "12_1", "13_1", "14_2", "21_1", "31_1"})


def list_more(raw: Raw, names: list[str]) -> None:
    with (raw.root / "exemplars.txt").open("a") as file:
        file.writelines(f"{index} , {name}\n" for index, name in enumerate(names, 5))


def test_a_split_file_takes_a_few_of_a_poor_archive(raw_celebamask: Raw, tmp_path: Path):
    """The archive's own defects, in faces that the file does not name, do not stop it."""
    raw = raw_celebamask
    for name in ("a", "b", "c"):
        (raw.root / f"CelebA-HQ-img/{name}.jpg").write_bytes(b"of no id")
        (raw.root / f"CelebAMask-HQ-mask-anno/0/{name}_nose.png").write_bytes(b"without an image")
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["01995", "01996"], "test": ["02003"]}))
    recipe = Recipe(layout="celebamask", split=str(split), max_rejected=0)
    manifest = build(raw.root, tmp_path / "out", recipe)
    assert manifest.num_samples == {"train": 2, "val": 0, "test": 1}
    with pytest.raises(ValueError, match="6 of 16 items are rejected"):
        build(raw.root, tmp_path / "all", replace(recipe, split="paper", max_rejected=0.05))


def test_bad_files_of_helen(raw_helen: Raw, draw_helen: Draw, tmp_path: Path):
    raw = raw_helen
    names: list[str] = []

    def add(fault: str) -> tuple[str, str]:
        name = f"bad-{fault}-{len(names)}"
        names.append(name)
        draw_helen(raw.root, name)
        return f"images/{name}.jpg", f"labels/{name}/{name}_lbl06.png"

    faults = FILE_FAULTS | FOLDER_FAULT | {gone: "missing"}
    for spoil, reason in faults.items():
        image, nose = add("image")
        raw.spoil(spoil, image, f"image {reason.format(part='')}", image)
        image, nose = add("mask")
        raw.spoil(spoil, nose, f"mask {reason.format(part='lbl06: ')}", image)
    for size in ((99, 120), (100, 121), (120, 100)):
        image, nose = add("size")
        reason = "mask of another size: lbl06 must be 100 x 120 as its image, got {} x {}"
        raw.spoil(of_size(*size), nose, reason.format(*size), image)
    image, nose = add("folder")
    labels = (raw.root / nose).parent
    labels.rename(labels.with_suffix(".away"))
    labels.write_bytes(b"a file in the place of a folder")
    raw.reasons[image] = "mask not readable: Not a directory"
    away = f"labels/{labels.name}.away"
    raw.reasons[away] = f"labels without an image: no images/{labels.name}.away.jpg"
    nothing = {index: np.zeros((120, 100), np.uint8) for index in range(11)}
    draw_helen(raw.root, "nothing", maps=nothing)
    raw.reasons["images/nothing.jpg"] = "nothing labelled: all masks are empty"
    raw.reasons["images/never-there.jpg"] = "image missing"
    list_more(raw, [*names, "nothing", "never-there"])
    check(raw, "helen", tmp_path / "out")


def test_files_of_helen_that_nothing_names(raw_helen: Raw, draw_helen: Draw, tmp_path: Path):
    """Of a photograph that is lost it is said once. They are none of a split file's business."""
    raw = raw_helen
    images, labels = raw.root / "images", raw.root / "labels"
    (images / "12_1.jpg").rename(images / "12_1.JPG")
    (images / "old").mkdir()
    (images / "old/11_1.png").write_bytes((images / "11_1.jpg").read_bytes())
    gone(images / "13_1.jpg")
    for name in ("91_1", "92_1"):
        draw_helen(raw.root, name)
    gone(images / "92_1.jpg")
    for path in (images / "Thumbs.db", images / "._11_1.jpg", labels / "._1/._1_lbl00.png"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"of a system's own")
    (labels / "93_1").mkdir()
    (labels / "overview.png").write_bytes(b"of no face")

    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["11_1", "13_1"], "test": ["31_1"]}))
    raw.good = {"11_1", "31_1"}
    raw.reasons = {"images/13_1.jpg": "image missing"}
    check(raw, "helen", tmp_path / "chosen", str(split))

    raw.good = {"11_1", "14_2", "21_1", "31_1"}
    in_none = "image in no list: not in exemplars.txt, tuning.txt, testing.txt"
    raw.reasons |= {
        "images/old/11_1.png": "name not usable: expected images/11_1.jpg",
        "labels/92_1": "labels without an image: no images/92_1.jpg",
        "images/12_1.jpg": "image missing",
        "images/12_1.JPG": "name not usable: expected images/12_1.jpg",
        "images/91_1.jpg": in_none,
    }
    for rule in ("paper", "official"):
        check(raw, "helen", tmp_path / rule, rule)


def test_a_list_of_helen_that_was_cut_off_stops_the_run(raw_helen: Raw, tmp_path: Path):
    """Else the data set would be smaller than its archive, and nobody would know."""
    (raw_helen.root / "exemplars.txt").write_text("1 , 11_1\n")
    with pytest.raises(ValueError, match=r"3 of 6 items are rejected.*: image in no list 3"):
        build(raw_helen.root, tmp_path / "out", Recipe(layout="helen"))


def test_names_of_helen(raw_helen: Raw, draw_helen: Draw, tmp_path: Path):
    """No name leads out of the data set, though a face lies there."""
    raw = raw_helen
    secret = tmp_path / "secret/face"
    draw_helen(tmp_path / "secret", "face")
    (tmp_path / "secret/face.jpg").write_bytes((raw.root / "images/11_1.jpg").read_bytes())
    odd = ["../../secret/face", str(secret), "..", "a.b", "a b", "a,b", "ä", "a\\b", "*", "x" * 91]
    for name in odd:
        reason = f"name not usable: {name!r} in exemplars.txt, expected letters, digits, - and _"
        raw.reasons[f"images/{name}.jpg"] = reason
    raw.reasons["images/21_1.jpg"] = "listed twice: in exemplars.txt and tuning.txt"
    raw.reasons["images/12_1.jpg"] = "listed twice: in exemplars.txt and exemplars.txt"
    list_more(raw, [*odd, "21_1", "12_1"])
    manifest = check(raw, "helen", tmp_path / "out")
    assert manifest.num_samples == {"train": 4, "val": 1, "test": 1}


def test_names_in_a_split_file_of_helen(raw_helen: Raw, tmp_path: Path):
    raw, split = raw_helen, tmp_path / "split.json"
    names = {"train": ["11_1", "a.b", "31_1"], "val": ["21_1", "99_1", "21_1"], "test": ["31_1"]}
    split.write_text(json.dumps(names))
    raw.good = {"11_1", "21_1", "31_1"}
    where = "train of the split file"
    raw.reasons = {
        "images/a.b.jpg": f"name not usable: 'a.b' in {where}, expected letters, digits, - and _",
        "images/31_1.jpg": f"listed twice: in {where} and test of the split file",
        "images/99_1.jpg": "image missing",
        "images/21_1.jpg": "listed twice: in val of the split file and val of the split file",
    }
    manifest = check(raw, "helen", tmp_path / "out", str(split))
    assert manifest.num_samples == {"train": 1, "val": 1, "test": 1}


def test_rejects_of_the_listing_and_of_reading_are_one_sum(raw_helen: Raw, tmp_path: Path):
    raw = raw_helen
    list_more(raw, ["21_1"])
    (raw.root / "images/12_1.jpg").write_bytes(b"")
    recipe = Recipe(layout="helen", max_rejected=0.2)
    with pytest.raises(ValueError, match="2 of 7 items are rejected") as failed:
        build(raw.root, tmp_path / "out", recipe)
    assert str(failed.value).splitlines()[1:] == [
        "rejected images/21_1.jpg: listed twice: in exemplars.txt and tuning.txt",
        "rejected images/12_1.jpg: image empty: a file of 0 bytes",
    ]
    build(raw.root, tmp_path / "out", replace(recipe, max_rejected=0.3))
    with pytest.raises(ValueError, match="2 of 7 items are rejected"):  # though all is finished
        build(raw.root, tmp_path / "out", recipe)


def test_limit_takes_its_share_of_what_the_listing_rejects(raw_helen: Raw, tmp_path: Path):
    """Else the rejects of a whole archive would be held against a few faces of it."""
    raw = raw_helen
    list_more(raw, ["21_1"])
    recipe = Recipe(layout="helen", limit=3, max_rejected=0.2)
    assert build(raw.root, tmp_path / "sound", recipe).num_samples["train"] == 2
    (raw.root / "images/11_1.jpg").write_bytes(b"")
    whole = r"listed twice 1, image empty 1 \(all 1 of the listing counted\)"
    with pytest.raises(ValueError, match=rf"2 of 5 items .* share 0\.2 .*: {whole}"):
        build(raw.root, tmp_path / "out", recipe)


def failing_read(path: str, error: OSError) -> Callable[[Folder, str], bytes]:
    read = Folder.read

    def failing(self: Folder, asked: str) -> bytes:
        if asked == path:
            raise error
        return read(self, asked)

    return failing


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM], ids=errno.errorcode.get)
def test_unreadable_file_is_rejected(
    raw_helen: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
):
    for number, (what, path) in enumerate(
        (("image", "images/12_1.jpg"), ("mask", "labels/12_1/12_1_lbl03.png"))
    ):
        error = OSError(code, os.strerror(code))
        with monkeypatch.context() as patch:
            patch.setattr(Folder, "read", failing_read(path, error))
            raw_helen.reasons["images/12_1.jpg"] = f"{what} not readable: {os.strerror(code)}"
            raw_helen.good.discard("12_1")
            check(raw_helen, "helen", tmp_path / f"out{number}")


@pytest.mark.parametrize(
    "code",
    [errno.EIO, errno.ETIMEDOUT, errno.ECONNRESET, errno.ENOTCONN, errno.ESTALE, errno.EMFILE],
    ids=errno.errorcode.get,
)
@pytest.mark.parametrize("path", ["images/21_1.jpg", "labels/21_1/21_1_lbl03.png", "tuning.txt"])
def test_failing_network_is_no_ones_fault(
    helen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, code: int
):
    """The run fails, whatever share may be rejected, and then goes on with nothing left out."""
    recipe = Recipe(layout="helen", max_rejected=1)
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "read", failing_read(path, OSError(code, os.strerror(code))))
        with pytest.raises(OSError, match=os.strerror(code)):
            build(helen, out, recipe)
    assert not (out / "manifest.json").exists()
    assert build(helen, out, recipe).rejected == ()
    assert verify(out) == []


def test_failing_network_does_not_hide_files(
    raw_celebamask: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scandir = os.scandir

    def failing(path: str) -> object:
        if str(path).endswith("/0"):
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", failing)
        with pytest.raises(OSError, match="Stale file handle"):
            build(raw_celebamask.root, tmp_path / "out", Recipe(layout="celebamask"))
    check(raw_celebamask, "celebamask", tmp_path / "out")
