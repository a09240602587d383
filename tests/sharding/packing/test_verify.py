"""`verify` finds what is wrong, and names shard and key."""

import dataclasses
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from webdataset.writer import TarWriter

from sharding.manifest import Sides, load_manifest
from sharding.packing.building import build
from sharding.packing.recipe import Recipe
from sharding.packing.sample import read_samples
from sharding.packing.verify import verify

SHARD = "train/000000.tar"
Samples = list[tuple[str, dict[str, bytes]]]


@pytest.fixture
def out(helen: Path, tmp_path: Path) -> Path:
    build(helen, tmp_path / "out", Recipe(layout="helen", shard_size=3))
    return tmp_path / "out"


def rewrite(out: Path, change: Callable[[Samples], None]) -> None:
    """Changes a shard's samples and lets the manifest say that this is how it should be."""
    with (out / SHARD).open("rb") as file:
        samples = list(read_samples(file))
    change(samples)
    buffer = io.BytesIO()
    with TarWriter(buffer, mtime=0, encoder=False) as tar:
        for key, members in samples:
            tar.write({"__key__": key, **members})
    (out / SHARD).write_bytes(buffer.getvalue())
    manifest = load_manifest(out)
    first, *others = manifest.splits["train"]
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    first = dataclasses.replace(first, sha256=sha256, bytes=len(buffer.getvalue()))
    splits = dict(manifest.splits) | {"train": (first, *others)}
    (out / "manifest.json").write_bytes(dataclasses.replace(manifest, splits=splits).to_json())


def png(labels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return buffer.getvalue()


def test_sound(out: Path):
    assert verify(out) == []


def test_flipped_byte_names_shard_and_key(out: Path):
    data = bytearray((out / SHARD).read_bytes())
    with (out / SHARD).open("rb") as file:
        key, members = next(read_samples(file))
    at = data.find(members["png"]) + len(members["png"]) // 2
    data[at] ^= 0xFF
    (out / SHARD).write_bytes(data)
    problems = verify(out)
    assert problems[0].startswith(f"{SHARD}: sha256 must be ")
    assert problems[1].startswith(f"{SHARD}: {key}: ")
    assert len(problems) == 2


@pytest.mark.slow
def test_every_changed_byte_is_found(draw_helen: Callable[..., None], tmp_path: Path):
    """500 of them, one at a time, anywhere in the shards and the manifest."""
    raw, out = tmp_path / "raw", tmp_path / "small"
    lists = {"exemplars": ["a", "b", "c"], "tuning": ["d"], "testing": ["e"]}
    for name, keys in lists.items():
        for key in keys:
            draw_helen(raw, key, size=(32, 40 + ord(key)))
        (raw / f"{name}.txt").write_text("".join(f"1 , {key}\n" for key in keys))
    build(raw, out, Recipe(layout="helen", shard_size=2))
    files = {path: path.read_bytes() for path in sorted(out.rglob("*.*")) if path.is_file()}
    assert [path.suffix for path in files] == [".json", *[".tar"] * 4]
    assert verify(out) == []
    rng = random.Random(0)
    passed = []
    for _ in range(500):
        path = rng.choice(list(files))
        data = bytearray(files[path])
        at = rng.randrange(len(data))
        data[at] ^= rng.randrange(1, 256)
        path.write_bytes(data)
        if not verify(out):
            passed.append((path.name, at, files[path][at], data[at]))
        path.write_bytes(files[path])
    assert passed == []
    assert verify(out) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"\n ", b"\n\t"), (b'": ', b'":\n'), (b"}\n", b"}"), (b"}\n", b"}\n\n"), (b"{", b"{ ")],
)
def test_manifest_that_says_the_same_in_other_bytes(out: Path, old: bytes, new: bytes):
    file = out / "manifest.json"
    data = file.read_bytes()
    assert old in data
    file.write_bytes(data.replace(old, new))
    load_manifest(out)
    assert verify(out) == ["manifest.json: its bytes have been changed, though it says the same"]


