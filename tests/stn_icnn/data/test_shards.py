"""Reading shards: every sample once, in an order that only seed and epoch decide; what is wrong."""

import io
import json
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image
from webdataset.writer import TarWriter

from stn_icnn.config import AugmentConfig
from stn_icnn.data.batch import Batch
from stn_icnn.data.loading import load_batches
from stn_icnn.data.plan import Request, plan_epoch, plan_evaluation, rank_share
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.labels import PAPER9

Faces = Callable[..., ShardedFaces]
TAR_BLOCK = 512


def encoded(pixels: np.ndarray, file_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format)
    return buffer.getvalue()


def members(seed: int, width: int = 14, height: int = 10) -> dict[str, bytes]:
    """A face of noise, with a nose."""
    rng = np.random.default_rng(seed)
    parts = {"nose": [4.25, 6.5, 2, 5, 7, 8, 12]}
    return {
        "jpg": encoded(rng.integers(0, 256, (height, width, 3), np.uint8), "JPEG"),
        "png": encoded(rng.integers(0, 11, (height, width), np.uint8), "PNG"),
        "json": json.dumps({"width": width, "height": height, "parts": parts}).encode(),
    }


def write_shard(path: Path, samples: dict[str, dict[str, bytes]]) -> str:
    with path.open("wb") as file, TarWriter(file, encoder=False) as tar:
        for key, content in samples.items():
            tar.write({"__key__": key, **content})
    return str(path)


@pytest.fixture
def twelve(tmp_path: Path) -> list[str]:
    """Twelve samples in three shards."""
    return [
        write_shard(
            tmp_path / f"{shard}.tar", {f"face{i:02d}": members(i) for i in range(shard, 12, 3)}
        )
        for shard in range(3)
    ]


def chosen(shards: list[str], num_images: int, seed: int) -> list[str]:
    faces = ShardedFaces(shards, PAPER9)
    faces.select(num_images, seed)
    assert len(faces) == num_images
    return faces.keys([Request(i) for i in range(num_images)])


def test_the_seed_alone_chooses_faces(twelve: list[str]) -> None:
    all_keys = [place.key for place in ShardedFaces(twelve, PAPER9).samples]
    five = chosen(twelve, 5, seed=1)
    assert five == chosen(twelve, 5, seed=1)
    assert five == sorted(five, key=all_keys.index)
    assert set(five) < set(chosen(twelve, 8, seed=1))
    assert len({tuple(chosen(twelve, 5, seed)) for seed in range(20)}) > 15
    assert chosen(twelve, 12, seed=1) == all_keys


def test_the_same_faces_are_chosen_however_they_are_sharded(
    twelve: list[str], tmp_path: Path
) -> None:
    order = [f"face{i:02d}" for shard in range(3) for i in range(shard, 12, 3)]
    one = write_shard(tmp_path / "one.tar", {key: members(0) for key in order})
    assert chosen([one], 5, seed=3) == chosen(twelve, 5, seed=3)


@pytest.mark.parametrize("num_images", [0, 13])
def test_no_more_faces_are_chosen_than_there_are(twelve: list[str], num_images: int) -> None:
    with pytest.raises(ValueError, match=f"from 1 to the 12 faces, got {num_images}"):
        ShardedFaces(twelve, PAPER9).select(num_images, 0)


def one_sample(tmp_path: Path, **changed: bytes) -> ShardedFaces:
    path = write_shard(tmp_path / "000007.tar", {"face42": members(0) | changed})
    return ShardedFaces([path], PAPER9)


# --- reading


def test_a_sample_is_what_was_written(tmp_path: Path):
    written = members(0)
    sample = one_sample(tmp_path)[Request(0)]
    image = np.array(Image.open(io.BytesIO(written["jpg"])))
    assert sample.keys == ("face42",)
    assert torch.equal(sample.images[0], torch.from_numpy(image).permute(2, 0, 1))
    assert np.array_equal(sample.labels[0], np.array(Image.open(io.BytesIO(written["png"]))))
    assert sample.images.dtype == sample.labels.dtype == torch.uint8
    assert torch.equal(one_sample(tmp_path).labels(0), sample.labels[0])
    nose = [part.name for part in PAPER9.parts].index("nose")
    assert sample.present.tolist() == [[i == nose for i in range(6)]]
    assert sample.centres[0, nose].tolist() == [4.25, 6.5]
    assert sample.augmentation is None


