"""Scoring the whole way from photograph to labels on scenes, whose faces are known."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from stn_icnn.data.batch import Batch
from stn_icnn.data.scenes import Scenes, compose_scenes
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.outputs.parsed_face import ParsedFace
from stn_icnn.inference.outputs.parsed_photo import ParsedPhoto
from stn_icnn.labels import LabelSet

SCENE_PX: Final = 640
"""Side of the scenes, px."""


@dataclass(frozen=True)
class SceneFace:
    """A face that a scene holds."""

    labels: NDArray[np.uint8]
    """`[S, S]`, its own class ids; 0 where the scene does not show it."""

    def overlap(self, face: ParsedFace, label_set: LabelSet) -> float:
        """Returns the F1 of a parsed face's inner parts, as if it were this one."""
        ids = list(label_set.inner_classes)
        true, found = np.isin(self.labels, ids), np.isin(face.labels, ids)
        both = int(true.sum()) + int(found.sum())
        return 2 * int((true & found).sum()) / both if both else 0.0


@dataclass(frozen=True)
class ParsedScene:
    """A scene, what was made of it, and what is true."""

    photo: ParsedPhoto
    labels: NDArray[np.uint8]
    """`[S, S]`, the true class ids."""
    faces: Sequence[SceneFace]


def parse_scenes(
    parser: FaceParser, batches: Iterable[Batch], rounds: int = 1, px: int = SCENE_PX
) -> Iterator[ParsedScene]:
    """Makes scenes of a split's faces and parses them, finding their faces.

    Args:
        parser: the parser, whose model has a finder.
        batches: faces with truth, not augmented.
        rounds: the number of scenes that are made of each face.
        px: side of the scenes.
    """
    label_set = parser.model.label_set
    for batch, number in ((batch, i) for batch in batches for i in range(rounds)):
        seeds = [zlib.crc32(f"{number}/{key}".encode()) for key in batch.keys]
        scenes = compose_scenes(batch, label_set, px, seeds, cell_px=1)
        images = (scenes.images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        photos = parser.parse_all(list(images), framing="found")
        for i, photo in enumerate(photos):
            yield ParsedScene(photo, scenes.labels[i].cpu().numpy(), _faces(scenes, i))


def _faces(scenes: Scenes, i: int) -> list[SceneFace]:
    owner, labels = scenes.owner[i].cpu().numpy(), scenes.labels[i].cpu().numpy()
    numbers = [k for k, scene in enumerate(scenes.scene) if scene == i]
    return [SceneFace(np.where(owner == k, labels, 0).astype(np.uint8)) for k in numbers]
