"""The model that comes with the project: small, whole, scored on faces it has not seen."""

import csv
import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from sharding.layouts.splits import shuffled_split
from sharding.packing.building import build
from sharding.packing.recipe import Recipe
from sharding.procedural.raw_faces import write_faces
from stn_icnn.config_dict import from_stored, to_stored
from stn_icnn.context import LocalContext
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.inference.command import main
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.faces.frame import BOX_CENTRE_Y, BOX_TO_SIDE, FaceFrame
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.checkpoint import Checkpoint, load_checkpoint
from stn_icnn.networks.execution import prepare_model
from stn_icnn.presets import PRESETS
from stn_icnn.reporting.tables import f1_headings
from stn_icnn.scoring.confusion import count_confusions, parse_batch
from stn_icnn.scoring.f1 import f1_rows

SHIPPED = Path(__file__).parents[2] / "models" / "celebamask"
FACES = os.environ.get("STN_ICNN_FACES")
NUM_SCORED = 40
NUM_FOUND = 6


@pytest.fixture(scope="module")
def shipped() -> Checkpoint:
    return load_checkpoint(SHIPPED)


def test_it_is_small_and_says_what_it_is(shipped: Checkpoint) -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 8 * 2**20
    assert sum(p.numel() for p in shipped.model.parameters()) <= 2_000_000
    config = json.loads((SHIPPED / "config.json").read_text())
    assert config == json.loads(json.dumps(to_stored(shipped.config)))
    card = (SHIPPED / "README.md").read_text()
    assert "non-commercial" in card
    with (SHIPPED / "f1.csv").open() as file:
        scored = next(csv.DictReader(file))
    rows = [row for row in f1_headings(PAPER9) if scored[row]]
    assert f"| {' | '.join(f'{float(scored[row]):.3f}' for row in rows)} |" in card


def test_the_preset_celebamask_tuned_holds_its_settings() -> None:
    stored = json.loads((SHIPPED / "config.json").read_text())
    assert PRESETS["celebamask-tuned"]() == from_stored(stored)


