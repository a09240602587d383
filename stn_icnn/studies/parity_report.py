"""The report of sliced and sampled patches (paper section 3.3, Figures 7 and 8)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch
from PIL import Image
from torch import Tensor

from stn_icnn.data.batch import Batch
from stn_icnn.networks.execution import default_device
from stn_icnn.reporting.charts import Colour, open_figure, save_with_legend
from stn_icnn.reporting.overlay import Uint8Array
from stn_icnn.reporting.picture_grid import Row, fitted, picture_grid, pixels_of
from stn_icnn.reporting.tables import markdown_table, write_csv, write_markdown
from stn_icnn.studies.experiment_result import ExperimentResult
from stn_icnn.studies.parity import (
    PatchDifference,
    compare_patches,
    cut_both_ways,
    on_corner,
    on_pixel,
    source_positions,
)

ALIGNED: Final = {"pixel": on_pixel, "corner": on_corner}
"""The points that the patches are centred on, by name."""
SHOWN_PX: Final = 96
"""Side of a patch in the picture, px."""
SAMPLING_PX: Final = (4, 5)
"""Patch sizes whose sampling is drawn, as in Figure 7, px."""

Differences = Mapping[tuple[int, str], PatchDifference]
"""The differences by patch size, px, and by the point that the patches are centred on."""


def report_parity(
    folder: Path, samples: Sequence[Batch], dataset: str, sizes: Sequence[int]
) -> ExperimentResult:
    """Cuts patches both ways and writes `parity.md`, `.csv`, `.png` and `parity_grid.png`.

    Args:
        folder: an existing folder for the files.
        samples: the faces whose parts are cut.
        dataset: name of their data set.
        sizes: sides of the patches, px.
    """
    device = default_device()
    found = {
        (px, aligned): _difference(samples, px, aligned, device)
        for px in sizes
        for aligned in ALIGNED
    }
    table = _table(found)
    write_markdown(
        folder / "parity.md",
        "Patches sampled by the grid transformer beside integer slicing (Figures 7 and 8)",
        f"The parts of {len(samples)} faces ({dataset}), each cut around the pixel that "
        f"its centre lies in, on {device.type}. Levels are those of 8 bits, 0 to 255.",
        table,
        "The paper: all zero for odd sizes; for even ones it says that there is no integer grid.",
        "An odd patch centred on a pixel covers whole pixels. An even one begins and ends in the "
        "middle of pixels: sampling takes the mean of 2 x 2 neighbours, slicing moves by half a "
        "pixel to the left and up, and the difference is what the photograph changes over half a "
        "pixel. Around a corner between pixels it is the even patch that is exact.",
        "![patches](parity.png)",
        "![where they are sampled](parity_grid.png)",
    )
    _write_csv(folder / "parity.csv", found)
    Image.fromarray(_picture(samples[0], sizes, device)).save(folder / "parity.png")
    _draw_sampling(folder / "parity_grid.png")
    largest = {str(px): found[px, "pixel"].largest for px in sizes}
    metrics = {f"parity/largest_{px}": float(levels) for px, levels in largest.items()}
    return ExperimentResult(table, {"largest_difference": largest}, metrics)


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


def _table(found: Differences) -> list[str]:
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
    return markdown_table(heading, rows)


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
