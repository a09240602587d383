"""Pasting labelled patches into label maps (paper equations 5 and 6)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from stn_icnn.geometry import paste_rows, paste_turned, pixels_of_window, whole_image, widen
from stn_icnn.labels import LabelSet
from stn_icnn.networks.model import Parsing

STRIP_ROWS: Final = 256
"""The rows of a photograph that are labelled at a time: what a strip needs stays in the caches."""

Similarity = tuple[tuple[float, float, float], tuple[float, float, float]]
"""A map of points in the plane that shifts, turns and scales: the two rows of its affine."""


@dataclass(frozen=True, eq=False)
class WholePatch:
    """The coarse labels of a face, and where they lie in a photograph."""

    probs: Tensor
    """`[1 + W, px, px]` float32, the probabilities of background and of the label set's W classes
    of the whole image, where there is no part."""
    window: Sequence[float]
    """Centre x, y, width and height of the image that they cover, px of the photograph."""


@dataclass(frozen=True, eq=False)
class PlacedPatches:
    """The labelled patches of a face, and where they lie in a photograph."""

    probs: Mapping[int, Tensor]
    """By part, `[1 + classes, px, px]` float32, background's probability first."""
    windows: Sequence[Sequence[float]]
    """By part, centre x, y, width and height of its window, px of the photograph."""
    roll_deg: float
    """The turn of the windows about their centres, clockwise as seen, degrees."""
    label_set: LabelSet
    """The classes and the parts."""
    whole: WholePatch | None = None
    """The classes of the whole image; None where the label set has none."""

    def to_host(self) -> "PlacedPatches":
        """Returns a copy in this machine's memory, of nothing but this face."""
        probs = {part: p.cpu().clone() for part, p in self.probs.items()}
        whole = self.whole and replace(self.whole, probs=self.whole.probs.cpu().clone())
        return replace(self, probs=probs, whole=whole)


def place_patches(
    parsing: Parsing, similarities: Sequence[Similarity] | None = None
) -> list[PlacedPatches]:
    """Places the patches of each face in a photograph. Softmax is taken per part.

    Args:
        parsing: what the model made of N faces.
        similarities: for each, the map from px of the parsed image to px of the photograph; None:
            the photographs are what was parsed.
    """
    probs = {name: logits.detach().softmax(dim=2) for name, logits in parsing.part_logits.items()}
    parts = parsing.label_set.parts_of_network
    whole = whole_probs(parsing)
    boxes = torch.cat([parsing.windows, whole_image(parsing.sizes)], dim=1)
    all_boxes = boxes.tolist()  # at once: each would be a wait for a GPU
    placed = []
    for i, boxes_of_face in enumerate(all_boxes):
        (a, minus_b, x), (b, _, y) = similarities[i] if similarities else scaling(1.0)
        scale = math.hypot(a, b)
        *moved, image = [
            (a * u + minus_b * v + x, b * u + a * v + y, scale * w, scale * h)
            for u, v, w, h in boxes_of_face
        ]
        of_part = {
            part: patch
            for name, of_batch in probs.items()
            for part, patch in zip(parts[name], of_batch[i], strict=True)
        }
        roll_deg = math.degrees(math.atan2(b, a))
        patch = None if whole is None else WholePatch(whole[i], image)
        placed.append(PlacedPatches(of_part, moved, roll_deg, parsing.label_set, patch))
    return placed


def whole_probs(parsing: Parsing) -> Tensor | None:
    """Returns the probabilities of background and of the classes of the whole image.

    Returns:
        `[N, 1 + W, coarse_px, coarse_px]` float32, for each face those of its `WholePatch`; None
        where the label set has no such classes, or the coarse network was not asked.
    """
    label_set = parsing.label_set
    if not label_set.whole_classes or not parsing.coarse_logits.numel():
        return None
    channels = label_set.channels_of((0, *label_set.whole_classes))
    return parsing.coarse_logits.detach()[:, channels].softmax(dim=1)


def scaling(factor: float) -> Similarity:
    """Returns the similarity that scales about the top left corner."""
    return (factor, 0.0, 0.0), (0.0, factor, 0.0)


