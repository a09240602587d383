"""Photographs as disks, networks and people damage them: drawn by a seed, and written by hand.

python -m tests.damaged_photos FOLDER 1000
"""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from sharding.procedural.drawing import draw_face
from sharding.procedural.random_face import random_face

FACE_PX = 64
FORMATS = {
    ".jpg": ("JPEG", {"quality": 90}),
    ".jpeg": ("JPEG", {"quality": 80, "progressive": True}),
    ".png": ("PNG", {}),
    ".webp": ("WEBP", {"lossless": True}),
    ".tif": ("TIFF", {"compression": "tiff_lzw"}),
    ".bmp": ("BMP", {}),
    ".gif": ("GIF", {}),
    ".avif": ("AVIF", {"quality": 80}),
    ".jp2": ("JPEG2000", {}),
    ".ppm": ("PPM", {}),
    ".qoi": ("QOI", {}),
    ".tga": ("TGA", {}),
}
HEADER_BYTES = 24


def truncated(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(0, len(content)))]


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bits of it are others, often near the beginning, where the sizes and lengths stand."""
    changed = bytearray(content)
    end = len(content) if rng.random() < 0.5 else min(len(content), 200)
    for place in rng.integers(0, end, int(rng.integers(1, 9))):
        changed[place] ^= 1 << int(rng.integers(0, 8))
    return bytes(changed)


def swapped(content: bytes, rng: np.random.Generator) -> bytes:
    """Its first bytes are those of a file of another format."""
    file_format, options = list(FORMATS.values())[int(rng.integers(0, len(FORMATS)))]
    return (
        encoded(Image.new("RGB", (8, 8)), file_format, options)[:HEADER_BYTES]
        + content[HEADER_BYTES:]
    )


def untouched(content: bytes, rng: np.random.Generator) -> bytes:
    return content


DAMAGES: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "truncated": truncated,
    "flipped": flipped,
    "swapped": swapped,
    "misnamed": untouched,
}


def encoded(image: Image.Image, file_format: str, options: dict[str, object]) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def write_damaged_photos(folder: Path, number: int, seed: int = 0) -> dict[str, Image.Image]:
    """Writes photographs of procedural faces, each damaged in one way, the same for a seed.

    Returns:
        The sound pictures of those that have another's suffix alone, as their own format keeps
        them, by name.
    """
    rng = np.random.default_rng(seed)
    faces = [
        Image.fromarray(draw_face(random_face(rng, "celebamask", FACE_PX), rng).image)
        for _ in range(8)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    suffixes = list(FORMATS)
    sound: dict[str, Image.Image] = {}
    for i in range(number):
        suffix = suffixes[i % len(suffixes)]
        damage = list(DAMAGES)[i // len(suffixes) % len(DAMAGES)]
        content = encoded(faces[int(rng.integers(0, len(faces)))], *FORMATS[suffix])
        content = DAMAGES[damage](content, rng)
        if damage == "misnamed":
            own, suffix = suffix, suffixes[int(rng.integers(0, len(suffixes)))]
        path = folder / f"{i:04d}_{damage}{suffix}"
        path.write_bytes(content)
        if damage == "misnamed":
            file_format, _ = FORMATS[own]
            with Image.open(io.BytesIO(content), formats=[file_format]) as image:
                sound[path.name] = image.convert("RGB")
    return sound


if __name__ == "__main__":
    write_damaged_photos(Path(sys.argv[1]), int(sys.argv[2]))
