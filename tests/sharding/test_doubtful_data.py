"""Raw data sets that are wrong as a whole: what is read as meant, what is told, what is refused."""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sharding.cli import main
from sharding.manifest import load_manifest
from tests.sharding.conftest import FACE

MASKS = "CelebAMask-HQ-mask-anno"
Change = Callable[[Image.Image], Image.Image]


def shard(layout: str, source: Path, out: Path, *options: object) -> int:
    """In this process: a worker's start takes seconds."""
    words = [layout, "--source", source, "--out", out, "--workers", 1, *options]
    return main([str(word) for word in words])


def labels_in(out: Path) -> dict[str, np.ndarray]:
    found = {}
    for shard in out.rglob("*.tar"):
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.name.endswith(".png"):
                    png = io.BytesIO(tar.extractfile(member).read())
                    found[member.name] = np.asarray(Image.open(png))
    return found


def change_masks(root: Path, change: Change) -> None:
    for path in root.rglob("*.png"):
        change(Image.open(path).convert("L")).save(path)


def through_jpeg(mask: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    mask.convert("RGB").save(buffer, "JPEG", quality=75)
    return Image.open(buffer)


def smoothed(mask: Image.Image) -> Image.Image:
    doubled = mask.resize((1024, 1024), Image.Resampling.BICUBIC)
    return doubled.resize((512, 512), Image.Resampling.LANCZOS)


def values(change: Callable[[int], int]) -> Change:
    return lambda mask: mask.point(change)


@pytest.fixture
def exact(celebamask: Path, tmp_path: Path) -> dict[str, np.ndarray]:
    """The labels of `celebamask` as it is drawn, which the masks are changed after."""
    assert shard("celebamask", celebamask, tmp_path / "exact") == 0
    return labels_in(tmp_path / "exact")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "is_soft"),
    [
        (through_jpeg, True),
        (smoothed, True),
        (values(lambda value: max(value, 1)), True),
        (values(lambda value: value // 255), False),
    ],
    ids=["JPEG", "smooth", "background of 1", "0 and 1"],
)
def test_masks_of_other_values_give_the_same_labels(
    change: Change,
    is_soft: bool,
    exact: dict[str, np.ndarray],
    celebamask: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
):
    change_masks(celebamask, change)
    capsys.readouterr()
    assert shard("celebamask", celebamask, tmp_path / "out") == 0
    found = labels_in(tmp_path / "out")
    assert found.keys() == exact.keys()
    for name, labels in found.items():
        assert np.count_nonzero(labels != exact[name]) < 0.001 * labels.size  # at the borders
    told = capsys.readouterr().err
    warning = "warning: 10 of 10 faces have masks with values between 0 and 255, which were cut at"
    assert (warning in told) == is_soft
    main(["inspect", str(tmp_path / "out"), "--sheet", str(tmp_path / "sheet.png")])
    assert (warning in capsys.readouterr().out) == is_soft


def test_masks_through_jpeg_are_cut_and_counted(
    draw_celebamask: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture
):
    """Every value above 0 was of the part once: parts became a fifth too large."""
    draw_celebamask(tmp_path / "raw", 7)
    change_masks(tmp_path / "raw", through_jpeg)
    draw_celebamask(tmp_path / "raw", 8)
    draw_celebamask(tmp_path / "raw", 9)
    shard("celebamask", tmp_path / "raw", tmp_path / "out")
    through, *exact = (labels for _, labels in sorted(labels_in(tmp_path / "out").items()))
    assert np.count_nonzero(through != exact[0]) < 0.001 * through.size
    assert "warning: 1 of 3 faces have masks with values between" in capsys.readouterr().err
    assert load_manifest(tmp_path / "out").num_soft_masks == 1


def test_masks_of_middling_values_are_rejected(
    draw_celebamask: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture
):
    raw = tmp_path / "raw"
    for number in (1995, 1996):
        draw_celebamask(raw, number)
    nose = raw / f"{MASKS}/0/01996_nose.png"
    Image.open(nose).point(lambda value: value // 2).save(nose)
    assert shard("celebamask", raw, tmp_path / "out", "--max-rejected", 0.5) == 0
    reason = "mask values not usable: nose must have 0 and 255, or 0 and 1, got 0 to 127"
    told = capsys.readouterr()
    assert f"rejected CelebA-HQ-img/1996.jpg: {reason}\n" in told.out
    assert "warning" not in told.err


def test_exact_masks_keep_their_fingerprint(helen: Path, tmp_path: Path):
    """What is doubtful is in a manifest; another holds what it has always held."""
    shard("helen", helen, tmp_path / "out")
    content = json.loads((tmp_path / "out/manifest.json").read_bytes())
    assert not {"num_soft_masks", "rare_classes"} & content.keys()
    told = content.pop("fingerprint")
    assert hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest() == told


def test_a_part_that_is_missing_in_a_whole_data_set_is_told(
    draw_celebamask: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture
):
    """When the shards are made, again when they are there, by `verify` and by `inspect`."""
    for number in (7, 8, 9):
        draw_celebamask(tmp_path / "raw", number, {p: b for p, b in FACE.items() if p != "l_eye"})
    warning = "warning: left_eye is in 0 of 3 faces: are its masks missing, or named otherwise?\n"
    out = tmp_path / "out"
    for _ in range(2):
        assert shard("celebamask", tmp_path / "raw", out) == 0
        assert capsys.readouterr().err.count(warning) == 1
    assert main(["verify", str(out)]) == 0
    told = capsys.readouterr()
    assert warning in told.err
    assert told.out == f"{out}: sound, but 1 warning\n"
    main(["inspect", str(out), "--sheet", str(tmp_path / "sheet.png")])
    assert warning in capsys.readouterr().out


def test_inverted_maps_are_refused_with_the_cause(
    helen: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    """They gave labels along the borders of background and skin alone."""
    change_masks(helen / "labels", values(lambda value: 255 - value))
    assert shard("helen", helen, tmp_path / "out") == 2
    reason = "maps not usable: they add up to 10.0 a pixel, must to 1: are they inverted?"
    assert f"rejected images/11_1.jpg: {reason}\n" in capsys.readouterr().err


def draw_without_parts(draw_celebamask: Callable[..., None], root: Path) -> None:
    for number in (7, 8, 9):
        draw_celebamask(root, number, {part: FACE[part] for part in ("skin", "hair")})


def test_a_data_set_without_any_part_is_refused_until_it_is_mended(
    draw_celebamask: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture
):
    raw, out = tmp_path / "raw", tmp_path / "out"
    draw_without_parts(draw_celebamask, raw)
    assert shard("celebamask", raw, out) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("sharding celebamask: error: none of left_brow, right_brow, left_eye, ")
    assert "is in 20% of the faces: are the masks inverted" in told
    assert not (out / "manifest.json").exists()
    for number in (7, 8, 9):
        draw_celebamask(raw, number)
    assert shard("celebamask", raw, out) == 0
    assert main(["verify", str(out)]) == 0


def test_verify_and_inspect_tell_of_a_data_set_without_any_part(
    draw_celebamask: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    """An earlier version of this software has made it."""
    draw_without_parts(draw_celebamask, tmp_path / "raw")
    with monkeypatch.context() as patch:
        patch.setattr("sharding.packing.building.rare_classes", lambda *_: {})
        patch.setattr("sharding.packing.building.lacks_all_parts", lambda *_: "")
        assert shard("celebamask", tmp_path / "raw", tmp_path / "out") == 0
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "out")]) == 1
    told = capsys.readouterr()
    assert told.out.startswith("none of left_brow, right_brow, ")
    assert "warning: nose is in 0 of 3 faces" in told.err
    main(["inspect", str(tmp_path / "out"), "--sheet", str(tmp_path / "sheet.png")])
    told = capsys.readouterr().out.splitlines()
    assert len([line for line in told if line.startswith("error: none of left_brow, right_")]) == 1
    assert "warning: nose is in 0 of 3 faces: are its masks missing, or named otherwise?" in told


def test_inspect_names_a_label_map_that_does_not_decode(
    helen: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    assert shard("helen", helen, tmp_path / "out") == 0
    tar = tmp_path / "out/train/000000.tar"
    tar.write_bytes(tar.read_bytes().replace(b"IHDR", b"IHDX"))
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "out"), "--sheet", str(tmp_path / "sheet.png")]) == 2
    told = r"error: the label map of 1\d_1 does not decode: `python -m sharding verify` tells"
    assert re.search(told, capsys.readouterr().err)


