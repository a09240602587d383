"""Reports what a data set holds: counts, class balance, part sizes, sides, a contact sheet."""

import collections
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sharding.manifest import Manifest, load_manifest
from sharding.packing.building import counted_by_kind
from sharding.packing.plausibility import weigh
from sharding.packing.sample import count_classes, encode_image, read_samples
from sharding.storage.location import Address, open_location, split_url
from stn_icnn.decoding import DECODE_ERRORS
from stn_icnn.labels import LabelSet
from stn_icnn.progress import progress
from stn_icnn.reporting.overlay import legend, overlay
from stn_icnn.storage import StorageLocation

SHEET_IMAGES: Final = 24
_COLUMNS, _CELL_PX, _KEY_PX = 4, 192, 22

_RAW_NAMES: Final = {
    "helen": {
        "brow": ("right_brow (HELEN's lbl02)", "left_brow (lbl03)"),
        "eye": ("right_eye (HELEN's lbl04)", "left_eye (lbl05)"),
    },
    **{
        layout: {
            "brow": (f"right_brow ({dataset}'s id 2)", "left_brow (id 3)"),
            "eye": (f"right_eye ({dataset}'s id 4)", "left_eye (id 5)"),
        }
        for layout, dataset in (("lapa", "LaPa"), ("helen-relabeled", "Relabeled HELEN"))
    },
}
"""The names, in the raw data set, of a pair's (right, left) parts, where they are its own."""


def inspect_shards(address: Address, sheet: str | Path) -> str:
    """Reads the data set at an address, writes the contact sheet (PNG) and returns the report.

    Args:
        address: a folder or `s3://bucket/prefix`.
        sheet: a file's path or `s3://bucket/key`.

    Raises:
        ValueError: there is no finished data set there, it holds no samples, or a label map in it
            does not decode.
    """
    location = open_location(address)
    manifest = load_manifest(location)
    num_samples = sum(manifest.num_samples.values())
    if not num_samples:
        raise ValueError(f"{location.url} holds no samples, {len(manifest.rejected)} were rejected")
    wanted = np.linspace(0, num_samples - 1, min(num_samples, SHEET_IMAGES), dtype=int)
    cells = []
    sizes_px: dict[str, list[tuple[int, int]]] = collections.defaultdict(list)
    class_faces = np.zeros(manifest.label_set.num_classes, np.int64)
    read = progress(_iterate(location, manifest), num_samples, "image")
    for number, (key, sample) in enumerate(read):
        for part, (_, _, x0, y0, x1, y1, _) in json.loads(sample["json"])["parts"].items():
            sizes_px[part].append((int(x1 - x0), int(y1 - y0)))
        labels = _decode_labels(key, sample["png"])
        class_faces += count_classes(labels, manifest.label_set) > 0
        if number in wanted:
            cells.append(_draw_cell(key, sample["jpg"], labels, manifest.label_set))
    folder, name = split_url(sheet)
    folder.write(name, encode_image(_draw_sheet(cells, manifest.label_set), "PNG"))
    blocks = (
        _report_counts(manifest),
        _report_classes(manifest),
        _report_parts(sizes_px, num_samples, manifest.label_set),
        [*_report_sides(manifest), *_report_doubts(manifest, class_faces.tolist())],
        [f"contact sheet: {sheet}"],
    )
    return "\n\n".join("\n".join(lines) for lines in blocks if lines)


def _iterate(
    location: StorageLocation, manifest: Manifest
) -> Iterator[tuple[str, dict[str, bytes]]]:
    for shards in manifest.splits.values():
        for shard in shards:
            with location.open(shard.path) as file:
                yield from read_samples(file)


def _report_counts(manifest: Manifest) -> list[str]:
    kinds = counted_by_kind(manifest.rejected)
    lines = [
        f"{manifest.dataset}, split {manifest.split_rule}, "
        f"{manifest.scale.fit.replace('_', ' ')} {manifest.scale.px} px",
        f"fingerprint {manifest.fingerprint}",
        f"{len(manifest.rejected)} rejected" + (f": {kinds}" if kinds else ""),
        f"{'split':<12}{'samples':>9}{'shards':>8}{'MB':>9}",
    ]
    for split, shards in manifest.splits.items():
        megabytes = sum(shard.bytes for shard in shards) / 1e6
        lines.append(
            f"{split:<12}{manifest.num_samples[split]:>9}{len(shards):>8}{megabytes:>9.1f}"
        )
    return lines


