"""Re-reads a whole sharded data set and lists its faults."""

import collections
import errno
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sharding.manifest import MANIFEST, Manifest, Shard, Sides, load_manifest
from sharding.packing.plausibility import weigh
from sharding.packing.sample import (
    MEMBERS,
    added_sides,
    count_classes,
    count_sides,
    measure_parts,
    read_members,
)
from sharding.storage.location import Address, open_location
from stn_icnn.decoding import DECODE_ERRORS, STRICT, RejectedError, open_image
from stn_icnn.labels import LabelSet
from stn_icnn.progress import progress
from stn_icnn.storage import StorageLocation

_SIZES = ("width", "height", "original_width", "original_height")


class _FaultError(Exception):
    """A sample is faulty; the message says in what."""


@dataclass
class Findings:
    """What has been found in a data set so far.

    Attributes:
        problems: one line each.
        warnings: one line each, of what is no fault of a file but should be looked at.
        shard_of_key: the path of the shard that holds each key.
        class_pixels: by split, int64 [C].
        class_faces: number of sound samples that show each class, int64 [C].
        sides: the count of each shard's sound samples.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    shard_of_key: dict[str, str] = field(default_factory=dict)
    class_pixels: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    class_faces: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    sides: list[dict[str, Sides]] = field(default_factory=list)


def verify(address: Address) -> list[str]:
    """Returns the problems that `examine` finds; none if all is sound."""
    return examine(address).problems


def examine(address: Address) -> Findings:
    """Checks every byte of the data set in a folder or at `s3://bucket/prefix`.

    Returns:
        The findings. A problem names the shard and, if a sample's members contradict each other or
        do not decode, the key. A changed pixel of a photograph shows only in the shard's sha256.
    """
    location = open_location(address)
    found = Findings()
    try:
        manifest = load_manifest(location)
    except ValueError as error:
        found.problems.append(str(error))
        return found
    found.class_faces = np.zeros(manifest.label_set.num_classes, np.int64)
    if location.read(MANIFEST) != manifest.to_json():
        found.problems.append(f"{MANIFEST}: its bytes have been changed, though it says the same")
    named = {shard.path for shards in manifest.splits.values() for shard in shards}
    extra = set(location.list()) - named - {MANIFEST}
    found.problems += [f"{path}: not in the manifest" for path in sorted(extra)]
    checked = _check_shards(location, manifest, found)
    num_samples = sum(manifest.num_samples.values())
    for _ in progress(checked, num_samples, "image", lambda shard: shard.samples):
        pass
    sides = added_sides(found.sides, manifest.label_set)
    if not found.problems and sides != manifest.sides:
        found.problems.append(f"{MANIFEST}: sides must be {sides}, got {manifest.sides}")
    if not found.problems:
        wrong, found.warnings = weigh(manifest, found.class_faces.tolist())
        found.problems += [wrong] if wrong else []
    return found


def _check_shards(
    location: StorageLocation, manifest: Manifest, found: Findings
) -> Iterator[Shard]:
    """Yields each shard as soon as it has been checked."""
    for split, shards in manifest.splits.items():
        found.class_pixels[split] = np.zeros(manifest.label_set.num_classes, np.int64)
        num_before = len(found.problems)
        for shard in shards:
            problems = _check_shard(location, manifest, split, shard, found)
            found.problems += [f"{shard.path}: {problem}" for problem in problems]
            yield shard
        counted = tuple(found.class_pixels[split].tolist())
        # With a faulty sample the counts differ anyway, and the sample has been named.
        if len(found.problems) == num_before and counted != manifest.class_pixels[split]:
            found.problems.append(
                f"{MANIFEST}: class_pixels of {split} must be {counted}, "
                f"got {manifest.class_pixels[split]}"
            )


def _check_shard(
    location: StorageLocation, manifest: Manifest, split: str, shard: Shard, found: Findings
) -> Iterator[str]:
    """Yields a shard's problems, and adds what it holds to the findings."""
    try:
        data = location.read(shard.path)
    except FileNotFoundError:
        yield "missing"
        return
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        yield f"too large: {error.strerror}"
        return
    if len(data) != shard.bytes:
        yield f"must be {shard.bytes} bytes, got {len(data)}"
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != shard.sha256:
        yield f"sha256 must be {shard.sha256}, got {sha256}"
    samples: dict[str, list[tuple[str, bytes]]] = collections.defaultdict(list)
    try:
        for key, extension, member in read_members(io.BytesIO(data)):
            samples[key].append((extension, member))
    except tarfile.TarError as error:
        yield f"not a readable tar: {error}"
        return
    if len(samples) != shard.samples:
        yield f"must hold {shard.samples} samples, got {len(samples)}"
    faces, label_set = [], manifest.label_set
    for key, members in samples.items():
        if key in found.shard_of_key:
            yield f"{key}: also in {found.shard_of_key[key]}"
        found.shard_of_key[key] = shard.path
        try:
            labels, parts = _check_sample(members, manifest.dataset, label_set)
        except _FaultError as fault:
            yield f"{key}: {fault}"
            continue
        class_pixels = count_classes(labels, label_set)
        found.class_pixels[split] += class_pixels
        found.class_faces += class_pixels > 0
        faces.append(parts)
    found.sides.append(count_sides(faces, label_set))


def _check_sample(
    members: list[tuple[str, bytes]], dataset: str, label_set: LabelSet
) -> tuple[NDArray[np.uint8], dict[str, list[float]]]:
    """Returns a sample's labels, uint8 [H, W], and its parts; raises _FaultError."""
    extensions = tuple(sorted(extension for extension, _ in members))
    if extensions != MEMBERS:
        raise _FaultError(f"members must be {MEMBERS}, got {extensions}")
    sample = dict(members)
    image = _decode(sample["jpg"], "jpg", "JPEG", "RGB")
    label_image = _decode(sample["png"], "png", "PNG", "L")
    labels = np.asarray(label_image)
    try:
        info = json.loads(sample["json"])
        sizes = {name: int(info[name]) for name in _SIZES}
        recorded = (info["dataset"], info["parts"])
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise _FaultError(f"json is malformed or incomplete: {error}") from error
    if not image.size == label_image.size == (sizes["width"], sizes["height"]):
        raise _FaultError(
            f"sizes differ: jpg {image.size}, png {label_image.size}, "
            f"json {(sizes['width'], sizes['height'])}"
        )
    if labels.max() >= label_set.num_classes:
        raise _FaultError(f"class ids must be below {label_set.num_classes}, got {labels.max()}")
    parts = measure_parts(labels, label_set)
    if recorded != (dataset, parts):
        raise _FaultError("json does not describe the labels")
    return labels, parts


def _decode(data: bytes, extension: str, file_format: str, mode: str) -> Image.Image:
    try:
        image = open_image(data, STRICT)
        image.load()
    except RejectedError as error:
        raise _FaultError(f"{extension}: {error}") from error
    except DECODE_ERRORS as error:
        raise _FaultError(f"{extension} does not decode: {type(error).__name__}") from error
    if (image.format, image.mode) != (file_format, mode):
        raise _FaultError(
            f"{extension} must be {file_format} of mode {mode}, got {image.format} {image.mode}"
        )
    return image
