"""The finder's training: the truth of scenes, its loss, and how many of their faces it finds."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stn_icnn.data.batch import Batch
from stn_icnn.data.scenes import Scenes
from stn_icnn.geometry import fit_similarity
from stn_icnn.labels import LabelSet
from stn_icnn.networks.face_votes import CORE_RADIUS, gather_votes
from stn_icnn.networks.finder import (
    CELL_PX,
    REFERENCE_SIDE,
    Finder,
    FinderOutput,
    cell_centres,
    face_middle,
)
from stn_icnn.training.losses import class_channels

VOTING_RADIUS: Final = 0.32
"""Radius of the disc about the middle of a face whose cells learn to vote, as a share of the
frame's side. Those beyond CORE_RADIUS may say of themselves what they like."""

LEAST_COSINE: Final = 0.34
"""The cosine of the greatest roll, 70 degrees, of a face that the finder is to see. It looks at
pictures turned by quarters, too: a face that is turned further is seen upright in another."""

VOTE_BETA: Final = 0.05
"""The error of a vote's numbers below which their loss is quadratic."""

USUAL_SHARE: Final = 0.15
MOST_WEIGHT: Final = 12.0
"""Cells of a face that covers less than USUAL_SHARE of its scene count more, by the root of the
ratio, up to MOST_WEIGHT: else small faces would not matter."""

FOUND_SCORE: Final = 0.5
"""The score from which a face counts as found in validation."""
FOUND_OFFSET: Final = 0.15
FOUND_RATIO: Final = 1.25
FOUND_COSINE: Final = 0.94
"""The most that a found frame's centre may be off, as a share of its side, the most that it may be
larger or smaller, and the cosine of the angle (20 degrees) that it may be turned, in validation."""


@dataclass(frozen=True)
class SceneTruth:
    """What the cells of scenes are to say: h x w cells of each of N scenes."""

    frames: Tensor
    """`[M, 5]` float32: x, y, side, cos, sin of each face's frame, px of its scene."""
    owner: Tensor
    """`[N, h, w]` int64, the face that a cell shows; M where it shows none."""
    labels: Tensor
    """`[N, h, w]` uint8, the class ids; 0 on faces that are turned too far to be seen."""
    distance: Tensor
    """`[N, h, w]` float32, the distance to the middle of that face, as a share of its side;
    infinite where it is turned by more than the finder is to see."""

    @classmethod
    def of(cls, scenes: Scenes, mean_face: Tensor) -> Self:
        """Fits the mean face, `[P, 2]`, to the parts of each face."""
        frames = fit_frames(mean_face, scenes.centres, scenes.present)
        owner = torch.where(scenes.owner < 0, len(frames), scenes.owner)
        x, y, side, cos, sin = _frames_of_cells(frames, owner)
        middle_x, middle_y = face_middle(x, y, side, cos, sin)
        columns, rows = cell_centres(owner)
        apart = torch.hypot(columns - middle_x, rows - middle_y)
        unseen = (scenes.owner < 0) | (cos < LEAST_COSINE)
        labels = torch.where(cos < LEAST_COSINE, 0, scenes.labels)
        return cls(frames, owner, labels, apart.div_(side).masked_fill_(unseen, torch.inf))

    @property
    def core(self) -> Tensor:
        """`[N, h, w]` bool, whether a cell lies in the middle of a face."""
        return self.distance < CORE_RADIUS

    @property
    def voting(self) -> Tensor:
        """`[N, h, w]` bool, whether a cell learns to vote."""
        return self.distance < VOTING_RADIUS

    def cells_of_faces(self, chosen: Tensor) -> Tensor:
        """Counts each face's chosen cells, `[N, h, w]` bool to `[M + 1]` float32."""
        return torch.bincount(self.owner[chosen], minlength=len(self.frames) + 1).float()

    def votes(self) -> Tensor:
        """Returns the numbers of the right vote of each cell, `[N, h, w, 5]` float32."""
        x, y, side, cos, sin = _frames_of_cells(self.frames, self.owner)
        columns, rows = cell_centres(self.owner)
        log_side = (side / REFERENCE_SIDE).log()
        return torch.stack([(x - columns) / side, (y - rows) / side, log_side, cos, sin], dim=-1)


def _frames_of_cells(frames: Tensor, owner: Tensor) -> tuple[Tensor, ...]:
    """Returns the frames' five numbers at each cell; any numbers where it shows no face."""
    nobody = frames.new_tensor([[0.0, 0.0, 1.0, 1.0, 0.0]])
    return torch.cat([frames, nobody])[owner].unbind(-1)