def _report_classes(manifest: Manifest) -> list[str]:
    """Lists each class's share of the pixels, in percent; `-` for an empty split."""
    lines = ["% of pixels " + "".join(f"{split:>9}" for split in manifest.class_pixels)]
    for class_id, name in enumerate(manifest.label_set.class_names):
        shares = [
            f"{100 * counts[class_id] / sum(counts):>9.3f}" if any(counts) else f"{'-':>9}"
            for counts in manifest.class_pixels.values()
        ]
        lines.append(f"{name:<12}{''.join(shares)}")
    return lines


def _report_parts(
    sizes_px: Mapping[str, list[tuple[int, int]]], num_samples: int, label_set: LabelSet
) -> list[str]:
    lines = [f"{'part':<12}{'present':>9}{'median px':>12}{'90 % px':>12}"]
    for part in label_set.parts:
        sizes = np.array(sizes_px.get(part.name, ())).reshape(-1, 2)
        present = f"{100 * len(sizes) / num_samples:.1f} %"
        columns = [
            "{:.0f}x{:.0f}".format(*np.percentile(sizes, percent, axis=0)) if len(sizes) else "-"
            for percent in (50, 90)
        ]
        lines.append(f"{part.name:<12}{present:>9}{columns[0]:>12}{columns[1]:>12}")
    return lines


def _report_sides(manifest: Manifest) -> list[str]:
    """Tells whether `left` is the subject's left, which lies to the right in the image."""
    lines = []
    for pair, sides in manifest.sides.items():
        left, right = manifest.label_set.part_pairs[pair]
        names = _RAW_NAMES.get(manifest.dataset, {}).get(pair, (right, left))
        verdict = "WRONG: left and right are swapped" if sides.swapped else "as it should be"
        verdict = verdict if sides.both else "not checked"
        share = f"{sides.right} of {sides.both} faces"
        lines.append(f"{names[0]} lies left of {names[1]} in {share}: {verdict}")
    return lines


def _report_doubts(manifest: Manifest, class_faces: Sequence[int]) -> list[str]:
    wrong, warnings = weigh(manifest, class_faces)
    return [f"error: {wrong}"] * bool(wrong) + [f"warning: {line}" for line in warnings]


def _decode_labels(key: str, png: bytes) -> NDArray[np.uint8]:
    try:
        return np.asarray(Image.open(io.BytesIO(png)))
    except DECODE_ERRORS as error:
        raise ValueError(
            f"the label map of {key} does not decode: `python -m sharding verify` tells what is "
            "wrong there"
        ) from error


def _draw_cell(
    key: str, jpeg: bytes, labels: NDArray[np.uint8], label_set: LabelSet
) -> Image.Image:
    """Draws a photograph and, beside it, its labels over it, under its key."""
    photo = Image.open(io.BytesIO(jpeg))
    photo.thumbnail((_CELL_PX, _CELL_PX))
    resized = Image.fromarray(labels).resize(photo.size, Image.Resampling.NEAREST)
    labelled = overlay(np.asarray(photo), np.asarray(resized), label_set)
    cell = Image.new("RGB", (2 * _CELL_PX, _CELL_PX + _KEY_PX), "white")
    cell.paste(photo, (0, _KEY_PX))
    cell.paste(Image.fromarray(labelled), (_CELL_PX, _KEY_PX))
    ImageDraw.Draw(cell).text((4, 4), key, fill="black")
    return cell


def _draw_sheet(cells: list[Image.Image], label_set: LabelSet) -> Image.Image:
    """Lays the cells in rows under a legend of the classes."""
    columns = min(_COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    width, height = cells[0].size
    top = Image.fromarray(legend(columns * width, label_set, range(label_set.num_classes)))
    sheet = Image.new("RGB", (columns * width, top.height + rows * height), "white")
    sheet.paste(top)
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        sheet.paste(cell, (column * width, top.height + row * height))
    return sheet
