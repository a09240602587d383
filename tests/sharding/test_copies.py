"""No photograph is in two splits, whatever it is called there."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from sharding.manifest import Rejection
from sharding.packing.building import build
from sharding.packing.recipe import Recipe
from sharding.packing.verify import verify
from sharding.packing.writer import ShardRecord, ShardTask

Draw = Callable[..., None]
RECIPE = Recipe(layout="helen", shard_size=2, max_rejected=0.5)
TRAIN = ("11_1", "12_1", "13_1", "14_2")  # all of one photograph


def contents(out: Path) -> dict[str, bytes]:
    files = (path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


@dataclass(frozen=True)
class Copier:
    root: Path
    draw: Draw

    def __call__(self, name: str, other: str) -> None:
        """Gives a face the photograph of another, and label maps that fit."""
        image = (self.root / f"images/{other}.jpg").read_bytes()
        width = {"1": 109, "2": 106, "3": 107}[other[0]]
        self.draw(self.root, name, image=image, size=(width, 120))


@pytest.fixture
def copy(helen: Path, draw_helen: Draw) -> Copier:
    return Copier(helen, draw_helen)


@pytest.mark.parametrize(
    ("copies", "left_out", "num_samples"),
    [
        ({"12_1": "31_1"}, {"12_1": "31_1 of test"}, (3, 1, 1)),
        ({"31_1": "14_2"}, dict.fromkeys(TRAIN, "31_1 of test"), (0, 1, 1)),
        ({"12_1": "21_1"}, {"12_1": "21_1 of val"}, (3, 1, 1)),
        ({"21_1": "31_1"}, {"21_1": "31_1 of test"}, (4, 0, 1)),
        (
            {"12_1": "31_1", "21_1": "31_1"},
            {"12_1": "31_1 of test", "21_1": "31_1 of test"},
            (3, 0, 1),
        ),
    ],
    ids=["train as test", "test as all of train", "train as val", "val as test", "all three"],
)
def test_test_keeps_its_own_then_val(
    helen: Path,
    tmp_path: Path,
    copy: Copier,
    copies: dict[str, str],
    left_out: dict[str, str],
    num_samples: tuple[int, int, int],
):
    for name, other in copies.items():
        copy(name, other)
    manifest = build(helen, tmp_path / "out", replace(RECIPE, max_rejected=1))
    assert manifest.rejected == tuple(
        Rejection(f"images/{name}.jpg", f"same file in two splits: as {where}")
        for name, where in left_out.items()
    )
    assert tuple(manifest.num_samples.values()) == num_samples
    assert verify(tmp_path / "out") == []


def test_copies_within_a_split_stay(helen: Path, tmp_path: Path, copy: Copier):
    copy("12_1", "11_1")
    manifest = build(helen, tmp_path / "out", RECIPE)
    assert manifest.rejected == ()
    assert manifest.num_samples["train"] == 4


def test_an_unusable_face_takes_no_photograph_from_another(
    helen: Path, tmp_path: Path, copy: Copier
):
    copy("12_1", "31_1")
    (helen / "labels/31_1/31_1_lbl05.png").unlink()
    manifest = build(helen, tmp_path / "out", RECIPE)
    assert manifest.rejected == (Rejection("images/31_1.jpg", "mask missing: lbl05"),)
    assert manifest.num_samples == {"train": 4, "val": 1, "test": 0}


def test_other_shards_do_not_change(helen: Path, tmp_path: Path, copy: Copier):
    build(helen, tmp_path / "before", RECIPE)
    copy("12_1", "31_1")
    build(helen, tmp_path / "after", RECIPE)
    before, after = contents(tmp_path / "before"), contents(tmp_path / "after")
    assert before.keys() == after.keys()
    changed = {path for path in before if before[path] != after[path]}
    assert changed == {"train/000000.tar", "manifest.json"}


class Killed(Exception):
    pass


def test_same_bytes_in_any_order_and_after_a_kill(helen: Path, tmp_path: Path, copy: Copier):
    """Copies are found when all shards are written, and theirs are written again."""
    copy("12_1", "31_1")
    copy("14_2", "31_1")
    build(helen, tmp_path / "straight", RECIPE)

    def backwards(write: Callable, tasks: Sequence[ShardTask]) -> Iterator[ShardRecord]:
        return map(write, reversed(tasks))

    build(helen, tmp_path / "backwards", RECIPE, backwards)
    rounds = 0

    def killed_in_the_second_round(
        write: Callable, tasks: Sequence[ShardTask]
    ) -> Iterator[ShardRecord]:
        nonlocal rounds
        rounds += 1
        for number, task in enumerate(tasks):
            if (rounds, number) == (2, 1):
                raise Killed
            yield write(task)

    with pytest.raises(Killed):
        build(helen, tmp_path / "killed", RECIPE, killed_in_the_second_round)
    build(helen, tmp_path / "killed", RECIPE)
    straight = contents(tmp_path / "straight")
    assert straight == contents(tmp_path / "backwards") == contents(tmp_path / "killed")


@pytest.fixture
def killed(helen: Path, tmp_path: Path, copy: Copier) -> Path:
    """A run killed when the first of two shards has been written again without its copies."""
    copy("12_1", "31_1")
    copy("14_2", "31_1")
    rounds = 0

    def killed(write: Callable, tasks: Sequence[ShardTask]) -> Iterator[ShardRecord]:
        nonlocal rounds
        rounds += 1
        for task in tasks:
            yield write(task)
            if rounds == 2:
                raise Killed

    with pytest.raises(Killed):
        build(helen, tmp_path / "killed", RECIPE, killed)
    return tmp_path / "killed"


def test_what_is_written_without_copies_is_finished(helen: Path, tmp_path: Path, killed: Path):
    build(helen, tmp_path / "straight", RECIPE)
    written = {path: path.stat().st_mtime_ns for path in killed.rglob("*.tar")}
    build(helen, killed, RECIPE)
    assert contents(killed) == contents(tmp_path / "straight")
    again = {path for path in written if path.stat().st_mtime_ns != written[path]}
    assert again == {killed / "train/000001.tar"}


def test_copy_comes_back_when_the_other_turns_out_unusable(
    helen: Path, tmp_path: Path, killed: Path
):
    (helen / "labels/31_1/31_1_lbl05.png").unlink()
    (killed / "test/000000.tar").unlink()
    manifest = build(helen, killed, RECIPE)
    assert manifest.rejected == (Rejection("images/31_1.jpg", "mask missing: lbl05"),)
    build(helen, tmp_path / "straight", RECIPE)
    assert contents(killed) == contents(tmp_path / "straight")


def test_copies_count_as_rejected_with_the_rest(helen: Path, tmp_path: Path, copy: Copier):
    """Against all items, not those of the shards that are written again."""
    copy("12_1", "31_1")
    one = replace(RECIPE, shard_size=1, max_rejected=0.2)
    assert len(build(helen, tmp_path / "one", one).rejected) == 1
    (helen / "images/21_1.jpg").unlink()
    with pytest.raises(ValueError, match=r"2 of 6 items are rejected.*same file in two splits 1"):
        build(helen, tmp_path / "two", one)
