"""What a worker makes of a task, and the driver of what workers return; without Ray."""

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from PIL import Image

import cluster.parsing.job
from cluster.config import ParsingJobConfig
from cluster.parsing.job import MIN_TASKS_PER_WORKER, ParseTask, run_parsing
from cluster.workers.allocation import WorkerAllocation
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.outputs.output_files import ENDINGS
from stn_icnn.inference.parse_options import ParseOptions
from stn_icnn.inference.photographs import MOST_UNFORESEEN
from stn_icnn.inference.photos.decoding import DecodedPhoto
from stn_icnn.storage import Folder
from tests.damaged_photos import write_damaged_photos

ALLOCATION = WorkerAllocation(
    num_workers=1, cpus_per_worker=1, use_gpu=False, loader_processes=0, max_failures=0
)
OPTIONS = ParseOptions.read()
ODD_PX = (13, 17)


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was put into Ray's store is itself; tasks run one after the other, here."""

    def from_items(items: Sequence[Any], **_: Any) -> "Table":
        return Table(items)

    for name in ("get", "put"):
        monkeypatch.setattr(ray, name, lambda content: content)
    monkeypatch.setattr(ray.data, "from_items", from_items)
    for name in ("require_readable", "require_shared", "_silence_ray_data"):
        monkeypatch.setattr(cluster.parsing.job, name, lambda *_: None)
    monkeypatch.setattr(cluster.parsing.job, "join_cluster", lambda: False)
    monkeypatch.setattr(cluster.parsing.job, "allocate_workers", lambda *_: ALLOCATION)


