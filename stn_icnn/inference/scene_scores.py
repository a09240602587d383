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

SCENE_PX: Final = 640
"""Side of the scenes, px."""


@dataclass(frozen=True)
class SceneFace:
    """A face that a scene holds."""

    labels: NDArray[np.uint8]
    """`[S, S]`, its own class ids; 0 where the scene does not show it."""


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


def f1_of_classes(face: ParsedFace, true: SceneFace | None, ids: Sequence[int]) -> float | None:
    """Returns the F1 of some classes together, of a parsed face as if it were a scene's.

    Args:
        face: the parsed face.
        true: the scene's; None: there is none, and nothing of it.
        ids: the classes.

    Returns:
        None where neither has any of them.
    """
    found = np.isin(face.labels, ids)
    there = np.zeros_like(found) if true is None else np.isin(true.labels, ids)
    both = int(found.sum()) + int(there.sum())
    return 2 * int((found & there).sum()) / both if both else None


def _faces(scenes: Scenes, i: int) -> list[SceneFace]:
    owner, labels = scenes.owner[i].cpu().numpy(), scenes.labels[i].cpu().numpy()
    numbers = [k for k, scene in enumerate(scenes.scene) if scene == i]
    return [SceneFace(np.where(owner == k, labels, 0).astype(np.uint8)) for k in numbers]