def test_the_command_parses_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_faces("celebamask", 1, tmp_path / "raw", workers=1)
    (photo,) = (tmp_path / "raw").rglob("*.jpg")
    out = tmp_path / "labels"
    assert main(["parse", str(photo), "--framing", "whole", "--out", str(out)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["parsed"] == 1
    with Image.open(photo) as image, Image.open(out / f"{photo.stem}.png") as labels:
        assert labels.size == image.size
        assert len(np.unique(np.asarray(labels))) > 1


@pytest.mark.slow
def test_ten_photographs_of_48_megapixels_are_parsed_within_2_gib(tmp_path: Path) -> None:
    """The command, a process of its own, writes their overlays too."""
    write_faces("celebamask", 1, tmp_path / "raw", workers=1)
    (face,) = (tmp_path / "raw").rglob("*.jpg")
    (tmp_path / "in").mkdir()
    Image.open(face).resize((6000, 8000)).save(tmp_path / "in" / "0.jpg", quality=90)
    for i in range(1, 10):
        (tmp_path / "in" / f"{i}.jpg").hardlink_to(tmp_path / "in" / "0.jpg")
    command = [sys.executable, "-m", "stn_icnn.inference.command", "parse", str(tmp_path / "in")]
    command += ["--model", str(SHIPPED), "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parsing:
        assert parsing.stdout is not None
        result = json.loads(parsing.stdout.read().splitlines()[-1])
        _, status, usage = os.wait4(parsing.pid, 0)
        parsing.returncode = os.waitstatus_to_exitcode(status)
    assert parsing.returncode == 0
    assert result["parsed"] == 10
    assert usage.ru_maxrss < 2 * 2**20  # KiB
    width, height = Image.open(tmp_path / "out" / "9_overlay.jpg").size
    assert (width, height > 8000) == (6000, True)  # with its legend


@pytest.mark.slow
@pytest.mark.skipif(not FACES, reason="STN_ICNN_FACES names no folder of real faces")
def test_it_labels_faces_that_it_has_not_seen(shipped: Checkpoint, tmp_path: Path) -> None:
    """Some of the test split: F1 of so few may differ a little from the card's."""
    expand = _expand()
    numbers = {f"{30000 + int(path.stem)}": path.stem for path in _photographs()}
    held_out = shuffled_split(numbers, seed=0)["test"][:NUM_SCORED]
    (tmp_path / "raw" / "CelebA-HQ-img").mkdir(parents=True)
    for number in held_out:
        expand.write_celebamask(tmp_path / "raw", numbers[number])
    (tmp_path / "split.json").write_text(json.dumps({"test": held_out}))
    recipe = Recipe(layout="celebamask", split=str(tmp_path / "split.json"))
    build(tmp_path / "raw", tmp_path / "shards", recipe)
    faces = ShardedFaces([str(tmp_path / "shards" / "test" / "000000.tar")], PAPER9)
    model = prepare_model(shipped.model.eval(), shipped.config, torch.device("cpu"))
    counts = count_confusions(
        {"it": lambda batch: parse_batch(model, batch)}, faces, LocalContext()
    )
    assert counts["it"].shape == (NUM_SCORED, PAPER9.num_classes, PAPER9.num_classes)
    overall = f1_rows(counts["it"].sum(dim=0), PAPER9)["overall"]
    assert overall is not None
    assert overall > 0.91


@pytest.mark.slow
@pytest.mark.skipif(not FACES, reason="STN_ICNN_FACES names no folder of real faces")
@pytest.mark.parametrize("roll_deg", [0, 30, 90, 180])
def test_it_finds_faces_that_are_small_and_turned(shipped: Checkpoint, roll_deg: int) -> None:
    parser, near = FaceParser(shipped, "cpu"), 0
    for i, path in enumerate(_photographs()[:NUM_FOUND]):
        place = FaceFrame(300 + 50 * i, 260 + 20 * i, 320, roll_deg)
        near += any(
            _is_near(face.frame, place) for face in parser.parse(_pasted(path, place)).faces
        )
    assert near >= NUM_FOUND - 1


@pytest.mark.slow
@pytest.mark.skipif(not FACES, reason="STN_ICNN_FACES names no folder of real faces")
def test_it_sees_the_roll_of_a_face_of_which_a_box_tells_none(shipped: Checkpoint) -> None:
    parser, place, near = FaceParser(shipped, "cpu"), FaceFrame(500, 400, 320, 25), 0
    half, y = place.side / BOX_TO_SIDE / 2, place.y + (BOX_CENTRE_Y - 0.5) * place.side
    box = [place.x - half, y - half, place.x + half, y + half]
    for path in _photographs()[:NUM_FOUND]:
        (face,) = parser.parse(_pasted(path, place), boxes=box).faces
        near += _is_near(face.frame, place)
    assert near >= NUM_FOUND - 1


def test_it_finds_no_face_where_there_is_none(shipped: Checkpoint) -> None:
    rng = np.random.default_rng(0)
    blots = [rng.integers(0, 256, (6, 8, 3), np.uint8) for _ in range(5)]
    photos = [Image.fromarray(few).resize((800, 600)) for few in blots]
    photos.append(Image.new("RGB", (600, 800), (90, 120, 150)))
    assert [len(photo.faces) for photo in FaceParser(shipped, "cpu")(photos)] == [0] * 6


def _pasted(path: Path, place: FaceFrame) -> Image.Image:
    """A photograph of a face, turned, on a plain ground of 1000 x 800 px."""
    with Image.open(path) as photo:
        face = photo.convert("RGB").resize((round(place.side), round(place.side)))
    mask = Image.new("L", face.size, 255)
    turn = {"expand": True, "resample": Image.Resampling.BICUBIC}
    face, mask = (image.rotate(-place.roll_deg, **turn) for image in (face, mask))
    ground = Image.new("RGB", (1000, 800), (70, 110, 90))
    ground.paste(face, (round(place.x - face.width / 2), round(place.y - face.height / 2)), mask)
    return ground


def _is_near(frame: FaceFrame, place: FaceFrame) -> bool:
    apart = math.hypot(frame.x - place.x, frame.y - place.y) / place.side
    turned = abs((frame.roll_deg - place.roll_deg + 180) % 360 - 180)
    return apart < 0.08 and abs(math.log(frame.side / place.side)) < 0.2 and turned < 10


def _photographs() -> list[Path]:
    return sorted(Path(f"{FACES}/celebamask/images").glob("*.jpg"))


def _expand() -> ModuleType:
    """The script that writes these faces as CelebAMask-HQ ships."""
    spec = importlib.util.spec_from_file_location("expand", f"{FACES}/expand.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