class Table:
    """As much of a table of Ray Data as the job uses."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self.rows = rows

    def map(self, made: Any, fn_constructor_args: Sequence[Any], **_: Any) -> "Table":
        self.task = made(*fn_constructor_args)
        return self

    def iter_rows(self) -> Iterator[Mapping[str, Any]]:
        return (self.task(row) for row in self.rows)


def settings(model: Path, folder: Path, **others: Any) -> ParsingJobConfig:
    places = {"input": str(folder / "in"), "out": str(folder / "out")}
    return ParsingJobConfig(model=str(model), **places, **others)


def save(folder: Path, **sizes: tuple[int, int]) -> None:
    """Writes pictures by their names without suffix, and their sizes."""
    folder.mkdir(exist_ok=True)
    for name, size in sizes.items():
        Image.effect_noise(size, 90).convert("RGB").save(folder / f"{name}.png")


def odd(number: int) -> dict[str, tuple[int, int]]:
    """Pictures in which the model fails, the first by name."""
    return {f"0{i}": ODD_PX for i in range(number)}


@pytest.fixture
def fragile_model(monkeypatch: pytest.MonkeyPatch) -> None:
    parse_all = FaceParser.parse_all

    def fragile(parser: FaceParser, given: list[DecodedPhoto], *how: object) -> object:
        if any(photo.size == ODD_PX for photo in given):
            raise RuntimeError("a bug")
        return parse_all(parser, given, *how)

    monkeypatch.setattr(FaceParser, "parse_all", fragile)


@pytest.mark.slow
def test_each_of_a_mixed_task_is_right_or_named(sure_parent: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    sound = write_damaged_photos(source, 48, seed=2)
    for i, path in enumerate(sorted(source.iterdir())):
        if i % 3:  # leaves four of each damage
            path.unlink()
    small = {f"small{px}": (px, 6 - px) for px in range(1, 6)}
    save(source, **small)
    names = sorted(path.name for path in source.iterdir())
    content = sure_parent.read_bytes()
    task = ParseTask(content, Folder(source), Folder(out), OPTIONS, ALLOCATION, 50)  # type: ignore[arg-type]
    row = task(
        {"paths": [os.fsencode(name) for name in names], "are_named_in_full": [False] * len(names)}
    )
    assert row["error"] == b""
    assert sorted(map(os.fsdecode, row["paths"])) == names
    failures = {
        os.fsdecode(path): os.fsdecode(why)
        for path, why in zip(row["paths"], row["failures"], strict=True)
    }
    endings = [ENDINGS[kind] for kind in OPTIONS.kinds]
    for name, why in failures.items():
        written = [(out / f"{Path(name).stem}{ending}").exists() for ending in endings]
        assert written == [not why] * 3, name
    assert not any(failures[f"{name}.png"] for name in small)
    for name, size in small.items():
        assert Image.open(out / f"{name}.png").size == size
    parser = FaceParser.load(sure_parent, "cpu")
    whole = [name for name in names if name in sound]
    assert len(whole) == 4
    for name in whole:
        assert not failures[name]
        labels = np.asarray(Image.open(out / f"{Path(name).stem}.png"))
        assert (labels != parser.parse(sound[name]).labels).mean() < 2e-3, name


@pytest.mark.usefixtures("fragile_model")
@pytest.mark.slow
def test_odd_ones_in_one_task_do_not_end_a_job_in_which_others_are_done(
    tiny_parent: Path, tmp_path: Path
) -> None:
    num_sound = (MOST_UNFORESEEN + 2) * MIN_TASKS_PER_WORKER - MOST_UNFORESEEN
    sound = {f"z{i}": (30, 30) for i in range(num_sound)}  # two of them in the first task
    save(tmp_path / "in", **odd(MOST_UNFORESEEN), **sound)
    result = run_parsing(settings(tiny_parent, tmp_path))
    assert (result["parsed"], result["failed"]) == (num_sound, MOST_UNFORESEEN)
    again = run_parsing(settings(tiny_parent, tmp_path))
    assert (again["skipped"], again["failed"]) == (num_sound, MOST_UNFORESEEN)


@pytest.mark.usefixtures("fragile_model")
def test_where_all_fail_the_job_ends_without_the_advice_to_go_on(
    tiny_parent: Path, tmp_path: Path
) -> None:
    save(tmp_path / "in", **odd(MOST_UNFORESEEN + 30))
    with pytest.raises(ValueError, match=r"all photographs fail, .*RuntimeError: a bug$"):
        run_parsing(settings(tiny_parent, tmp_path))
    listed = json.loads((tmp_path / "out" / "failed.json").read_text())
    assert MOST_UNFORESEEN <= len(listed) < MOST_UNFORESEEN + 30


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left"), "No space left; the same command goes on"),
        (OSError(), "OSError; the same command goes on"),
        (KeyboardInterrupt(), "^$"),
    ],
)
def test_what_ends_the_job_does_not_hide_what_failed_before(
    tiny_parent: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    said: str,
) -> None:
    save(tmp_path / "in", z=(30, 30))
    (tmp_path / "in" / "a.jpg").write_bytes(b"text")
    write = Folder.write

    def ended(folder: Folder, path: str, data: bytes) -> None:
        if path.startswith("z"):
            raise error
        write(folder, path, data)

    monkeypatch.setattr(Folder, "write", ended)
    with pytest.raises(type(error), match=said):
        run_parsing(settings(tiny_parent, tmp_path))
    [failed] = json.loads((tmp_path / "out" / "failed.json").read_text())
    assert failed["photo"] == "a.jpg"


def test_where_the_list_of_failures_cannot_be_written_it_is_printed(
    tiny_parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    save(tmp_path / "in", z=(30, 30))
    (tmp_path / "in" / "a.jpg").write_bytes(b"text")
    write = Folder.write

    def full(folder: Folder, path: str, data: bytes) -> None:
        if path != "parse.json":
            raise OSError(errno.ENOSPC, "No space left")
        write(folder, path, data)

    monkeypatch.setattr(Folder, "write", full)
    with pytest.raises(OSError, match="the same command goes on"):
        run_parsing(settings(tiny_parent, tmp_path))
    assert "a.jpg: image does not decode" in capsys.readouterr().err


def test_an_input_that_a_submitted_job_s_copy_lacks_is_named(
    tiny_parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "_ray_pkg_0123"
    copy.mkdir()
    monkeypatch.chdir(copy)
    job = ParsingJobConfig(model=str(tiny_parent), input="photos", out=str(tmp_path / "out"))
    with pytest.raises(ValueError, match=r"the input folder photos is relative, and the copy"):
        run_parsing(job)


def test_boxes_say_where_faces_are_and_belong_to_the_output(
    tiny_parent: Path, tmp_path: Path
) -> None:
    save(tmp_path / "in", a=(60, 44), b=(40, 72))
    boxes, others = tmp_path / "boxes.csv", tmp_path / "others.csv"
    boxes.write_text("a.png,5,8,25,36\na.png,35,8,55,36\n")
    others.write_text("b.png,5,8,25,36\n")
    job = settings(tiny_parent, tmp_path, boxes=str(boxes), write="labels,windows")
    result = run_parsing(job)
    assert (result["parsed"], result["faces"], result["without_face"]) == (2, 2, 1)
    assert not np.asarray(Image.open(tmp_path / "out" / "b.png")).any()
    told = json.loads((tmp_path / "out" / "a_windows.json").read_text())
    assert [face["frame"]["x"] for face in told["faces"]] == [15, 45]
    assert run_parsing(job)["skipped"] == 2
    for changed in ({"boxes": str(others)}, {"boxes": None}):
        with pytest.raises(ValueError, match=r"other settings \(boxes: .*another --out"):
            run_parsing(replace(job, **changed))
    with pytest.raises(ValueError, match="framing 'found' needs boxes"):
        run_parsing(replace(job, boxes=None, framing="found"))


def test_the_output_of_an_earlier_version_is_gone_on_with(
    tiny_parent: Path, tmp_path: Path
) -> None:
    """Its record tells model and input alone."""
    save(tmp_path / "in", a=(60, 44))
    job = settings(tiny_parent, tmp_path)
    assert run_parsing(job)["parsed"] == 1
    record = tmp_path / "out" / "parse.json"
    known = json.loads(record.read_text())
    record.write_text(json.dumps({name: known[name] for name in ("model", "input")}))
    assert run_parsing(job)["skipped"] == 1