def test_a_mapping_file_without_its_header_keeps_its_first_face(celebamask: Path, tmp_path: Path):
    rows = [f"{number} {number + 1} {number + 2:06d}.jpg\n" for number in range(1995, 2005)]
    mapping = celebamask / "CelebA-HQ-to-CelebA-mapping.txt"
    manifests = []
    for name, header in (("with", "idx orig_idx orig_file\n"), ("without", "")):
        mapping.write_text("".join([header, *rows]))
        options = ("--split", "official", "--limit", 1, "--max-rejected", 1)
        assert shard("celebamask", celebamask, tmp_path / name, *options) == 0
        manifests.append((tmp_path / name / "manifest.json").read_bytes())
    assert manifests[0] == manifests[1]
    assert labels_in(tmp_path / "without").keys() == {"01995.png"}


def test_a_first_row_that_is_cut_off_is_no_header(
    celebamask: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    rows = [f" {number} {number + 1} {number + 2:06d}.jpg\n" for number in range(1995, 2005)]
    rows[0] = " 1995 1996 0019\n"
    (celebamask / "CelebA-HQ-to-CelebA-mapping.txt").write_text("".join(rows))
    assert shard("celebamask", celebamask, tmp_path / "out", "--split", "official") == 2
    expected = "expected '<idx> <orig_idx> <orig_file>', got ' 1995 1996 0019'"
    assert expected in capsys.readouterr().err


def no_masks(root: Path) -> None:
    (root / MASKS).rename(root.parent / "elsewhere")


def misnamed_masks(root: Path) -> None:
    (root / MASKS).rename(root / "CelebA-HQ-mask-anno")


def one_level_down(root: Path) -> None:
    (root / "archive").mkdir()
    for folder in ("CelebA-HQ-img", MASKS):
        (root / folder).rename(root / "archive" / folder)


def no_maps(root: Path) -> None:
    (root / "labels").rename(root / "masks")


def endings_in_lists(root: Path) -> None:
    for file in root.glob("*.txt"):
        lines = [line for line in file.read_text().splitlines() if line]
        file.write_text("".join(f"{line}.jpg\n" for line in lines))


def empty_list(root: Path) -> None:
    (root / "exemplars.txt").write_text("")


@pytest.mark.parametrize(
    ("layout", "change", "told"),
    [
        ("celebamask", no_masks, "no masks at .*/CelebAMask-HQ-mask-anno: --source must hold Cele"),
        (
            "celebamask",
            misnamed_masks,
            "no masks at .*; there are the folders CelebA-HQ-img, CelebA-HQ-mask-anno$",
        ),
        (
            "celebamask",
            one_level_down,
            "no images at .*; it is in .*/raw-celebamask/archive: give that as --source$",
        ),
        ("helen", no_maps, "no label maps at .*/labels: .*; there are the folders images, masks$"),
        (
            "helen",
            endings_in_lists,
            r"exemplars.txt has all names with \.jpg: take it away, so that '11_1.jpg' becomes "
            "'11_1'$",
        ),
        (
            "helen",
            empty_list,
            "exemplars.txt is empty, and 4 photographs are in no list: restore it, or .*--split",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_reason_and_cure_are_one_line(
    layout: str,
    change: Callable[[Path], None],
    told: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture,
):
    root = request.getfixturevalue(layout)
    change(root)
    assert shard(layout, root, tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    _, error = line.split(": error: ")
    assert re.search(told, error), error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({}, "names no image: list some as its train, val or test"),
        ({"train": [], "test": []}, "names no image"),
        ({"train": ["11_1.jpg", "12_1.jpg"]}, "train of the split file has all names with .jpg"),
    ],
)
def test_split_files_that_name_nothing_usable(
    content: dict[str, list[str]],
    told: str,
    helen: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
):
    split = tmp_path / "split.json"
    split.write_text(json.dumps(content))
    assert shard("helen", helen, tmp_path / "out", "--split", split) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
