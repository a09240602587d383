"""Raw faces of which one file each is damaged, and the check of what becomes of them.

python -m tests.sharding.damaged_faces FOLDER 1000 helen

python -m sharding helen --source FOLDER/damaged --split FOLDER/split.json --out SHARDS \\
    --max-rejected 1
"""

import io
import json
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sharding.layouts import celebamask
from sharding.manifest import load_manifest
from sharding.packing.sample import read_samples
from sharding.packing.verify import verify
from sharding.procedural.raw_faces import Layout, write_faces

NUM_DRAWN = 10
"""The faces that are drawn; all others are copies of them."""

FIRST = 30_000
"""The number of the first damaged face, beyond those that are known to be defective."""

SIZE_PX: dict[Layout, int] = {"celebamask": 512, "helen": 64, "lapa": 64}

HEADERS = (
    b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01",
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x02\x00",
    b"GIF89a\x00\x02\x00\x02\xf7\x00\x00",
    b"BM\x36\x00\x0c\x00\x00\x00\x00\x00\x36\x00\x00\x00",
    b"II*\x00\x08\x00\x00\x00\x0f\x00",
    b"RIFF\x24\x00\x00\x00WEBPVP8 ",
    b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00",
    b"%!PS-Adobe-3.0 EPSF-3.0\n",
)
"""The first bytes of files of other formats."""


def truncate(file: Path, chance: random.Random) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: chance.randrange(len(data))])


def flip_bits(file: Path, chance: random.Random) -> None:
    data = bytearray(file.read_bytes())
    for _ in range(chance.choice((1, 1, 2, 8))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    file.write_bytes(data)


def swap_header(file: Path, chance: random.Random) -> None:
    data, header = file.read_bytes(), chance.choice(HEADERS)
    file.write_bytes(header + data[len(header) :])


def give_wrong_suffix(file: Path, chance: random.Random) -> None:
    """Renames the file, or puts another format's or none at all behind its name."""
    kind = chance.choice(("renamed", "PNG", "BMP", "TIFF", "WEBP", "no image"))
    if kind == "renamed":
        file.rename(file.with_suffix(chance.choice((".gif", ".jfif", file.suffix.upper(), ""))))
    elif kind == "no image":
        file.write_bytes(b"<html><body>429 Too Many Requests</body></html>")
    else:
        image = Image.open(file)
        image.load()
        image.save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))


WAYS: dict[str, Callable[[Path, random.Random], None]] = {
    "truncated": truncate,
    "flipped": flip_bits,
    "swapped header": swap_header,
    "wrong suffix": give_wrong_suffix,
}


@dataclass(frozen=True)
class DamagedFace:
    """One face of which a file is damaged."""

    key: str
    drawn_as: str
    """The key of the face that it is a copy of."""
    image: str
    """The path of its photograph before the damage."""
    damaged: str
    """The path of the file that is damaged."""
    way: str
    """How: one of `WAYS`."""


def write_damaged_faces(
    layout: Layout, count: int, root: Path, seed: int = 0
) -> tuple[Path, Path, list[DamagedFace]]:
    """Draws a few faces, and writes many copies of them, in each of which a file is damaged.

    Args:
        layout: whose files.
        count: number of damaged faces.
        root: the folder in which `sound`, `damaged` and `split.json` are made.
        seed: decides which file is damaged and how.

    Returns:
        The raw data set of sound faces, that of damaged ones, and what was done to those.
    """
    chance, sound, damaged = random.Random(seed), root / "sound", root / "damaged"
    write_faces(layout, NUM_DRAWN, sound, size_px=SIZE_PX[layout], workers=1)
    faces = []
    for number in range(count):
        drawn, new = number % NUM_DRAWN, FIRST + number
        copies = [
            _copy(file, sound, damaged, layout, drawn, new)
            for file in _files_of(sound, layout, drawn)
        ]
        image, *masks = copies
        file = image if chance.random() < 0.5 else chance.choice(masks)
        way = chance.choice(list(WAYS))
        WAYS[way](file, chance)
        where = [path.relative_to(damaged).as_posix() for path in (image, file)]
        faces.append(DamagedFace(_key(layout, new), _key(layout, drawn), *where, way))
    for path in sound.glob("*.txt"):
        shutil.copy(path, damaged)
    split = {"train": [face.key for face in faces]}
    (root / "split.json").write_text(json.dumps(split))
    return sound, damaged, faces


def _key(layout: Layout, number: int) -> str:
    return f"{number:05d}" if layout == "celebamask" else f"{number:06d}_1"


def _files_of(root: Path, layout: Layout, number: int) -> list[Path]:
    """Lists the photograph of a face, then its masks or maps."""
    key = _key(layout, number)
    if layout == "lapa":
        return [*root.glob(f"*/images/{key}.jpg"), *root.glob(f"*/labels/{key}.png")]
    if layout == "helen":
        return [root / f"images/{key}.jpg", *sorted((root / "labels" / key).iterdir())]
    masks = (root / celebamask.mask_path(number, part) for part in celebamask.PAINTED)
    return [root / f"{celebamask.IMAGES}/{number}.jpg", *filter(Path.exists, masks)]


def _copy(file: Path, root: Path, out: Path, layout: Layout, number: int, new: int) -> Path:
    """Copies a face's file to where it belongs for another number."""
    path = file.relative_to(root).as_posix()
    if layout == "celebamask" and path.startswith(celebamask.MASKS):
        target = out / celebamask.mask_path(new, file.stem.partition("_")[2])
    elif layout == "celebamask":
        target = out / f"{celebamask.IMAGES}/{new}.jpg"
    else:
        target = out / path.replace(_key(layout, number), _key(layout, new))
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)
    return target


def labels_in(out: Path) -> dict[str, np.ndarray]:
    """Reads the label maps of all samples, uint8 [H, W], by key."""
    found = {}
    for shard in sorted(out.rglob("*.tar")):
        with shard.open("rb") as file:
            for key, members in read_samples(file):
                found[key] = np.asarray(Image.open(io.BytesIO(members["png"])))
    return found


def check_outcome(faces: list[DamagedFace], sound: Path, out: Path) -> Counter[str]:
    """Checks that each face is labelled as it was drawn, or rejected by name.

    Args:
        faces: what was done to the raw data set.
        sound: the shards of the drawn faces.
        out: the shards of the damaged ones.

    Returns:
        Counts of what has become of the faces: `right`, or the kind of a rejection.
    """
    drawn, found = labels_in(sound), labels_in(out)
    reasons: dict[str, str] = {}
    for rejection in load_manifest(out).rejected:
        reasons.setdefault(rejection.source, rejection.kind)
    outcome: Counter[str] = Counter()
    for face in faces:
        if face.key in found:
            assert np.array_equal(found[face.key], drawn[face.drawn_as]), face
            outcome[f"{face.way}: right"] += 1
        else:
            assert face.image in reasons, face
            outcome[f"{face.way}: {reasons[face.image]}"] += 1
    assert verify(out) == []
    return outcome


if __name__ == "__main__":
    write_damaged_faces(sys.argv[3], int(sys.argv[2]), Path(sys.argv[1]))