def test_centres_of_built_shards_are_those_of_the_labels(tiny_faces: Faces):
    """The writer's contract, seen from the reader: centroids with pixel centres at +0.5."""
    faces = tiny_faces("train")
    for i in range(len(faces)):
        sample = faces[Request(i)]
        found = zip(PAPER9.part_classes, sample.centres[0], sample.present[0], strict=True)
        for classes, centre, present in found:
            ys, xs = np.nonzero(np.isin(sample.labels[0], classes))
            assert bool(present) == bool(len(xs))
            if present:
                expected = [xs.mean() + 0.5, ys.mean() + 0.5]
                assert centre.tolist() == pytest.approx(expected, abs=1e-3)


def test_webdataset_reads_the_same_samples(shards: Path, tiny_faces: Faces):
    faces = tiny_faces("train")
    paths = [str(path) for path in sorted((shards / "train").glob("*.tar"))]
    streamed = list(webdataset.WebDataset(paths, shardshuffle=False).decode("rgb8"))
    assert len(streamed) == len(faces) == 8
    for i, sample in enumerate(streamed):
        ours = faces[Request(i)]
        assert ours.keys[0] == sample["__key__"]
        assert np.array_equal(ours.images[0].permute(1, 2, 0), sample["jpg"])
        assert np.array_equal(ours.labels[0], sample["png"][..., 0])


def test_faces_of_several_sizes_lie_at_the_top_left_of_one_canvas(tmp_path: Path):
    sizes = [(14, 10), (9, 16)]
    written = {f"face{i}": members(i, *size) for i, size in enumerate(sizes)}
    faces = ShardedFaces([write_shard(tmp_path / "000000.tar", written)], PAPER9)
    batch = faces.__getitems__([Request(0), Request(1)])
    assert batch.keys == ("face0", "face1")
    assert batch.host_sizes == tuple(sizes)
    assert batch.images.shape == (2, 3, 16, 14)
    for i, (width, height) in enumerate(sizes):
        alone = faces[Request(i)]
        assert torch.equal(batch.images[i, :, :height, :width], alone.images[0])
        assert batch.images[i].sum() == alone.images.sum(), "0 beyond the face"
        assert torch.equal(batch.labels[i, :height, :width], alone.labels[0])
        assert batch.labels[i].sum() == alone.labels.sum()
        assert torch.equal(batch.centres[i], alone.centres[0])


# --- plans


@pytest.mark.parametrize(("num", "copies", "batch"), [(12, 1, 5), (7, 5, 4), (3, 1, 8), (10, 2, 4)])
def test_an_epoch_has_every_copy_of_every_sample_once(num: int, copies: int, batch: int):
    plan = plan_epoch(num, copies, batch, seed=1, epoch=2)
    seen = Counter((r.index, r.copy) for requests in plan for r in requests)
    assert seen == Counter((i, c) for i in range(num) for c in range(copies))
    assert {r.epoch for requests in plan for r in requests} == {2}
    sizes = [len(requests) for requests in plan]
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-num * copies // batch)


def test_the_order_depends_on_seed_and_epoch_only():
    plan = plan_epoch(50, 1, 8, seed=1, epoch=2)
    assert plan == plan_epoch(50, 1, 8, seed=1, epoch=2)
    order = [r.index for requests in plan for r in requests]
    for seed, epoch in ((2, 2), (1, 3)):
        other = plan_epoch(50, 1, 8, seed, epoch)
        assert [r.index for requests in other for r in requests] != order
    regrouped = plan_epoch(50, 1, 16, seed=1, epoch=2)
    assert [r.index for requests in regrouped for r in requests] == order


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_evaluation_covers_every_sample_once(world_size: int):
    ranks = [plan_evaluation(11, rank, world_size, batch=2) for rank in range(world_size)]
    seen = Counter(r.index for plan in ranks for requests in plan for r in requests)
    assert seen == Counter(range(11))
    assert max(len(requests) for plan in ranks for requests in plan) <= 2


# --- batches

NUM_READERS = (1, 2, 3, 5)
"""Five are more than there are shards."""

Look = tuple[str, tuple[float, ...]]
"""A sample's key and what its augmentation drew."""


