"""Gathering the votes of a finder's cells into faces."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stn_icnn.networks.finder import CELL_PX, FinderOutput, face_middle

CORE_RADIUS: Final = 0.22
"""Radius of the disc about the middle of a face whose cells are to say that they lie in a face, as
a share of the frame's side."""

LEAST_PROBABILITY: Final = 0.2
"""The least probability of lying in a face for a cell to have a vote."""

LEAST_SCORE: Final = 0.1
"""Faces with a lower score are no candidates at all."""

MOST_FACES: Final = 64
"""The most faces that are looked for in a photograph."""

MOST_APART: Final = 0.3
"""How far the centres of frames that are one face's may lie apart, as a share of their side."""

MOST_RATIO: Final = 1.6
"""How much larger one of them may be than another."""


@dataclass(frozen=True)
class VotedFaces:
    """The faces that cells have voted for, those with the highest scores first."""

    frames: NDArray[np.float32]
    """`[M, 5]`: x, y, side, cos, sin, px of the reduced photograph."""
    scores: NDArray[np.float32]
    """`[M]`, in [0, 1]: the mean probability of the votes, times the share of those expected of a
    face of this size that there are."""

    def above(self, score: float) -> "VotedFaces":
        """Returns those with at least a score."""
        kept = self.scores >= score
        return VotedFaces(self.frames[kept], self.scores[kept])


def gather_votes(output: FinderOutput) -> list[VotedFaces]:
    """Gathers the votes of N photographs into faces.

    The surest cell's frame is the first guess; the frames that agree with it are averaged, twice.
    Their cells, and those in the middle of the face, are then spent, and the surest of the others
    comes next.
    """
    probabilities = output.face_logits.float().sigmoid().cpu().numpy()
    frames = output.frames().float().cpu().numpy()
    return [_faces_of(*one) for one in zip(probabilities, frames, strict=True)]


def _faces_of(probability: NDArray[np.float32], frames: NDArray[np.float32]) -> VotedFaces:
    rows, columns = np.nonzero(probability > LEAST_PROBABILITY)
    weight = probability[rows, columns]
    votes = frames[:, rows, columns].T
    at = np.stack([columns + 0.5, rows + 0.5], axis=1) * CELL_PX
    size = np.array(probability.shape[::-1]) * CELL_PX
    unspent = np.ones(len(weight), bool)
    faces: list[NDArray[np.float32]] = []
    scores: list[float] = []
    while unspent.any() and len(faces) < MOST_FACES:
        surest = np.argmax(np.where(unspent, weight, -1))
        face = votes[surest]
        for _ in range(2):
            agreeing = unspent & agree(votes, face)
            if not agreeing.any():
                break
            face = _mean_frame(votes[agreeing], weight[agreeing])
        in_core = np.hypot(*(at - middle(face)).T) < CORE_RADIUS * face[2]
        counted = agreeing & in_core
        expected = _cells_in_core(face, size)
        score = weight[counted].sum() / max(expected, 1.0)
        if score >= LEAST_SCORE:
            faces.append(face)
            scores.append(min(1.0, float(score)))
        spent = agreeing | (in_core & agree(votes, face))
        spent[surest] = True
        unspent &= ~spent
    found = VotedFaces(np.array(faces, np.float32).reshape(-1, 5), np.array(scores, np.float32))
    order = keep_apart(found.frames, found.scores)
    return VotedFaces(found.frames[order], found.scores[order])


def agree(frames: NDArray[np.float32], face: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tells which frames, `[K, 5]`, may be of one face with another, `[5]`."""
    apart = np.hypot(*(frames[:, :2] - face[:2]).T)
    side = np.sqrt(frames[:, 2] * face[2])
    ratio = np.maximum(frames[:, 2], face[2]) / np.minimum(frames[:, 2], face[2])
    same: NDArray[np.bool_] = (apart < MOST_APART * side) & (ratio < MOST_RATIO)
    return same & (frames[:, 3:] @ face[3:] > 0.5)


def middle(face: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the middle of a face's inner parts, (x, y) px."""
    return np.array(face_middle(*face))


def _mean_frame(frames: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Averages frames; their sides by their logarithms."""
    share = (weights / weights.sum())[:, None]
    x, y = (share * frames[:, :2]).sum(axis=0)
    side = math.exp(float((share[:, 0] * np.log(frames[:, 2])).sum()))
    cos, sin = (share * frames[:, 3:]).sum(axis=0)
    length = max(math.hypot(cos, sin), 1e-6)
    return np.array([x, y, side, cos / length, sin / length], np.float32)


def _cells_in_core(face: NDArray[np.float32], size: NDArray[np.int64]) -> float:
    """Returns the number of cells of the photograph in the middle of a face."""
    x, y = middle(face)
    radius = CORE_RADIUS * face[2]
    at = (np.arange(-8, 8) + 0.5) / 8 * radius
    across, down = np.meshgrid(at, at)
    disc = across**2 + down**2 < radius**2
    across, down = across[disc] + x, down[disc] + y
    inside = (across > 0) & (across < size[0]) & (down > 0) & (down < size[1])
    return float(math.pi * radius**2 / CELL_PX**2 * inside.mean())


def keep_apart(frames: NDArray[np.float32], scores: NDArray[np.float32]) -> list[int]:
    """Returns the indices of frames that are of different faces, the highest scores first.

    Of two whose middles lie in each other's, the one with the lower score goes.
    """
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        centre, side = middle(frames[i]), frames[i, 2]
        near = (
            np.hypot(*(middle(frames[j]) - centre)) < MOST_APART * max(side, frames[j, 2])
            for j in kept
        )
        if not any(near):
            kept.append(i)
    return kept
