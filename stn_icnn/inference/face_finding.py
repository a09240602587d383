"""Finding the faces of photographs with a model's own finder, in two looks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from stn_icnn.inference.face_cutting import cut_square
from stn_icnn.inference.face_frame import FaceFrame
from stn_icnn.networks.face_votes import VotedFaces, gather_votes, keep_apart
from stn_icnn.networks.finder import CELL_PX
from stn_icnn.networks.model import STNiCNN

Photo = NDArray[np.uint8]
"""`[H, W, 3]` RGB."""

LOOKS_AT_ONCE: Final = 32
"""The most pictures that the finder sees at a time."""

LEAST_PX: Final = 16
"""The least side of a picture that the finder sees, px."""

SURE_SCORE: Final = 0.5
"""The score of a face from which a photograph is not looked at turned by quarters, too: most have
their faces upright, and none is upright in two of these."""

SECOND_LOOK: Final = 1.15
"""The side of the square of the second look per side of the frame that it sharpens."""


@dataclass(frozen=True)
class FoundFace:
    """A face's place in a photograph, and how sure it is that there is one."""

    frame: FaceFrame
    """The square that the face is cut from, px of the photograph."""
    score: float
    """In [0, 1]: 1 for a face that a user's box or landmarks name."""


class FaceFinder:
    """Finds faces in two looks: at the whole photograph, then at each place where one may be.

    A photograph in which no face is sure at first is also looked at turned by quarters.

    Args:
        model: a model with a trained finder, ready to run.
        device: where it computes.
    """

    def __init__(self, model: STNiCNN, device: torch.device) -> None:
        self._model = model
        self._device = device
        self._px = model.config.finder_px

    def find(self, photos: Sequence[Photo]) -> list[list[FoundFace]]:
        """Finds faces.

        Args:
            photos: photographs of any sizes.

        Returns:
            For each photograph its faces, the surest first; none where there is no face.
        """
        reduced = [_reduced(photo, self._px) for photo in photos]
        first = self._look(reduced)
        unsure = [i for i, voted in enumerate(first) if voted.scores.max(initial=0) < SURE_SCORE]
        for turns in (1, 2, 3):
            turned = self._look([np.rot90(reduced[i], turns) for i in unsure])
            for i, voted in zip(unsure, turned, strict=True):
                first[i] = _joined(first[i], _turned_back(voted, turns, reduced[i].shape))
        first = [
            _scaled(voted, photo, small)
            for voted, photo, small in zip(first, photos, reduced, strict=True)
        ]
        squares = [
            (i, FaceFrame(x, y, SECOND_LOOK * side, math.degrees(math.atan2(sin, cos))))
            for i, voted in enumerate(first)
            for x, y, side, cos, sin in voted.frames.tolist()
        ]
        cuts = [
            cut_square(photos[i], photos[i].shape[1::-1], square, self._px) for i, square in squares
        ]
        sharpened: list[list[FoundFace]] = [[] for _ in photos]
        for (i, square), voted in zip(squares, self._look(cuts), strict=True):
            if (face := _nearest(voted, square, self._px)) is not None:
                sharpened[i].append(face)
        return [_apart(faces) for faces in sharpened]

    @torch.inference_mode()
    def _look(self, pictures: Sequence[Photo]) -> list[VotedFaces]:
        """Looks at pictures of any sizes, those of one size together."""
        by_size: dict[tuple[int, ...], list[int]] = {}
        for i, picture in enumerate(pictures):
            by_size.setdefault(picture.shape, []).append(i)
        found: dict[int, VotedFaces] = {}
        for places in by_size.values():
            for start in range(0, len(places), LOOKS_AT_ONCE):
                some = places[start : start + LOOKS_AT_ONCE]
                seen = torch.from_numpy(np.stack([pictures[i] for i in some])).to(self._device)
                output = self._model.look_for_faces(seen.permute(0, 3, 1, 2).float() / 255)
                found.update(zip(some, gather_votes(output), strict=True))
        return [found[i] for i in range(len(pictures))]


def _reduced(photo: Photo, px: int) -> Photo:
    """Resizes a photograph to a longer side of `px`, its sides whole cells."""
    longest = max(photo.shape[:2])
    width, height = (
        max(LEAST_PX, CELL_PX * round(side * px / longest / CELL_PX)) for side in photo.shape[1::-1]
    )
    image = Image.fromarray(photo)
    return np.array(image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0))


def _turned_back(voted: VotedFaces, turns: int, shape: tuple[int, ...]) -> VotedFaces:
    """Returns the faces of a picture that was turned as they lie in the picture before.

    Args:
        voted: its faces.
        turns: how often it was turned by 90 degrees, counter-clockwise as seen.
        shape: [H, W, 3] of the picture before.
    """
    x, y, side, cos, sin = voted.frames.T
    (height, width), turned = shape[:2], (x, y, cos, sin)
    for length in (width, height, width)[:turns][::-1]:
        x, y, cos, sin = turned
        turned = (length - y, x, -sin, cos)
    x, y, cos, sin = turned
    return VotedFaces(np.stack([x, y, side, cos, sin], axis=1), voted.scores)


def _joined(one: VotedFaces, other: VotedFaces) -> VotedFaces:
    """Returns the faces of both."""
    return VotedFaces(
        np.concatenate([one.frames, other.frames]), np.concatenate([one.scores, other.scores])
    )


def _scaled(voted: VotedFaces, photo: Photo, reduced: Photo) -> VotedFaces:
    """Returns the faces of a reduced photograph as they lie in the photograph."""
    (height, width), (h, w) = photo.shape[:2], reduced.shape[:2]
    factors = np.array([width / w, height / h, max(width, height) / max(w, h), 1, 1], np.float32)
    return VotedFaces(voted.frames * factors, voted.scores)


def _nearest(voted: VotedFaces, square: FaceFrame, px: int) -> FoundFace | None:
    """Returns the face in the middle of a square, as it lies in the photograph.

    Args:
        voted: the faces that are seen in the square.
        square: the square, px of the photograph.
        px: the side of the picture of it.

    Returns:
        Of those whose frame holds the middle, the one with the highest score; None if none does.
    """
    for (x, y, side, cos, sin), score in zip(
        voted.frames.tolist(), voted.scores.tolist(), strict=True
    ):
        if math.hypot(x - px / 2, y - px / 2) > side / 2:
            continue
        (a, minus_b, left), (b, _, top) = square.affine(px).tolist()
        roll = math.degrees(math.atan2(sin, cos)) + square.roll_deg
        frame = FaceFrame(
            a * x + minus_b * y + left,
            b * x + a * y + top,
            side * square.side / px,
            (roll + 180) % 360 - 180,
        )
        return FoundFace(frame, score)
    return None


def _apart(faces: Sequence[FoundFace]) -> list[FoundFace]:
    """Returns the faces that are not the same as a surer one, the surest first."""
    rows = [
        (f.x, f.y, f.side, math.cos(math.radians(f.roll_deg)), math.sin(math.radians(f.roll_deg)))
        for f in (face.frame for face in faces)
    ]
    frames = np.array(rows, np.float32).reshape(-1, 5)
    scores = np.array([face.score for face in faces], np.float32)
    return [faces[i] for i in keep_apart(frames, scores)]