def looks(batch: Batch) -> list[Look]:
    draws = [tuple(affine.flatten().tolist()) for affine in batch.augmentation.affine]
    return list(zip(batch.keys, draws, strict=True))


def expected(faces: ShardedFaces, plan: Sequence[Sequence[Request]]) -> list[Counter[Look]]:
    """The looks of each planned batch."""
    return [Counter(looks(faces.__getitems__(batch))) for batch in plan]


def together(
    faces: ShardedFaces, plan: Sequence[Sequence[Request]], num_readers: int, num_processes: int = 0
) -> Iterator[Counter[Look]]:
    """The looks of each global batch, as the readers' shares of it have them."""
    readers = [
        load_batches(faces, rank_share(plan, rank, num_readers), num_processes)
        for rank in range(num_readers)
    ]
    for shares in zip(*readers, strict=True):
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        yield sum((Counter(looks(share)) for share in shares), Counter())


@pytest.mark.parametrize("num_processes", [0, 2])
@pytest.mark.parametrize("num_readers", NUM_READERS)
def test_readers_shares_together_are_the_global_batches(
    twelve: list[str], num_readers: int, num_processes: int
):
    """The same samples with the same augmentation, however many read them, and with what."""
    faces = ShardedFaces(twelve, PAPER9, augment=AugmentConfig(), seed=3)
    plan = plan_epoch(len(faces), 1, 6, seed=3, epoch=1)
    assert list(together(faces, plan, num_readers, num_processes)) == expected(faces, plan)


@pytest.mark.parametrize("after", NUM_READERS)
@pytest.mark.parametrize("before", NUM_READERS)
def test_other_readers_go_on_at_the_very_next_batch(twelve: list[str], before: int, after: int):
    faces = ShardedFaces(twelve, PAPER9, augment=AugmentConfig(), seed=3)
    plan = plan_epoch(len(faces), 2, 6, seed=3, epoch=1)
    wanted = expected(faces, plan)
    for step in range(1, len(plan)):
        stopped = together(faces, plan, before)
        assert [next(stopped) for _ in range(step)] == wanted[:step]
        assert list(together(faces, plan[step:], after)) == wanted[step:]


def test_epochs_and_copies_are_augmented_differently(twelve: list[str]):
    faces = ShardedFaces(twelve, PAPER9, augment=AugmentConfig(), seed=3)
    requests = [Request(0, epoch, copy) for epoch in range(3) for copy in range(3)]
    seeds = {int(faces[request].augmentation.noise_seed) for request in requests}
    assert len(seeds) == 9


def test_loader_processes_read_the_same_and_pass_errors_on(twelve: list[str], tmp_path: Path):
    faces = ShardedFaces(twelve, PAPER9, augment=AugmentConfig(), seed=3)
    plan = plan_epoch(len(faces), 1, 6, seed=3, epoch=0)
    here, there = load_batches(faces, plan), load_batches(faces, plan, num_processes=1)
    for ours, theirs in zip(here, there, strict=True):
        assert ours.keys == theirs.keys
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.augmentation.affine, theirs.augmentation.affine)
    broken = one_sample(tmp_path, jpg=b"not a JPEG")
    for num_processes in (0, 1):
        with pytest.raises(ValueError, match=r"000007\.tar, sample face42"):
            next(load_batches(broken, [[Request(0)]], num_processes=num_processes))


def test_the_next_batch_is_read_while_one_is_used(twelve: list[str]):
    read: list[int] = []
    second_is_read = threading.Event()

    class Watched(ShardedFaces):
        def __getitems__(self, requests: Sequence[Request]) -> Batch:
            batch = super().__getitems__(requests)
            read.append(requests[0].index)
            if len(read) == 2:
                second_is_read.set()
            return batch

    batches = load_batches(Watched(twelve, PAPER9), [[Request(i)] for i in range(4)])
    next(batches)
    assert second_is_read.wait(timeout=60)
    batches.close()
    assert read == [0, 1]  # and no further ahead


def test_without_labels_the_rest_is_the_same(tmp_path: Path):
    (tmp_path / "whole").mkdir()
    whole = one_sample(tmp_path / "whole")[Request(0)]
    broken = one_sample(tmp_path, png=b"not a PNG")
    broken.with_labels = False
    sample = broken[Request(0)]
    assert sample.labels is None
    assert torch.equal(sample.images, whole.images)
    assert torch.equal(sample.centres, whole.centres)
    assert torch.equal(sample.present, whole.present)


