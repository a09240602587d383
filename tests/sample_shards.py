"""Small shards of single samples."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from webdataset.writer import TarWriter

from stn_icnn.data.shards import ShardedFaces
from stn_icnn.label_sets import PAPER9

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


def one_sample(tmp_path: Path, **changed: bytes) -> ShardedFaces:
    path = write_shard(tmp_path / "000007.tar", {"face42": members(0) | changed})
    return ShardedFaces([path], PAPER9)


@dataclass(frozen=True)
class FileShard:
    """A shard in a file, which is streamed from there in small blocks."""

    path: Path
    samples: int

    @property
    def url(self) -> str:
        return str(self.path)

    @property
    def bytes(self) -> int:
        return self.path.stat().st_size

    def blocks(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            yield from iter(lambda: file.read(700), b"")
