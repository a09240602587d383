"""A raw data set in a bucket is sharded as one in a folder, without needless requests."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from sharding.packing.building import WriteShard, build
from sharding.packing.recipe import Recipe
from sharding.packing.writer import ShardRecord, ShardTask
from sharding.storage.joined import JoinedLocation
from sharding.storage.location import open_location
from stn_icnn.storage import Folder, StorageLocation
from tests.sharding.rejects.spoiled_data import source_of

Answered = Callable[[], list[tuple[str, str]]]

FACES = Recipe(layout="celebamask", shard_size=4, max_rejected=1)
PARTS_DRAWN = 10


@pytest.fixture
def in_bucket(bucket: str) -> Callable[[Path], StorageLocation]:
    """in_bucket(folder): a copy of it at s3://faces/raw."""

    def copy(folder: Path) -> StorageLocation:
        location = open_location(f"{bucket}/raw")
        for path in open_location(folder).list():
            location.upload((folder / path).open("rb"), path)
        return location

    return copy


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def spoil(root: Path, draw: Callable[..., None]) -> None:
    """Faces that lack what others have."""
    draw(root, 3001, parts={})
    draw(root, 3002, parts={"skin": (0, 0, 512, 512), "cloth": (0, 400, 512, 512)})
    draw(root, 3003, mask_px=256)
    draw(root, 3004, image=b"no image")
    nose = root / "CelebAMask-HQ-mask-anno/1/03005_nose.png"
    draw(root, 3005)
    nose.write_bytes(b"")
    draw(root, 3006)
    (root / "CelebA-HQ-img/3006.jpg").unlink()
    (nose.parent / "03002_beard.png").write_bytes(b"of no known part")


@pytest.mark.slow
def test_same_bytes_as_from_a_folder(
    celebamask: Path, draw_celebamask, in_bucket: Callable[[Path], StorageLocation], tmp_path: Path
):
    spoil(celebamask, draw_celebamask)
    manifest = build(celebamask, tmp_path / "a", FACES)
    assert sum(manifest.num_samples.values()) == 11
    assert len(manifest.rejected) == 5
    build(in_bucket(celebamask).url, tmp_path / "b", FACES)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_photographs_in_a_bucket_with_masks_in_a_folder(
    plain_folder: Path, in_bucket: Callable[[Path], StorageLocation], tmp_path: Path
):
    """The two places of a plain folder lie where they like, and the shards are the same."""
    (plain_folder / "masks/face-3.png").unlink()
    recipe = Recipe(layout="folder", max_rejected=1)
    build(source_of(plain_folder, "folder"), tmp_path / "a", recipe)
    places = (
        ("images", in_bucket(plain_folder).child("images")),
        ("masks", Folder(plain_folder / "masks")),
    )
    build(JoinedLocation(places), tmp_path / "b", recipe)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.slow
def test_what_is_not_there_is_not_asked_for(
    celebamask: Path,
    draw_celebamask,
    in_bucket: Callable[[Path], StorageLocation],
    tmp_path: Path,
    answered: Answered,
):
    draw_celebamask(celebamask, 3001, parts={})
    location = in_bucket(celebamask)
    (skipped,) = location.list("CelebAMask-HQ-mask-anno/0")[:1]
    location.delete(skipped)
    before = len(answered())
    build(location.url, tmp_path / "out", FACES)
    asked = Counter(path for _, path in answered()[before:] if path.endswith(("jpg", "png")))
    there = (path for path in location.list() if path.endswith(("jpg", "png")))
    assert asked == {f"/faces/raw/{path}": 1 for path in there}
    assert len(asked) == 10 * (1 + PARTS_DRAWN)


@pytest.mark.slow
def test_helen_s_files_are_each_asked_for_once(
    helen: Path, in_bucket: Callable[[Path], StorageLocation], tmp_path: Path, answered: Answered
):
    location = in_bucket(helen)
    before = len(answered())
    build(location.url, tmp_path / "b", Recipe(layout="helen"))
    asked = Counter(path for _, path in answered()[before:] if path.endswith(("jpg", "png")))
    assert set(asked.values()) == {1}
    assert len(asked) == 6 * 12
    build(helen, tmp_path / "a", Recipe(layout="helen"))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


class Killed(Exception):
    pass


@pytest.mark.slow
def test_a_run_goes_on_when_masks_were_added_meanwhile(
    celebamask: Path, draw_celebamask, in_bucket: Callable[[Path], StorageLocation], tmp_path: Path
):
    draw_celebamask(celebamask, 3001, parts={})
    location = in_bucket(celebamask)

    def killed(write: WriteShard, tasks: Sequence[ShardTask]) -> Iterator[ShardRecord]:
        yield from map(write, tasks)
        raise Killed

    with pytest.raises(Killed):
        build(location.url, tmp_path / "out", FACES, killed)
    draw_celebamask(celebamask, 3001)
    in_bucket(celebamask)
    manifest = build(location.url, tmp_path / "out", FACES)
    assert manifest.rejected == ()
    assert sum(manifest.num_samples.values()) == 11
