"""Finding the faces of photographs with a model's own networks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stn_icnn.config import LEAST_PARTS_TO_FIND
from stn_icnn.data.batch import stack_photos
from stn_icnn.geometry import fit_similarity
from stn_icnn.inference.faces.cutting import cut_square
from stn_icnn.inference.faces.expected_f1 import expected_counts, expected_f1
from stn_icnn.inference.faces.exposure import brighten_dark
from stn_icnn.inference.faces.frame import FaceFrame
from stn_icnn.networks.centroid_cropper import centroids
from stn_icnn.networks.face_votes import VotedFaces, agree, gather_votes, keep_apart
from stn_icnn.networks.finder import CELL_PX
from stn_icnn.networks.model import STNiCNN, located_probs

Photo = NDArray[np.uint8]
"""`[H, W, 3]` RGB."""

LOOKS_AT_ONCE: Final = 32
"""The most pictures that the finder sees at a time."""

LEAST_PX: Final = 16
"""The least side of a picture that the finder sees, px."""

SURE_FIT: Final = 0.72
"""How well a face must fit to be sure. Those that are seen upright come to 0.7 to 0.9; turned by a
quarter or more, to 0.68 at most."""

MOST_FILLED: Final = 0.3
"""The share of a photograph that the squares of sure faces must fill for it not to be looked at
turned by quarters, too: there is little room for further faces then."""

TURNED_SCORE: Final = 0.4
"""The finder's score from which what it sees in a turned photograph may be a face."""

MOST_FITS: Final = 3
"""The most times that a face is fitted to labels, each time to those of the last frame."""

STILL_OFFSET: Final = 0.04
STILL_LOG_SIDE: Final = 0.1
STILL_DEG: Final = 6.0
"""How far a fitted frame's centre may be off the square that was labelled, as a share of its side,
the logarithm of how much larger or smaller it may be, and how far it may be turned against it,
without being labelled again."""

MOST_RESIDUAL: Final = 0.12
"""The residual, as a share of the frame's side, that means no face: the fit falls to 0 there."""


@dataclass(frozen=True)
class FoundFace:
    """A face's place in a photograph, and how sure it is that there is one."""

    frame: FaceFrame
    """The square that the face is cut from, px of the photograph."""
    score: float
    """How well a face fits there, in [0, 1]; 1 where no finder can tell."""


class FaceFinder:
    """Finds faces: where the finder sees one, the coarse network's labels tell its frame.

    The finder looks at the whole photograph, reduced; unless sure faces fill it, also turned by
    quarters. The coarse network then labels the square of each face, and the similarity that brings
    the mean face nearest to the centroids of the labelled parts is the face's frame; where that is
    another square, it is labelled again.

    Args:
        model: a model with a trained finder, ready to run.
        device: where it computes.
    """

    def __init__(self, model: STNiCNN, device: torch.device) -> None:
        assert model.finder is not None
        self._model = model
        self._device = device
        self._px = model.config.finder_px
        self._mean_face = model.finder.mean_face.cpu()

    def find(self, photos: Sequence[Photo]) -> list[list[FoundFace]]:
        """Finds faces.

        Args:
            photos: photographs of any sizes.

        Returns:
            For each photograph its faces, the surest first; none where there is no face.
        """
        reduced = [_reduced(photo, self._px) for photo in photos]
        squares = self._fitted(photos, self._seen(photos, reduced, range(len(photos)), turns=0))
        filled = [0.0] * len(photos)  # the share of each photograph that sure faces fill
        for one in squares:
            height, width = photos[one.photo].shape[:2]
            filled[one.photo] += one.frame.side**2 / (width * height) * (one.fit >= SURE_FIT)
        open_to_more = [i for i, share in enumerate(filled) if share < MOST_FILLED]
        turned = [self._seen(photos, reduced, open_to_more, turns) for turns in (1, 2, 3)]
        squares += self._fitted(photos, list(chain(*turned)))
        found: list[list[FoundFace]] = [[] for _ in photos]
        for one in squares:
            height, width = photos[one.photo].shape[:2]
            if one.fit > 0 and 0 <= one.frame.x <= width and 0 <= one.frame.y <= height:
                found[one.photo].append(FoundFace(one.frame, one.fit))
        return [_apart(faces) for faces in found]

    def settle(
        self, photo: Photo, frames: Sequence[FaceFrame], is_exact: Sequence[bool]
    ) -> list[FoundFace]:
        """Fits faces in frames that another detector gives, as in those that the finder sees.

        Args:
            photo: the photograph.
            frames: squares of it, px.
            is_exact: whether each stays as it is.

        Returns:
            The faces, in their order. One that is exact, or where nothing fits that may be the same
            face, has the frame that was given, and how well a face fits there.
        """
        once = self._fit([photo], [_Square(0, frame) for frame in frames])
        faces = [FoundFace(frame, one.fit) for frame, one in zip(frames, once, strict=True)]
        rough = [i for i, exact in enumerate(is_exact) if not exact]
        last = self._fitted([photo], [once[i] for i in rough], MOST_FITS - 1)
        for i, one in zip(rough, last, strict=True):
            if one.fit > 0 and agree(_rows([one.frame]), _rows([frames[i]])[0]).all():
                faces[i] = FoundFace(one.frame, one.fit)
        return faces

    def _seen(
        self, photos: Sequence[Photo], reduced: Sequence[Photo], chosen: Sequence[int], turns: int
    ) -> list["_Square"]:
        """Returns where the finder sees a face in photographs that are turned by quarters.

        Args:
            photos: the photographs.
            reduced: the same, reduced.
            chosen: the places of those that are looked at.
            turns: how often they are turned, counter-clockwise as seen.
        """
        looks = self._look([np.rot90(reduced[i], turns) for i in chosen])
        if turns:
            looks = [voted.above(TURNED_SCORE) for voted in looks]
        return [
            _Square(i, FaceFrame(x, y, side, math.degrees(math.atan2(sin, cos))))
            for i, voted in zip(chosen, looks, strict=True)
            for x, y, side, cos, sin in _frames_in(photos[i], reduced[i], voted, turns)
        ]

    def _fitted(
        self, photos: Sequence[Photo], squares: Sequence["_Square"], times: int = MOST_FITS
    ) -> list["_Square"]:
        """Fits the mean face in squares of photographs, until it stays where it is.

        Args:
            photos: the photographs.
            squares: the squares.
            times: the most times that each is labelled.

        Returns:
            The squares of the faces, in the same order; the fit of those without one is 0.
        """
        fitted = list(squares)
        for _ in range(times):
            moved = [i for i, one in enumerate(fitted) if one.has_moved]
            for i, one in zip(moved, self._fit(photos, [fitted[i] for i in moved]), strict=True):
                fitted[i] = one
        return fitted

    @torch.inference_mode()
    def _fit(self, photos: Sequence[Photo], squares: Sequence["_Square"]) -> list["_Square"]:
        """Fits the mean face to what the coarse network labels in squares of photographs."""
        px = 2 * self._model.config.coarse_px  # as `Batch.reduced` makes them
        fitted = []
        for start in range(0, len(squares), LOOKS_AT_ONCE):
            some = squares[start : start + LOOKS_AT_ONCE]
            cuts = [
                brighten_dark(
                    cut_square(photos[one.photo], photos[one.photo].shape[1::-1], one.frame, px)
                )
                for one in some
            ]
            batch = stack_photos([torch.from_numpy(cut).permute(2, 0, 1) for cut in cuts])
            coarse_logits = self._model.label_coarsely(batch.to(self._device))
            probs = located_probs(coarse_logits, self._model.label_set)
            centres, present = centroids(probs, self._model.label_set)
            sure = expected_f1(expected_counts(probs)) * present.float().mean(dim=1)
            is_enough = present.sum(dim=1) >= LEAST_PARTS_TO_FIND
            affine, residual = fit_similarity(self._mean_face, centres.cpu(), present.cpu().float())
            numbers = (residual.tolist(), is_enough.tolist(), sure.tolist())
            fitted += [
                one.fitted(*values) for one, *values in zip(some, affine, *numbers, strict=True)
            ]
        return fitted

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