def label_maps(
    parsing: Parsing, sizes: Sequence[tuple[int, int]], scales: Sequence[float] | None = None
) -> list[Tensor]:
    """Pastes the parts of each face into a label map of its own.

    Args:
        parsing: what the model made of N faces.
        sizes: (W, H) of each label map, px.
        scales: px of each label map per px of the parsed image, to label a photograph at its own
            size; 1 if None.

    Returns:
        N label maps, as `label_map` makes them.
    """
    similarities = [scaling(scale) for scale in scales or [1.0] * len(sizes)]
    faces = place_patches(parsing, similarities)
    return [label_map([face], size) for face, size in zip(faces, sizes, strict=True)]


def label_map(
    faces: Sequence[PlacedPatches], size: tuple[int, int], device: torch.device | None = None
) -> Tensor:
    """Pastes the parts of faces into the label map of their photograph.

    Outside its window a part is background, and the probability of background is the product of all
    parts' backgrounds; the classes of the whole image share it as the coarse network says. The most
    probable class labels a pixel. Pixels that lie in no window are background without being
    computed.

    Args:
        faces: the surest first, who keeps a pixel that others label too, unless another's label is
            of a part there and its own is not.
        size: (W, H) of the label map, px.
        device: where it is made if there are no faces.

    Returns:
        `[H, W]` uint8, ids of the label set's classes.
    """
    if faces:
        device = next(iter(faces[0].probs.values())).device
    whole = torch.zeros(size[::-1], dtype=torch.uint8, device=device)
    for i, face in enumerate(faces):
        labels, rows, columns = label_box(face, size)
        there = whole[rows, columns]
        if i > 0:
            labels = torch.where(_gives_way(there, labels, face.label_set), labels, there)
        there.copy_(labels)
    return whole


def _gives_way(there: Tensor, labels: Tensor, label_set: LabelSet) -> Tensor:
    """Tells where the label of a surer face gives way to another's, bool as both."""
    if not label_set.whole_classes:
        return there == 0
    rank = torch.ones(label_set.num_classes, dtype=torch.uint8, device=there.device)
    rank[list(label_set.located_classes)] = 2
    rank[0] = 0
    return rank[labels.long()] > rank[there.long()]


def label_box(face: PlacedPatches, size: tuple[int, int]) -> tuple[Tensor, slice, slice]:
    """Labels the box of a photograph that holds all windows of a face, as `label_map` does.

    Args:
        face: its labelled patches.
        size: (W, H) of the photograph, px.

    Returns:
        `[h, w]` uint8, and the rows and columns of the photograph that it covers (perhaps none).
    """
    parts, rows, columns = _place_parts(face, size)
    shape = rows.stop - rows.start, columns.stop - columns.start
    device = next(iter(face.probs.values())).device
    labels = torch.zeros(shape, dtype=torch.uint8, device=device)
    for start in range(rows.start, rows.stop, STRIP_ROWS):
        stop = min(start + STRIP_ROWS, rows.stop)
        strip = labels[start - rows.start : stop - rows.start]
        background = torch.ones(strip.shape, device=device)
        best = torch.zeros_like(background)
        for part in parts:
            probs, here = part.paste(slice(start, stop), columns)
            probs = part.weigh(probs, background[here])
            for class_id, prob in zip(part.classes, probs, strict=True):
                strip[here].masked_fill_(prob > best[here], class_id)
                torch.maximum(best[here], prob, out=best[here])
        strip.masked_fill_(background >= best, 0)
    return labels, rows, columns


def label_probabilities(faces: Sequence[PlacedPatches], size: tuple[int, int]) -> Tensor:
    """Pastes the parts of faces into a map of probabilities.

    Args:
        faces: as `label_map` takes them, one or more.
        size: (W, H) of the map, px.

    Returns:
        `[C, H, W]` float32 for the label set's C classes, which add up to 1 at each pixel; the most
        probable is that of `label_map`.
    """
    first = next(iter(faces[0].probs.values()))
    whole = first.new_zeros(faces[0].label_set.num_classes, *size[::-1])
    whole[0] = 1
    for face in faces:
        parts, rows, columns = _place_parts(face, size)
        there = whole[:, rows, columns]
        probs = torch.zeros_like(there)
        probs[0] = 1
        for part in parts:
            of_part, (part_rows, part_columns) = part.paste(rows, columns)
            here = probs[:, part_rows, part_columns]
            of_part = part.weigh(of_part, here[0])
            for class_id, prob in zip(part.classes, of_part, strict=True):
                torch.maximum(here[class_id], prob, out=here[class_id])
        probs /= probs.sum(dim=0)
        before, labels = there.argmax(dim=0).byte(), probs.argmax(dim=0).byte()
        there.copy_(torch.where(_gives_way(before, labels, face.label_set), probs, there))
    return whole


