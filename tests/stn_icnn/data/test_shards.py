"""Samples of shards: which are chosen, what they hold, and what is wrong with them."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

from stn_icnn.data.plan import Request
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.label_sets import CELEBAMASK19, PAPER9
from tests.sample_shards import TAR_BLOCK, encoded, members, one_sample, write_shard

Faces = Callable[..., ShardedFaces]


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


def test_shards_of_more_classes_are_read_for_fewer(tmp_path: Path):
    labels = np.array([[0, 1, 6, 10, 11, 15, 18]], np.uint8).repeat(7, axis=0)
    written = {**members(0, 7, 7), "png": encoded(labels, "PNG")}
    shard = write_shard(tmp_path / "000000.tar", {"face": written})
    faces = ShardedFaces([shard], PAPER9, stored=CELEBAMASK19)
    for read in (faces[Request(0)].labels[0], faces.labels(0)):
        assert read[0].tolist() == [0, 1, 6, 10, 0, 0, 0]
    whole = ShardedFaces([shard], CELEBAMASK19, stored=CELEBAMASK19)
    assert torch.equal(whole.labels(0), torch.from_numpy(labels))


def test_shards_that_lack_a_class_are_refused(tmp_path: Path):
    shard = write_shard(tmp_path / "000000.tar", {"face": members(0)})
    with pytest.raises(ValueError, match="for celebamask19, got glasses, left_ear, right_ear, hat"):
        ShardedFaces([shard], CELEBAMASK19, stored=PAPER9)


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


def test_a_label_map_that_would_fill_memory_is_not_decoded(tmp_path: Path):
    """81 megapixels of zeros have few bytes; Pillow itself refuses more than 179."""
    square = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(square, "PNG")
    faces = one_sample(tmp_path, png=square.getvalue())
    with pytest.raises(ValueError, match=r"face42: labels must be \[10, 14\], got \[9000"):
        faces[Request(0)]
    with pytest.raises(ValueError, match="face42: labels must be at most 1024 px, got 9000"):
        faces.labels(0)
