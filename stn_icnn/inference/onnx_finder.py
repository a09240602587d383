"""Exporting a model's finder as an ONNX file: photographs in, votes for faces out."""

import json
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stn_icnn.checks import require
from stn_icnn.inference.faces.finding import LEAST_PX
from stn_icnn.inference.onnx_export import (
    random_images,
    require_packages,
    rounded_quotient,
    runner,
    sym_max,
    trace,
)
from stn_icnn.networks.checkpoint import Checkpoint
from stn_icnn.networks.finder import CELL_PX, Finder
from stn_icnn.networks.folding import fold_batch_norm

MIN_EQUAL_CELLS: Final = 0.99
"""The least share of a batch's cells that ONNX Runtime must score and frame as PyTorch does."""

MAX_SCORE_DIFFERENCE: Final = 0.005
"""The most by which the score of such a cell may differ."""

MAX_FRAME_DIFFERENCE: Final = 0.02
"""The most by which its frame's place and side may differ, as a share of its side, and cosine and
sine of its turn. All of them are within a fraction of it but where a cell is of two minds about the
turn, which is then as good as random."""


def export_finder(checkpoint: Checkpoint) -> bytes:
    """Exports the finder of a model as one ONNX file, in float32.

    The file's input is `images`, `[N, 3, H, W]` uint8 RGB, for any N, H and W. Its outputs are
    `scores`, `[N, h, w]` float32, the probability of each cell of lying in a face, and `frames`,
    `[N, 5, h, w]` float32, the frame that each cell votes for: x, y, side, cosine and sine of its
    turn, px of the photograph as given. The graph reduces photographs as `FaceFinder` does, with
    PyTorch's filter instead of Pillow's. The metadata say all of this, and the mean face.

    The file is run in ONNX Runtime on random images of two sizes: at least `MIN_EQUAL_CELLS` of
    each batch's cells must have PyTorch's score and frame.

    Returns:
        The file's content.

    Raises:
        ValueError: a package is missing, the model has no trained finder, or the exported finder
            does not agree with PyTorch.
    """
    require_packages()
    trained = checkpoint.model.finds_faces
    require(trained, "the model", "one with a trained finder", checkpoint.phase)
    content = _exported(checkpoint)
    _check(content, checkpoint)
    return content


class _PhotosToVotes(nn.Module):
    """Does what the finder's look does, from photographs at their own size."""

    def __init__(self, finder: Finder, finder_px: int) -> None:
        super().__init__()
        self.finder = fold_batch_norm(finder)
        self.finder_px = finder_px

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns scores `[N, h, w]` and frames `[N, 5, h, w]` of photographs, uint8."""
        height, width = images.shape[-2:]
        reduced = _reduced(images, self.finder_px)
        output = self.finder.split(self.finder(reduced))
        rows, columns = reduced.shape[-2:]
        x, y, side, cos, sin = output.frames().unbind(dim=1)
        scale = sym_max(height, width) / sym_max(rows, columns)
        frames = (x * (width / columns), y * (height / rows), side * scale, cos, sin)
        return output.face_logits.sigmoid(), torch.stack(frames, dim=1)


def _reduced(images: Tensor, px: int) -> Tensor:
    """Resizes photographs `[N, 3, H, W]` uint8 to a longer side of `px`, as `FaceFinder` does.

    Returns:
        Float32 in [0, 1]; the sides are whole cells.
    """
    height, width = images.shape[-2:]
    longest = sym_max(height, width)
    cells = [
        sym_max(LEAST_PX // CELL_PX, rounded_quotient(side * px, longest * CELL_PX))
        for side in (height, width)
    ]
    size = [CELL_PX * number for number in cells]
    reduced = F.interpolate(images.float(), size, mode="bilinear", antialias=True)
    return reduced.round().clamp(0, 255) / 255


def _exported(checkpoint: Checkpoint) -> bytes:
    """Traces the finder; returns the file's content."""
    return trace(_photos_to_votes(checkpoint), ("scores", "frames"), _metadata(checkpoint))


def _photos_to_votes(checkpoint: Checkpoint) -> _PhotosToVotes:
    assert checkpoint.model.finder is not None
    return _PhotosToVotes(checkpoint.model.finder, checkpoint.config.model.finder_px)


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    """Returns what a user of the file alone must know; lists are JSON."""
    finder, label_set = checkpoint.model.finder, checkpoint.model.label_set
    assert finder is not None
    return {
        "input": "images: [N, 3, H, W] uint8, RGB, at their own size: the file resizes",
        "scores": "[N, h, w] float32: the probability of each cell of lying in the middle of a "
        "face; h x w cells cover the photograph evenly",
        "frames": "[N, 5, h, w] float32: the square that each cell votes for, turned with its "
        "face: x, y of its centre, side, px of the photograph as given; cosine and sine of its "
        "turn, clockwise as seen",
        "parts": json.dumps([part.name for part in label_set.parts]),
        "mean_face": json.dumps([[round(v, 5) for v in row] for row in finder.mean_face.tolist()]),
        "mean_face_is": "x, y of the centre of each of `parts` in a frame, as shares of its side",
        "finder_px": str(checkpoint.config.model.finder_px),
        "cell_px": str(CELL_PX),
    }


def _check(content: bytes, checkpoint: Checkpoint) -> None:
    """Compares what ONNX Runtime and PyTorch compute.

    Raises:
        ValueError: too few cells have the same score and frame.
    """
    expected, run = _photos_to_votes(checkpoint).eval(), runner(content)
    px = checkpoint.config.model.finder_px
    for num, height, width in ((1, px * 7 // 4, px), (2, px * 3 // 2, px * 2)):
        images = random_images(num, height, width)
        scores, frames = run(images)
        with torch.inference_mode():
            true_scores, true_frames = expected(images)
        unit = torch.ones_like(true_frames)
        unit[:, :3] = true_frames[:, 2:3]
        off_frames = ((frames - true_frames).abs() / unit).amax(dim=1)
        is_equal = (scores - true_scores).abs() <= MAX_SCORE_DIFFERENCE
        is_equal &= off_frames <= MAX_FRAME_DIFFERENCE
        equal = is_equal.float().mean().item()
        if equal < MIN_EQUAL_CELLS:
            raise ValueError(
                f"the exported finder does not do what PyTorch does, on {num} of {width} x "
                f"{height} px: {equal:.2%} of the cells have the same score and frame"
            )