@dataclass(frozen=True, eq=False)
class _PlacedPart:
    """A part's patch, or that of the whole image, to be pasted strip by strip."""

    probs: Tensor
    """`[classes, px, px]`, background left out; upright ones are stretched to their columns."""
    window: Sequence[float]
    roll_deg: float
    rows: slice
    columns: slice
    classes: tuple[int, ...]
    is_whole: bool = False

    def weigh(self, probs: Tensor, background: Tensor) -> Tensor:
        """Takes the probabilities of its classes from background's.

        Args:
            probs: `[classes, h, w]`, as they are pasted.
            background: `[h, w]`, changed in place.

        Returns:
            The probabilities by which the classes are compared with others: those of the whole
            image share what the parts have left of background.
        """
        share = background.clone() if self.is_whole else None
        background *= 1 - probs.sum(dim=0)
        return probs if share is None else probs * share

    def paste(self, rows: slice, columns: slice) -> tuple[Tensor, tuple[slice, slice]]:
        """Pastes what lies in some rows of the photograph.

        Args:
            rows: the rows.
            columns: the columns of the face's box, which hold those of the part.

        Returns:
            `[classes, h, w]`, 0 beside the window, and where they lie in these rows and columns.
        """
        first = min(max(rows.start, self.rows.start), rows.stop)
        own = slice(first, max(first, min(rows.stop, self.rows.stop)))
        if self.roll_deg == 0:
            probs = paste_rows(self.probs, self.window, own)
        else:
            probs = paste_turned(self.probs, self.window, self.roll_deg, own, self.columns)
        return probs, (_within(own, rows), _within(self.columns, columns))


def _within(inner: slice, outer: slice) -> slice:
    return slice(inner.start - outer.start, inner.stop - outer.start)


def _place_parts(
    face: PlacedPatches, size: tuple[int, int]
) -> tuple[list[_PlacedPart], slice, slice]:
    """Returns the parts of a face that lie in a photograph, the whole image last, and the rows and
    columns of its box."""
    label_set, parts = face.label_set, list[_PlacedPart]()
    patches = [
        (patch, face.windows[part], label_set.part_classes[part])
        for part, patch in face.probs.items()
    ]
    if face.whole is not None:
        patches.append((face.whole.probs, face.whole.window, label_set.whole_classes))
    for patch, window, classes in patches:
        is_whole = classes == label_set.whole_classes
        # A photograph that is not quite as high as its fitted copy says is labelled to its border.
        border = window[2] / patch.shape[-1] if is_whole and not face.roll_deg else 0.0
        x, y, w, h = window
        rows, columns = pixels_of_window((x, y, w + border, h + border), face.roll_deg, *size)
        if rows.start < rows.stop and columns.start < columns.stop:
            probs = patch[1:] if face.roll_deg else widen(patch[1:], window, columns)
            parts.append(
                _PlacedPart(probs, window, face.roll_deg, rows, columns, classes, is_whole)
            )
    if not parts:
        return [], slice(0, 0), slice(0, 0)
    rows, columns = (
        slice(min(s.start for s in slices), max(s.stop for s in slices))
        for slices in ([part.rows for part in parts], [part.columns for part in parts])
    )
    return parts, rows, columns


def coarse_label_maps(
    coarse_logits: Tensor, sizes: Sequence[tuple[int, int]], label_set: LabelSet
) -> list[Tensor]:
    """Labels faces by the coarse network alone.

    Args:
        coarse_logits: `[N, L, coarse_px, coarse_px]` float32.
        sizes: (W, H) of each label map, px.
        label_set: whose L model classes the logits are of.

    Returns:
        N label maps, `[H, W]` uint8, ids of the label set's classes.
    """
    probs = coarse_logits.detach().softmax(dim=1)
    maps = []
    for face, size in zip(probs, sizes, strict=True):
        enlarged = F.interpolate(face[None], size=size[::-1], mode="bilinear", align_corners=False)
        best = enlarged[0, 0].clone()
        labels = torch.zeros(best.shape, dtype=torch.uint8, device=best.device)
        for class_id, prob in zip(label_set.model_classes[1:], enlarged[0, 1:], strict=True):
            labels.masked_fill_(prob > best, class_id)  # argmax, which is slow across channels
            torch.maximum(best, prob, out=best)
        maps.append(labels)
    return maps