def fit_frames(mean_face: Tensor, centres: Tensor, present: Tensor) -> Tensor:
    """Fits the mean face to the parts of faces by similarities.

    Args:
        mean_face: `[P, 2]` float32, shares of a frame.
        centres: `[M, P, 2]` float32, px.
        present: `[M, P]` bool, the parts that count.

    Returns:
        `[M, 5]` float32: x, y, side, cos and sin of the frames.
    """
    affine, _ = fit_similarity(mean_face, centres, present.float())
    cos_side, sin_side = affine[:, 0, 0], affine[:, 1, 0]
    side = torch.hypot(cos_side, sin_side).clamp(min=1e-3)
    centre = affine[:, :, :2] @ affine.new_tensor([0.5, 0.5]) + affine[:, :, 2]
    return torch.stack([*centre.unbind(1), side, cos_side / side, sin_side / side], dim=1)


def average_faces(finder: Finder, batch: Batch) -> None:
    """Takes a batch's faces, as they lie in their photographs, into the finder's mean face."""
    assert batch.centres is not None
    assert batch.present is not None
    sizes = batch.sizes[:, None]
    longest = sizes.amax(dim=2, keepdim=True)
    finder.average((batch.centres - sizes / 2) / longest + 0.5, batch.present)


def finder_loss(
    output: FinderOutput, scenes: Scenes, truth: SceneTruth, label_set: LabelSet
) -> Tensor:
    """Adds the losses of labels, of cells in faces and of votes.

    Labels have the cross-entropy, a mean over the cells of each face, and over all cells. Cells in
    faces have the binary one, a weighted mean over cells. Votes have, as a mean over the cells of
    each face, the smooth L1 of place and side and the squared error of the direction: with an
    absolute one, all faces were taken for upright, as most are.

    Args:
        output: the finder's, for the scenes.
        scenes: N scenes.
        truth: theirs.
        label_set: whose model classes the labels are of.

    Returns:
        Scalar float32, summed over the scenes.
    """
    num_cells = truth.owner[0].numel()
    voting = truth.voting
    of_face = truth.cells_of_faces(voting).clamp(min=1)
    own_cells = of_face[truth.owner]
    share_of_face = torch.where(voting, 1 / own_cells, 0.0)
    target = class_channels(label_set.located_classes[1:], truth.labels, label_set.num_classes)
    labels = F.cross_entropy(output.logits, target, reduction="none")
    label_loss = (labels * (share_of_face + 1 / num_cells)).sum()
    emphasis = (USUAL_SHARE * num_cells / own_cells).sqrt().clamp(max=MOST_WEIGHT)
    weight = torch.where(voting, emphasis, 1.0) / num_cells
    faces = F.binary_cross_entropy_with_logits(
        output.face_logits, truth.core.float(), reduction="none"
    )
    face_loss = (faces * weight * (truth.core | ~voting)).sum()
    votes, right = output.votes.movedim(1, -1)[voting], truth.votes()[voting]
    place = F.smooth_l1_loss(votes[:, :3], right[:, :3], reduction="none", beta=VOTE_BETA)
    direction = (votes[:, 3:] - right[:, 3:]).square()
    vote_loss = ((place.sum(dim=1) + direction.sum(dim=1)) * share_of_face[voting]).sum()
    return label_loss + face_loss + vote_loss


def found_frames(output: FinderOutput) -> list[NDArray[np.float32]]:
    """Returns the frames, `[K, 5]`, that count as found in each scene."""
    return [faces.frames[faces.scores >= FOUND_SCORE] for faces in gather_votes(output)]


def count_found(output: FinderOutput, scenes: Scenes, truth: SceneTruth) -> Tensor:
    """Counts the faces that the finder finds.

    A face of which less than half of the middle is to be seen, or which is turned by more than the
    finder is to see, may be found or not.

    Returns:
        `[3]` float64: faces that are found, frames that were given, faces that should be found.
    """
    device = output.votes.device
    radius = CORE_RADIUS * truth.frames[:, 2] / CELL_PX
    seen = truth.cells_of_faces(truth.core)[:-1] / (torch.pi * radius**2).clamp(min=1)
    clear = (seen > 0.5).tolist()
    frames = truth.frames.cpu().numpy()
    found = given = 0
    for i, faces in enumerate(found_frames(output)):
        there = [k for k, scene in enumerate(scenes.scene) if scene == i]
        taken: set[int] = set()
        for frame in faces:
            match = next((k for k in there if k not in taken and _same(frame, frames[k])), None)
            if match is None:
                given += 1
                continue
            taken.add(match)
            found += clear[match]
            given += clear[match]
    counts = [found, given, sum(clear)]
    return torch.tensor(counts, dtype=torch.float64, device=device)


def _same(frame: np.ndarray, other: np.ndarray) -> bool:
    """Tells whether two frames, `[5]` each, are nearly alike."""
    apart = float(np.hypot(*(frame[:2] - other[:2]))) / other[2]
    ratio = max(frame[2], other[2]) / min(frame[2], other[2])
    return bool(
        apart <= FOUND_OFFSET and ratio <= FOUND_RATIO and frame[3:] @ other[3:] >= FOUND_COSINE
    )
