"""Compares the grid transformer with integer slicing (paper section 3.3, Figures 7 and 8).

A patch of odd size centred on a pixel covers whole pixels, and both cut the same. One of even size
centred on a pixel begins and ends in the middle of pixels: the sampler takes means of 2 x 2
neighbours, slicing has to move by half a pixel, and they differ by as much as the picture does over
half a pixel. It is the position of the edges that counts, not evenness: around a corner between
pixels it is the even patch that is exact.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from PIL import Image
from torch import Tensor

from stn_icnn.data.batch import Batch
from stn_icnn.geometry import crop, theta_from_windows
from stn_icnn.networks.execution import default_device
from stn_icnn.reporting.charts import Colour, open_figure, save_with_legend
from stn_icnn.reporting.documents import Block, PictureFile, write_document
from stn_icnn.reporting.overlay import Uint8Array
from stn_icnn.reporting.picture_grid import Row, fitted, picture_grid, pixels_of
from stn_icnn.reporting.tables import Table, write_csv
from stn_icnn.studies.experiment_result import ExperimentResult


@dataclass(frozen=True)
class PatchDifference:
    """The difference of sampled patches from sliced ones, in 8-bit levels, 0 to 255."""

    largest: int
    """The largest difference of a value, after rounding, levels."""
    share: float
    """The share of the values that differ after rounding, in [0, 1]."""
    largest_unrounded: float
    """The largest difference of a value before rounding, levels."""
    mean_unrounded: float
    """The mean difference over all values before rounding, levels."""


def on_pixel(point: Tensor) -> Tensor:
    """Returns the centre of the pixel that each point lies in: `[..., 2]` px."""
    return point.floor() + 0.5


def on_corner(point: Tensor) -> Tensor:
    """Returns the corner between pixels that is nearest to each point: `[..., 2]` px."""
    return point.round()


def slice_patch(image: Tensor, centre: Sequence[float], px: int) -> Tensor:
    """Cuts a patch of whole pixels, as the baseline's cropper does.

    Convention: (x, y) in px of the image, the centre of the top left pixel at (0.5, 0.5). The patch
    is 0 outside the image; where it would begin inside a pixel, it begins at the pixel's left and
    upper edge instead.

    Args:
        image: `[C, H, W]`, of any dtype.
        centre: (x, y) within the image, px.
        px: side of the patch.

    Returns:
        `[C, px, px]`, of the image's dtype.
    """
    height, width = image.shape[1:]
    left, top = (math.floor(at - px / 2) for at in centre)
    rows = slice(max(0, top), min(height, top + px))
    columns = slice(max(0, left), min(width, left + px))
    patch = image.new_zeros(image.shape[0], px, px)
    inside = patch[
        :, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]
    inside[:] = image[:, rows, columns]
    return patch


def sample_patches(image: Tensor, centres: Tensor, px: int) -> Tensor:
    """Cuts patches as the model does, by theta and bilinear sampling (equations 3 and 14).

    Convention: as in `slice_patch`, but patches may begin anywhere.

    Args:
        image: `[C, H, W]`, of any dtype.
        centres: `[P, 2]` float32, px.
        px: side of the windows and of the patches.

    Returns:
        `[P, C, px, px]` float32.
    """
    windows = torch.cat([centres, torch.full_like(centres, px)], dim=-1)[None]
    size = centres.new_tensor([image.shape[2], image.shape[1]])
    return crop(image[None].float(), theta_from_windows(windows, size), px)[0]


def cut_both_ways(image: Tensor, centres: Tensor, px: int) -> tuple[Tensor, Tensor]:
    """Cuts the same patches both ways, sliced and sampled.

    Args:
        image: `[C, H, W]` uint8.
        centres: `[P, 2]` float32, px.
        px: side of the patches.

    Returns:
        `[P, C, px, px]` uint8 and float32.
    """
    sliced = torch.stack([slice_patch(image, centre, px) for centre in centres.tolist()])
    return sliced, sample_patches(image, centres, px)


def compare_patches(sliced: Tensor, sampled: Tensor) -> PatchDifference:
    """Compares patches, `[...]` uint8 and float32, as `cut_both_ways` returns them."""
    unrounded = (sampled - sliced).abs()
    rounded = (sampled.round() - sliced).abs()
    return PatchDifference(
        largest=int(rounded.max()),
        share=float((rounded > 0).double().mean()),
        largest_unrounded=float(unrounded.max()),
        mean_unrounded=float(unrounded.double().mean()),
    )


def source_positions(px: int) -> tuple[list[float], list[float]]:
    """Finds where the pixels of a patch centred on a pixel come from, along an axis (Figure 7).

    Both ways cut an image whose values are the positions of its pixels.

    Args:
        px: side of the patch.

    Returns:
        `px` positions each, sliced and sampled, px from the window's centre.
    """
    side = 2 * px + 1
    centre = px + 0.5
    ruler = (torch.arange(side) + 0.5).expand(1, side, side)
    sliced = slice_patch(ruler, (centre, centre), px)
    sampled = sample_patches(ruler, torch.full((1, 2), centre), px)
    return (sliced[0, 0] - centre).tolist(), (sampled[0, 0, 0] - centre).tolist()


ALIGNED: Final = {"pixel": on_pixel, "corner": on_corner}
"""The points that the patches are centred on, by name."""
SHOWN_PX: Final = 96
"""Side of a patch in the picture, px."""
SAMPLING_PX: Final = (4, 5)
"""Patch sizes whose sampling is drawn, as in Figure 7, px."""

Differences = Mapping[tuple[int, str], PatchDifference]
"""The differences by patch size, px, and by the point that the patches are centred on."""


def report_parity(
    folder: Path,
    samples: Sequence[Batch],
    dataset: str,
    sizes: Sequence[int],
    about: Sequence[Block] = (),
) -> ExperimentResult:
    """Cuts patches both ways and writes `parity.md`, `.csv`, `.png`, `parity_grid.png` and
    `report.html`.

    Args:
        folder: an existing folder for the files.
        samples: the faces whose parts are cut.
        dataset: name of their data set.
        sizes: sides of the patches, px.
        about: the end of the report.
    """
    device = default_device()
    found = {
        (px, aligned): _difference(samples, px, aligned, device)
        for px in sizes
        for aligned in ALIGNED
    }
    table = _table(found)
    Image.fromarray(_picture(samples[0], sizes, device)).save(folder / "parity.png")
    _draw_sampling(folder / "parity_grid.png")
    write_document(
        folder,
        "parity",
        "Patches sampled by the grid transformer beside integer slicing (Figures 7 and 8)",
        f"The parts of {len(samples)} faces ({dataset}), each cut around the pixel that "
        f"its centre lies in, on {device.type}. Levels are those of 8 bits, 0 to 255.",
        table,
        "The paper: all zero for odd sizes; for even ones it says that there is no integer grid.",
        "An odd patch centred on a pixel covers whole pixels. An even one begins and ends in the "
        "middle of pixels: sampling takes the mean of 2 x 2 neighbours, slicing moves by half a "
        "pixel to the left and up, and the difference is what the photograph changes over half a "
        "pixel. Around a corner between pixels it is the even patch that is exact.",
        PictureFile("parity.png", "patches"),
        PictureFile("parity_grid.png", "where they are sampled"),
        *about,
    )
    _write_csv(folder / "parity.csv", found)
    largest = {str(px): found[px, "pixel"].largest for px in sizes}
    metrics = {f"parity/largest_{px}": float(levels) for px, levels in largest.items()}
    differences = ", ".join(f"{levels} at {px} px" for px, levels in largest.items())
    headline = f"largest difference from slicing, in levels of 255: {differences}"
    return ExperimentResult(
        table.markdown, {"largest_difference": largest}, metrics, headline=headline
    )


def _centres(sample: Batch) -> Tensor:
    """Returns the centres of the parts that a face has, `[P, 2]` px."""
    assert sample.centres is not None
    assert sample.present is not None
    return sample.centres[sample.present]


def _difference(
    samples: Sequence[Batch], px: int, aligned: str, device: torch.device
) -> PatchDifference:
    """Compares the patches of all parts of some faces."""
    cut = [
        cut_both_ways(
            sample.images[0].to(device), ALIGNED[aligned](_centres(sample)).to(device), px
        )
        for sample in samples
    ]
    sliced, sampled = (torch.cat(patches) for patches in zip(*cut, strict=True))
    return compare_patches(sliced, sampled)


def _table(found: Differences) -> Table:
    heading = (
        "patch, px",
        "centred on a",
        "largest difference, levels",
        "values that differ",
        "largest before rounding, levels",
        "mean before rounding, levels",
    )
    rows = [
        (px, aligned, d.largest, f"{d.share:.1%}", f"{d.largest_unrounded:.3g}",
         f"{d.mean_unrounded:.3g}")
        for (px, aligned), d in found.items()
    ]  # fmt: skip
    return Table(heading, rows)


def _write_csv(path: Path, found: Differences) -> None:
    fields = list(asdict(next(iter(found.values()))))
    rows = [[px, aligned, *asdict(d).values()] for (px, aligned), d in found.items()]
    write_csv(path, ["patch_px", "centred_on", *fields], rows)


def _picture(sample: Batch, sizes: Sequence[int], device: torch.device) -> Uint8Array:
    """Draws Figure 8: a face, and for each size its parts sliced, sampled, and what differs."""
    rows: list[Row] = [("face", [fitted(pixels_of(sample.images[0]), 2 * SHOWN_PX)])]
    centres = on_pixel(_centres(sample)).to(device)
    for px in sizes:
        sliced, sampled = cut_both_ways(sample.images[0].to(device), centres, px)
        rounded = sampled.round().to(torch.uint8)
        apart = (rounded.int() - sliced.int()).abs().to(torch.uint8)
        for name, patches in (("sliced", sliced), ("sampled", rounded), ("difference", apart)):
            row = [fitted(pixels_of(patch), SHOWN_PX) for patch in patches]
            rows.append((f"{px} px, {name}", row))
    return picture_grid(rows)


def _draw_sampling(path: Path) -> None:
    """Draws Figure 7: the pixels that a slice takes, and where the sampler looks."""
    titles = [f"{px} x {px}, centred on a pixel" for px in SAMPLING_PX]
    figure, columns = open_figure(*titles, width=3.4 * len(titles), height=4.2)
    colours = {"sliced": Colour.BASELINE, "sampled": Colour.MODEL}
    for axes, px in zip(columns, SAMPLING_PX, strict=True):
        for positions, (name, colour) in zip(source_positions(px), colours.items(), strict=True):
            x, y = zip(*((x, y) for x in positions for y in positions), strict=True)
            axes.scatter(x, y, s=60 if name == "sliced" else 18, color=colour, label=name)
        edges = [i - 0.5 for i in range(-(px // 2), px // 2 + 2)]
        axes.set_xticks(edges, [])
        axes.set_yticks(edges, [])
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(edges[-1], edges[0])  # downwards
        axes.grid(axis="both", alpha=0.4)
        axes.set_aspect("equal")
    save_with_legend(figure, path)