# --- what is wrong


def test_a_shard_cut_off_in_its_last_member_is_refused(twelve: list[str]):
    whole = Path(twelve[1]).read_bytes()
    content_end = whole.rstrip(b"\0")
    Path(twelve[1]).write_bytes(content_end[: -TAR_BLOCK - 5])
    with pytest.raises(ValueError, match=r"corrupt shard .*1\.tar: .*; run `sharding verify`"):
        ShardedFaces(twelve, PAPER9)


def header_offsets(path: str) -> list[int]:
    with tarfile.open(path) as tar:
        return [member.offset for member in tar]


def test_a_shard_cut_off_between_samples_is_refused(twelve: list[str]):
    third_sample = header_offsets(twelve[1])[6]
    for end in (third_sample, third_sample + 100):
        whole = Path(twelve[1]).read_bytes()
        Path(twelve[1]).write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"corrupt shard .*1\.tar"):
            ShardedFaces(twelve, PAPER9)
        Path(twelve[1]).write_bytes(whole)


def test_a_shard_with_a_damaged_header_is_refused(twelve: list[str]):
    """tarfile takes it for the end: the samples behind it must not be missing silently."""
    content = bytearray(Path(twelve[1]).read_bytes())
    content[header_offsets(twelve[1])[6] + 150] ^= 0xFF  # in the checksum
    Path(twelve[1]).write_bytes(content)
    with pytest.raises(ValueError, match=r"corrupt shard .*1\.tar"):
        ShardedFaces(twelve, PAPER9)


def test_a_file_that_is_no_tar_is_refused(tmp_path: Path):
    (tmp_path / "x.tar").write_bytes(b"<html>no such key</html>" * 100)
    with pytest.raises(ValueError, match=r"corrupt shard .*x\.tar"):
        ShardedFaces([str(tmp_path / "x.tar")], PAPER9)


def test_a_sample_without_labels_is_refused(tmp_path: Path):
    content = {name: data for name, data in members(0).items() if name != "png"}
    path = write_shard(tmp_path / "000003.tar", {"face1": members(1), "face2": content})
    with pytest.raises(ValueError, match=r"corrupt shard .*000003\.tar: sample face2 lacks png"):
        ShardedFaces([path], PAPER9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {"jpg": b"not a JPEG"},
        {"jpg": members(0)["jpg"][:200]},
        {"jpg": members(0, width=15)["jpg"]},
        {"png": members(0)["png"][:60]},
        {"png": members(0)["jpg"]},
        {"json": b"{"},
        {"json": b'{"width": 14, "height": 10}'},
        {"json": b'{"width": "14", "height": 10, "parts": {}}'},
        {"json": b'{"width": 14.2, "height": 10, "parts": {}}'},
        {"json": b'{"width": -14, "height": 10, "parts": {}}'},
    ],
    ids=[
        "no-image", "cut-off-jpeg", "other-size", "cut-off-png", "rgb-labels",
        "no-json", "no-parts", "no-size", "broken-size", "negative-size",
    ],
)  # fmt: skip
def test_a_sample_that_cannot_be_used_stops_it_by_name(tmp_path: Path, changed: dict[str, bytes]):
    faces = one_sample(tmp_path, **changed)
    with pytest.raises(ValueError, match=r"shard .*000007\.tar, sample face42: \S"):
        faces[Request(0)]


def test_a_shard_that_shrank_while_it_was_read_stops_it(twelve: list[str]):
    faces = ShardedFaces(twelve, PAPER9)
    Path(twelve[2]).write_bytes(Path(twelve[2]).read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"2\.tar, sample face11: the shard ends before"):
        faces[Request(11)]


def test_an_image_over_the_canvas_limit_is_refused(tmp_path: Path):
    path = write_shard(tmp_path / "000007.tar", {"face42": members(0, width=65, height=20)})
    assert ShardedFaces([path], PAPER9, canvas_px=65)[Request(0)].images.shape == (1, 3, 20, 65)
    with pytest.raises(ValueError, match=r"face42: 65 x 20 px is over .*model\.canvas_px \(64\)"):
        ShardedFaces([path], PAPER9, canvas_px=64)[Request(0)]
