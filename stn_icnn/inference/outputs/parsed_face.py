"""`ParsedFace`: what is known of one face of a photograph."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stn_icnn.inference.faces.cutting import cut_square
from stn_icnn.inference.faces.frame import FaceFrame
from stn_icnn.inference.outputs.part_shapes import FacePart, part_shape
from stn_icnn.labels import LabelSet
from stn_icnn.networks.pasting import PlacedPatches, label_box

if TYPE_CHECKING:
    from stn_icnn.inference.outputs.parsed_photo import ParsedPhoto


@dataclass(frozen=True, eq=False, repr=False)
class ParsedFace:
    """One face of a photograph.

    Convention: everything is in px of the photograph, (x, y) order, pixel centres at +0.5.
    """

    image: NDArray[np.uint8]
    """`[H, W, 3]` RGB, upright: the photograph, or the reduced copy of a very large one."""
    size: tuple[int, int]
    """(W, H) of the photograph."""
    frame: FaceFrame
    """The square that was cut."""
    patches: PlacedPatches
    """The labelled patches of its parts."""
    score: float
    """How well a face fits in the frame, in [0, 1]; 1 where no finder can tell."""
    confidence: float | None = None
    """The probability that its F1 is at least 0.85; None where the model does not tell."""
    part_confidence: Mapping[str, float] = field(default_factory=dict)
    """The same for each part by its name; empty where the model does not tell."""

    def __repr__(self) -> str:
        frame, sure = self.frame, ""
        if self.confidence is not None:
            sure = f", confidence {self.confidence:.2f}"
        return (
            f"ParsedFace(at ({frame.x:.0f}, {frame.y:.0f}), side {frame.side:.0f} px, "
            f"roll {frame.roll_deg:.0f}°{sure})"
        )

    @property
    def label_set(self) -> LabelSet:
        """The classes and parts that the model labels."""
        return self.patches.label_set

    @property
    def names(self) -> tuple[str, ...]:
        """What `mask` takes: classes, groups of them, parts."""
        return tuple(self.label_set.named_classes)

    @property
    def windows(self) -> NDArray[np.float32]:
        """`[P, 4]`: the window of each part: centre x, y, width, height; it is turned about its
        centre by the frame's roll."""
        return np.array(self.patches.windows, np.float32).reshape(-1, 4)

    @property
    def named_windows(self) -> dict[str, list[float]]:
        """`windows` by the part's name, in plain types."""
        parts = self.label_set.parts
        return {part.name: box for part, box in zip(parts, self.windows.tolist(), strict=True)}

    @property
    def labels(self) -> NDArray[np.uint8]:
        """`[H, W]`: the labels of this face alone, ids of the label set's classes."""
        labels = np.zeros(self.size[::-1], np.uint8)
        box, rows, columns = self._box
        labels[rows, columns] = box
        return labels

    def mask(self, name: str) -> NDArray[np.bool_]:
        """Returns the pixels of a class, a group such as `mouth`, or a part, `[H, W]`.

        Raises:
            ValueError: there is no such name; `names` are listed.
        """
        return np.isin(self.labels, self.label_set.classes_of(name))

    @cached_property
    def parts(self) -> dict[str, FacePart]:
        """The parts that have pixels, by name: box, centroid, contour."""
        box, rows, columns = self._box
        shapes = (
            part_shape(
                part.name,
                np.isin(box, ids),
                (columns.start, rows.start),
                self.part_confidence.get(part.name),
            )
            for part, ids in zip(self.label_set.parts, self.label_set.part_classes, strict=True)
        )
        return {shape.name: shape for shape in shapes if shape is not None}

    @cached_property
    def _box(self) -> tuple[NDArray[np.uint8], slice, slice]:
        labels, rows, columns = label_box(self.patches, self.size)
        return labels.numpy(), rows, columns

    def crop(self, px: int | None = None) -> Image.Image:
        """Cuts the face out, upright, as its frame says, in its own light.

        Args:
            px: the side of the picture; None: the frame's own, to the pixel.
        """
        return Image.fromarray(cut_square(self.image, self.size, self.frame, px))

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """`[C, H, W]`: the probability of each class at each pixel, of this face alone; made when
        asked for, 44 MB a megapixel."""
        return self._alone.probabilities

    def overlay(self) -> Image.Image:
        """Draws this face's labels and windows over the photograph."""
        return self._alone.overlay()

    def save(
        self,
        folder: str | Path,
        kinds: str | Sequence[str] | None = None,
        name: str = "face",
    ) -> list[Path]:
        """Writes files of this face alone; see `ParsedPhoto.save`."""
        return self._alone.save(folder, kinds, name)

    def to_json(self) -> str:
        """Returns `describe` as JSON."""
        return json.dumps(self.describe())

    @property
    def _alone(self) -> "ParsedPhoto":
        """The photograph with this face and no other."""
        from stn_icnn.inference.outputs.parsed_photo import ParsedPhoto  # which imports this

        return ParsedPhoto(self.image, self.labels, (self,), self.label_set, "")

    def describe(self) -> dict[str, object]:
        """Returns frame, windows, parts and confidence in plain types, as JSON files have them."""
        frame = self.frame
        return {
            "frame": {
                "x": round(frame.x, 2),
                "y": round(frame.y, 2),
                "side": round(frame.side, 2),
                "roll_deg": round(frame.roll_deg, 2),
            },
            "score": round(self.score, 4),
            "confidence": None if self.confidence is None else round(self.confidence, 4),
            "windows": self.named_windows,
            "parts": {
                name: {
                    "box": list(part.box),
                    "centroid": [round(value, 2) for value in part.centroid],
                    "confidence": None if part.confidence is None else round(part.confidence, 4),
                }
                for name, part in self.parts.items()
            },
        }
