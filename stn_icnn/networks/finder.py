"""The finder: an interlinked CNN that looks for faces in a reduced photograph.

It labels the photograph's pixels as the coarse network does and, beside the labels, has every pixel
of a face vote for the face's frame: the square, turned with the face, that the parser was trained
to see. Votes that agree make a face.

Convention: a frame is `(x, y, side, cos, sin)`: its centre and side in pixels of the reduced
photograph, pixel centres at +0.5, and its direction, which is the image of the frame's own x axis.
A cell is the square of 2 x 2 pixels that one output stands for.
"""

from dataclasses import dataclass
from typing import Final, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stn_icnn.label_sets import FACE_MIDDLE
from stn_icnn.labels import LabelSet
from stn_icnn.networks.icnn import ICNN

CELL_PX: Final = 2
"""Side of a cell, px of the reduced photograph."""

REFERENCE_SIDE: Final = 64.0
"""The side of a frame, px, for which a vote's logarithm is 0."""

LEAST_SPREAD: Final = 0.02
"""The least standard deviation of a photograph's values that its light is evened out by."""

NUM_VOTES: Final = 5
"""Numbers of a vote: the way to the frame's centre in x and y, as shares of its side; the logarithm
of its side over REFERENCE_SIDE; cosine and sine of its direction."""


@dataclass(frozen=True)
class FinderOutput:
    """The outputs of the finder for N photographs, a value or several for each of h x w cells."""

    logits: Tensor
    """`[N, K, h, w]` float32, of the label set's K located classes."""
    face_logits: Tensor
    """`[N, h, w]` float32, of the cell lying in the middle of a face."""
    votes: Tensor
    """`[N, NUM_VOTES, h, w]` float32."""

    def frames(self) -> Tensor:
        """Returns the frame that each cell votes for, `[N, 5, h, w]` float32."""
        x, y, log_side = self.votes[:, :3].unbind(1)
        cos, sin = F.normalize(self.votes[:, 3:], eps=1e-6).unbind(1)
        side = REFERENCE_SIDE * log_side.clamp(-4, 4).exp()
        columns, rows = cell_centres(x)
        return torch.stack([columns + side * x, rows + side * y, side, cos, sin], dim=1)


Number = TypeVar("Number", Tensor, float)


def face_middle(
    x: Number, y: Number, side: Number, cos: Number, sin: Number
) -> tuple[Number, Number]:
    """Returns the middle of the inner parts of the face in a frame, x and y, px."""
    right, down = side * (FACE_MIDDLE[0] - 0.5), side * (FACE_MIDDLE[1] - 0.5)
    return x + cos * right - sin * down, y + sin * right + cos * down


def cell_centres(like: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the x of each column of cells, `[w]`, and the y of each row, `[h, 1]`, px."""
    height, width = like.shape[-2:]
    columns = (torch.arange(width, device=like.device) + 0.5) * CELL_PX
    rows = (torch.arange(height, device=like.device) + 0.5) * CELL_PX
    return columns, rows[:, None]


class Finder(nn.Module):
    """An interlinked CNN on cells of 2 x 2 pixels, which costs a fourth of one on the pixels.

    Args:
        label_set: the classes that it labels, and the parts of the mean face.
        kernel_size: side of all kernels, odd.

    Attributes:
        mean_face: `[P, 2]` float32, where the faces that it was trained on have their parts on
            average, as shares of the frame. The label set's own mean face until it is trained.
    """

    mean_face: Tensor
    num_averaged: Tensor

    def __init__(self, label_set: LabelSet, kernel_size: int = 3) -> None:
        super().__init__()
        self.num_classes = len(label_set.located_classes)
        channels = 3 * CELL_PX**2
        self.network = ICNN(self.num_classes + 1 + NUM_VOTES, kernel_size, channels)
        self.register_buffer("mean_face", torch.tensor([part.centre for part in label_set.parts]))
        self.register_buffer("num_averaged", torch.zeros(label_set.num_parts))

    @property
    def is_trained(self) -> bool:
        """Whether it has seen any faces."""
        return bool(self.num_averaged.any())

    def forward(self, photos: Tensor) -> Tensor:
        """Looks for faces in reduced photographs.

        Args:
            photos: `[N, 3, H, W]` float in [0, 1]; H and W even, at least 16 px.

        Returns:
            `[N, K + 1 + NUM_VOTES, H / 2, W / 2]`: what `split` makes a `FinderOutput` of.
        """
        mean = photos.mean(dim=(1, 2, 3), keepdim=True)
        spread = photos.std(dim=(1, 2, 3), keepdim=True).clamp(min=LEAST_SPREAD)
        out: Tensor = self.network(F.pixel_unshuffle((photos - mean) / spread, CELL_PX))
        return out

    def split(self, out: Tensor) -> FinderOutput:
        """Splits the network's output into its parts."""
        logits, face, votes = torch.split(out, [self.num_classes, 1, NUM_VOTES], dim=1)
        return FinderOutput(logits, face[:, 0], votes)

    def restart_average(self) -> None:
        """Begins the mean face anew; until it is given faces, it stays what it was."""
        self.num_averaged.zero_()

    @torch.no_grad()
    def average(self, shares: Tensor, present: Tensor) -> None:
        """Takes faces into the mean face.

        Args:
            shares: `[N, P, 2]` float32, the parts' centres as shares of the frame.
            present: `[N, P]` bool, whether a face has each part.
        """
        counted = present.sum(dim=0)
        total = self.num_averaged + counted
        step = ((shares - self.mean_face) * present[..., None]).sum(dim=0)
        self.mean_face += step / total.clamp(min=1)[:, None]
        self.num_averaged += counted