def test_missing_extra_and_truncated_files(out: Path):
    (out / SHARD).unlink()
    (out / "train/000007.tar").write_bytes(b"x")
    last = out / "train/000001.tar"
    last.write_bytes(last.read_bytes()[:700])
    problems = verify(out)
    assert "train/000007.tar: not in the manifest" in problems
    assert f"{SHARD}: missing" in problems
    assert any(problem.startswith("train/000001.tar: must be ") for problem in problems)
    assert any(problem.startswith("train/000001.tar: not a readable tar") for problem in problems)


def test_no_data_set_is_one_problem(tmp_path: Path):
    assert len(verify(tmp_path / "missing")) == 1


def test_wrong_class_pixels(out: Path):
    manifest = load_manifest(out)
    wrong = dict(manifest.class_pixels) | {"val": (0,) * 11}
    changed = dataclasses.replace(manifest, class_pixels=wrong)
    (out / "manifest.json").write_bytes(changed.to_json())
    (problem,) = verify(out)
    assert problem.startswith("manifest.json: class_pixels of val must be")


def test_wrong_sides(out: Path):
    manifest = load_manifest(out)
    changed = dataclasses.replace(manifest, sides=dict(manifest.sides) | {"eye": Sides(0, 6)})
    (out / "manifest.json").write_bytes(changed.to_json())
    (problem,) = verify(out)
    assert problem.startswith("manifest.json: sides must be {'brow': Sides(right=6, both=6), 'eye'")


def drop_json(samples: Samples) -> None:
    del samples[0][1]["json"]


def write_class_11(samples: Samples) -> None:
    labels = np.array(Image.open(io.BytesIO(samples[0][1]["png"])))
    labels[0, 0] = 11
    samples[0][1]["png"] = png(labels)


def move_a_part(samples: Samples) -> None:
    info = json.loads(samples[0][1]["json"])
    info["parts"]["nose"][0] += 1
    samples[0][1]["json"] = json.dumps(info).encode()


def shrink_labels(samples: Samples) -> None:
    samples[0][1]["png"] = png(np.zeros((5, 5), np.uint8))


def grey_image(samples: Samples) -> None:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(samples[0][1]["jpg"])).convert("L").save(buffer, "JPEG")
    samples[0][1]["jpg"] = buffer.getvalue()


def cut_image(samples: Samples) -> None:
    samples[0][1]["jpg"] = samples[0][1]["jpg"][:300]


def break_json(samples: Samples) -> None:
    samples[0][1]["json"] = b"{"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (drop_json, "members must be ('jpg', 'json', 'png'), got ('jpg', 'png')"),
        (write_class_11, "class ids must be below 11, got 11"),
        (move_a_part, "json does not describe the labels"),
        (shrink_labels, "sizes differ: jpg (109, 120), png (5, 5), json (109, 120)"),
        (grey_image, "jpg must be JPEG of mode RGB, got JPEG L"),
        (cut_image, "jpg does not decode: OSError"),
        (break_json, "json is malformed or incomplete"),
    ],
)
def test_faulty_sample(out: Path, change: Callable[[Samples], None], fault: str):
    rewrite(out, change)
    (problem,) = verify(out)
    assert problem.startswith(f"{SHARD}: 11_1: {fault}")


def test_link_in_the_place_of_a_member(out: Path):
    buffer = io.BytesIO()
    with tarfile.open(out / SHARD) as tar, tarfile.open(fileobj=buffer, mode="w") as changed:
        for member in tar:
            if member.name == "11_1.png":
                member.type, member.linkname, member.size = tarfile.SYMTYPE, "nowhere", 0
            changed.addfile(member, tar.extractfile(member) if member.isfile() else None)
    (out / SHARD).write_bytes(buffer.getvalue())
    assert f"{SHARD}: 11_1: png does not decode: UnidentifiedImageError" in verify(out)


def test_sample_lost_or_there_twice(out: Path):
    rewrite(out, lambda samples: samples.pop())
    problems = verify(out)
    assert f"{SHARD}: must hold 3 samples, got 2" in problems


def test_key_in_two_shards(out: Path):
    with (out / "val/000000.tar").open("rb") as file:
        other = next(read_samples(file))
    rewrite(out, lambda samples: samples.__setitem__(2, other))
    assert f"val/000000.tar: 21_1: also in {SHARD}" in verify(out)
