"""`ParsedPhoto`: a photograph's faces and label map."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stn_icnn.inference.outputs.face_drawing import draw_overlay
from stn_icnn.inference.outputs.output_files import save_outputs
from stn_icnn.inference.outputs.parsed_face import ParsedFace
from stn_icnn.labels import LabelSet
from stn_icnn.networks.pasting import label_probabilities


@dataclass(frozen=True, eq=False, repr=False)
class ParsedPhoto:
    """A photograph's labels, at its own size, and its faces."""

    image: NDArray[np.uint8]
    """`[H, W, 3]` RGB, upright: what the labels lie on. That of a JPEG file with more megapixels
    than the parser decodes whole is a reduced copy."""
    labels: NDArray[np.uint8]
    """`[H, W]`, ids of the label set's classes; all background where there is no face."""
    faces: tuple[ParsedFace, ...]
    """The surest first; those alike, as boxes of a model without a finder, as they were given. None
    where there is no face."""
    label_set: LabelSet
    """The classes and parts that the model labels."""
    name: str = ""
    """The path that it was read from, if it was."""
    left_out: int = 0
    """The number of faces that were found, but are less sure than was asked for."""

    def __repr__(self) -> str:
        width, height = self.size
        number = f"{len(self.faces) or 'no'} face{'s' if len(self.faces) != 1 else ''}"
        named = f"{Path(self.name).name!r}, " if self.name else ""
        sure = "" if self.confidence is None else f", confidence {self.confidence:.2f}"
        return f"ParsedPhoto({named}{width} x {height} px, {number}{sure})"

    @property
    def size(self) -> tuple[int, int]:
        """(W, H) of the photograph and its labels, px."""
        return self.labels.shape[1], self.labels.shape[0]

    @property
    def names(self) -> tuple[str, ...]:
        """What `mask` and `probability` take: classes, groups of them, parts."""
        return tuple(self.label_set.named_classes)

    @property
    def windows(self) -> NDArray[np.float32]:
        """The windows of the first face, `[P, 4]`; `[0, 4]` where there is no face."""
        return self.faces[0].windows if self.faces else np.zeros((0, 4), np.float32)

    @property
    def named_windows(self) -> dict[str, list[float]]:
        """Those of the first face by the part's name; empty where there is no face."""
        return self.faces[0].named_windows if self.faces else {}

    @property
    def confidence(self) -> float | None:
        """That of the surest face; None where the model does not tell, or there is no face."""
        known = [face.confidence for face in self.faces if face.confidence is not None]
        return max(known, default=None)

    def mask(self, name: str) -> NDArray[np.bool_]:
        """Returns the pixels of a class, a group such as `mouth`, or a part, `[H, W]`.

        Raises:
            ValueError: there is no such name; `names` are listed.
        """
        return np.isin(self.labels, self.label_set.classes_of(name))

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """The probability of each class at each pixel, `[C, H, W]` by class id; they add up to 1.

        They are made of the parts' patches when asked for, and take 4 C bytes a pixel: 44 MB a
        megapixel for eleven classes. The most probable class is that of `labels`.
        """
        if not self.faces:
            width, height = self.size
            background = np.zeros((self.label_set.num_classes, height, width), np.float32)
            background[0] = 1
            return background
        return label_probabilities([face.patches for face in self.faces], self.size).numpy()

    def probability(self, name: str) -> NDArray[np.float32]:
        """Returns the probability of a class, a group or a part at each pixel, `[H, W]`.

        Raises:
            ValueError: there is no such name; `names` are listed.
        """
        classes = self.label_set.classes_of(name)
        return np.asarray(self.probabilities[list(classes)].sum(axis=0))

    def overlay(self) -> Image.Image:
        """Draws labels and windows over the photograph, with a legend below."""
        return draw_overlay(self)

    def describe(self) -> dict[str, object]:
        """Returns what a JSON file tells of it, in plain types.

        `windows` are those of the first face, and empty where there is none.
        """
        width, height = self.size
        return {
            "photo": Path(self.name).name,
            "size": [width, height],
            "windows": self.named_windows,
            "faces": [face.describe() for face in self.faces],
        }

    def to_json(self) -> str:
        """Returns `describe` as JSON."""
        return json.dumps(self.describe())

    def save(
        self,
        folder: str | Path,
        kinds: str | Sequence[str] | None = None,
        name: str | None = None,
    ) -> list[Path]:
        """Writes files as `stn-icnn parse` does, named after the photograph.

        Args:
            folder: where; it is made where there is none.
            kinds: which files, as `--write` takes them; None: labels, overlay and windows.
            name: what their names begin with; None: as the photograph's, or `photo`.

        Returns:
            The files' paths.

        Raises:
            ValueError: there is no such kind, or a picture that is no result lies in the way.
        """
        return save_outputs(self, folder, kinds, name)
