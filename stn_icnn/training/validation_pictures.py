"""Pictures of a few validation faces: what a phase makes of them, beside the truth."""

import warnings
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from stn_icnn.config import TrainConfig
from stn_icnn.context import TrainContext
from stn_icnn.data.batch import Batch
from stn_icnn.data.loading import load_batches
from stn_icnn.data.plan import Request
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.labels import LabelSet
from stn_icnn.networks.model import STNiCNN
from stn_icnn.reporting.overlay import Uint8Array, draw_windows, model_labels, overlay
from stn_icnn.reporting.picture_grid import (
    Drawings,
    captioned_panels,
    encoded,
    fitted,
    pixels_of,
)
from stn_icnn.scoring.confusion import true_labels
from stn_icnn.scoring.f1 import resize_labels
from stn_icnn.training.objectives import OBJECTIVES, SceneFindings
from stn_icnn.training.phases import Phase

PANEL_PX = 192
"""The longer side of a panel."""
_QUALITY = 80


@torch.inference_mode()
def picture_faces(
    model: STNiCNN,
    phase: Phase,
    config: TrainConfig,
    faces: ShardedFaces,
    context: TrainContext,
    num_faces: int,
) -> dict[str, bytes]:
    """Draws what a phase makes of some faces, in the arithmetic of validation.

    Args:
        model: the model, which is left in evaluation mode.
        phase: the phase, which may find windows, label pixels, or both, or make scenes.
        config: the phase's settings.
        faces: the validation split, not augmented.
        context: the context whose device is computed on; its other ranks take no part.
        num_faces: the number of faces, which lie evenly in the split: the same at each call.

    Returns:
        By the face's name, `faces/1` and so on, the content of a WebP file: the photograph, its
        windows, its labels and the true ones, as far as there are any; or the scene that is made of
        it, the faces that are found there, the labels and the true ones.
    """
    number = min(num_faces, len(faces))
    if number == 0:
        return {}
    model.eval()
    requests = [Request(i * len(faces) // number) for i in range(number)]
    (batch,) = load_batches(faces, [requests])
    batch = batch.to(context.device)
    result = OBJECTIVES[phase.objective](model, batch, config)
    draw_one: Callable[[int], bytes]
    if result.scene_findings is not None:
        draw_one = partial(_picture_scene, result.scene_findings(), model.label_set)
    else:
        predicted = None if result.label_maps is None else result.label_maps()
        draw_one = partial(_picture_face, batch, result.windows, predicted, model.label_set)
    drawings, pictures = Drawings(), {}
    for i in range(number):
        name = f"faces/{i + 1}"
        draw = partial(draw_one, i)
        picture = drawings.draw(name, draw)
        if picture is not None:
            pictures[name] = picture
    for name, reason in drawings.failed.items():
        warnings.warn(f"{name} could not be drawn: {reason}", stacklevel=2)
    return pictures


def _picture_face(
    batch: Batch,
    windows: Tensor | None,
    predicted: Sequence[Tensor] | None,
    label_set: LabelSet,
    i: int,
) -> bytes:
    """Draws one face of a batch, and returns the content of its file."""
    width, height = batch.host_sizes[i]
    photo = fitted(pixels_of(batch.images[i, :, :height, :width]), PANEL_PX)
    rows = [{"photograph": photo}]
    if windows is not None:
        scaled = windows[i].cpu() * (PANEL_PX / max(width, height))
        rows[0]["windows"] = draw_windows(photo, [tuple(w) for w in scaled.tolist()])
    if predicted is not None:
        prediction = _tinted(photo, predicted[i], label_set)
        truth = _tinted(photo, true_labels(batch, i), label_set)
        rows.append({"prediction": prediction, "truth": truth})
    return encoded(Image.fromarray(captioned_panels(rows)), "WEBP", _QUALITY)


def _picture_scene(findings: SceneFindings, label_set: LabelSet, i: int) -> bytes:
    """Draws one scene, and returns the content of its file."""
    image = findings.images[i]
    scene = fitted(pixels_of((image * 255).round().to(torch.uint8)), PANEL_PX)
    scale = PANEL_PX / max(image.shape[1:])
    rows = [
        {"scene": scene, "faces found": _with_frames(scene, findings.frames[i], scale)},
        {
            "prediction": _tinted(scene, findings.labels[i], label_set),
            "truth": _tinted(scene, findings.truth[i], label_set),
        },
    ]
    return encoded(Image.fromarray(captioned_panels(rows)), "WEBP", _QUALITY)


def _with_frames(picture: Uint8Array, frames: NDArray[np.float32], scale: float) -> Uint8Array:
    """Draws frames, `[K, 5]`, white within black, after scaling them to the picture."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for x, y, side, cos, sin in frames.tolist():
        across, down = (scale * side / 2 * np.array(axis) for axis in ((cos, sin), (-sin, cos)))
        centre = scale * np.array([x, y])
        signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
        corners = [tuple(centre + a * across + b * down) for a, b in signs]
        draw.polygon(corners, outline="black", width=3)
        draw.polygon(corners, outline="white", width=1)
    return np.asarray(image)


def _tinted(photo: Uint8Array, labels: Tensor, label_set: LabelSet) -> Uint8Array:
    """Lays the colours of the classes that the model knows over a reduced photograph."""
    reduced = resize_labels(labels, *photo.shape[:2]).cpu().numpy()
    return overlay(photo, model_labels(reduced, label_set), label_set)