def _frames_in(
    photo: Photo, reduced: Photo, voted: VotedFaces, turns: int
) -> list[tuple[float, float, float, float, float]]:
    """Returns the frames that were seen in a turned, reduced photograph as they lie in this one.

    Args:
        photo: the photograph.
        reduced: the same, reduced, before it was turned.
        voted: what was seen.
        turns: how often it was turned by 90 degrees, counter-clockwise as seen.
    """
    (height, width), (h, w) = photo.shape[:2], reduced.shape[:2]
    frames = []
    for x, y, side, cos, sin in voted.frames.tolist():
        for length in (w, h, w)[:turns][::-1]:
            x, y, cos, sin = length - y, x, -sin, cos
        scale = max(width, height) / max(w, h)
        frames.append((x * width / w, y * height / h, side * scale, cos, sin))
    return frames


@dataclass(frozen=True, eq=False)
class _Square:
    """A square of a photograph in which there may be a face."""

    photo: int
    """The place of the photograph among those that are searched."""
    frame: FaceFrame
    fit: float = 0.0
    """How well a face fits what is labelled there, in [0, 1]."""
    has_moved: bool = True
    """Whether the labels were those of another square."""

    def fitted(self, affine: Tensor, residual: float, is_enough: bool, sure: float) -> "_Square":
        """Returns the square of the face that fits the labels in this one.

        Args:
            affine: the map from the mean face to the labelled parts, shares of this square.
            residual: the distance that is left, likewise.
            is_enough: whether there are labelled parts enough.
            sure: the F1 that the probabilities of the labels promise, times the share of the parts
                that are labelled.
        """
        if not is_enough:
            return replace(self, fit=0.0, has_moved=False)
        within = FaceFrame.from_affine(affine)
        own = self.frame.affine(1.0)
        x, y = (own[:, :2] @ torch.tensor([within.x, within.y]) + own[:, 2]).tolist()
        roll = (self.frame.roll_deg + within.roll_deg + 180) % 360 - 180
        frame = FaceFrame(x, y, within.side * self.frame.side, roll)
        offset = math.hypot(within.x - 0.5, within.y - 0.5)
        has_moved = (
            offset > STILL_OFFSET
            or abs(math.log(within.side)) > STILL_LOG_SIDE
            or abs(within.roll_deg) > STILL_DEG
        )
        left = max(0.0, 1 - residual / within.side / MOST_RESIDUAL)
        return replace(self, frame=frame, fit=sure * left, has_moved=has_moved)


def _apart(faces: Sequence[FoundFace]) -> list[FoundFace]:
    """Returns the faces that are not the same as a surer one, the surest first."""
    scores = np.array([face.score for face in faces], np.float32)
    return [faces[i] for i in keep_apart(_rows([face.frame for face in faces]), scores)]


def _rows(frames: Sequence[FaceFrame]) -> NDArray[np.float32]:
    """Returns frames as votes are: x, y, side, cosine and sine of the roll, `[F, 5]`."""
    angles = [math.radians(frame.roll_deg) for frame in frames]
    rows = [
        (frame.x, frame.y, frame.side, math.cos(angle), math.sin(angle))
        for frame, angle in zip(frames, angles, strict=True)
    ]
    return np.array(rows, np.float32).reshape(-1, 5)
