"""Raw data sets in which files are spoiled, and the check of what is made of them."""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from sharding.manifest import Manifest
from sharding.packing.building import build
from sharding.packing.recipe import Recipe
from sharding.packing.sample import read_samples
from sharding.packing.verify import verify
from sharding.storage.joined import JoinedLocation
from stn_icnn.storage import Folder

Draw = Callable[..., None]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def no_image(file: Path) -> None:
    file.write_bytes(b"<html>404 Not Found</html>")


def sixteen_bits(file: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(file, "PNG")


def bomb(px: int) -> Callable[[Path], None]:
    """A PNG of some 70 bytes that says it is so large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    def spoil(file: Path) -> None:
        header = struct.pack(">IIBBBBB", px, px, 8, 2, 0, 0, 0)
        chunks = chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
        file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)

    return spoil


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def lost_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere.jpg")


def link_to_itself(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)


def gone(file: Path) -> None:
    file.unlink()


def of_size(width: int, height: int) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        Image.new("L", (width, height), 255).save(file, "PNG")

    return spoil


# What is done to the file -> the reason given, after "image " or "mask "; {part} of a mask alone.
FILE_FAULTS = {
    cut: "does not decode: {part}",
    empty: "empty: a file of 0 bytes",
    no_image: "does not decode: {part}not an image",
    sixteen_bits: "of 16 bits: mode I;16, convert it to 8 bits",
    bomb(8000): "too large: 8000 x 8000 px",
    bomb(60_000): "too large: 60000 x 60000 px, more than 50 megapixels: s",
    lost_link: "not readable: a link that leads nowhere",
    link_to_itself: "not readable: Too many levels of symbolic links",
}
FOLDER_FAULT = {folder: "not readable: Is a directory"}


@dataclass
class Raw:
    """A raw data set in the making.

    Attributes:
        root: where it is.
        good: keys of faces that can be used.
        reasons: by source, how the reason begins for which it is rejected.
    """

    root: Path
    good: set[str] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)

    def spoil(self, spoil: Callable[[Path], None], path: str, reason: str, source: str) -> None:
        spoil(self.root / path)
        self.reasons[source] = reason


def source_of(root: Path, layout: str) -> Path | JoinedLocation:
    """The raw data set: of a plain folder, the two folders in it."""
    if layout.partition(":")[0] != "folder":
        return root
    return JoinedLocation(tuple((name, Folder(root / name)) for name in ("images", "masks")))


def list_more(raw: Raw, names: list[str]) -> None:
    with (raw.root / "exemplars.txt").open("a") as file:
        file.writelines(f"{index} , {name}\n" for index, name in enumerate(names, 5))


def keys_in(out: Path) -> set[str]:
    found = set()
    for shard in out.rglob("*.tar"):
        with shard.open("rb") as file:
            found |= {key for key, _ in read_samples(file)}
    return found


def check(raw: Raw, layout: str, out: Path, split: str = "") -> Manifest:
    """Shards it: what is listed as rejected, what is there, and that it is sound."""
    recipe = Recipe(layout=layout, split=split, shard_size=5, max_rejected=1)
    manifest = build(source_of(raw.root, layout), out, recipe)
    found = {rejection.source: rejection.reason for rejection in manifest.rejected}
    begins = {source: found[source][: len(raw.reasons.get(source, ""))] for source in found}
    assert begins == raw.reasons
    assert len(found) == len(manifest.rejected)
    assert keys_in(out) == raw.good
    assert sum(manifest.num_samples.values()) == len(raw.good)
    assert verify(out) == []
    return manifest
