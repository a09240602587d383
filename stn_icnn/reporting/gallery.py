"""The faces that pages show: best, middle and worst ones, with windows, labels and wrong pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Final, Self

import numpy as np

from stn_icnn.labels import LabelSet
from stn_icnn.reporting.overlay import Uint8Array, marked_on_grey, model_labels, overlay
from stn_icnn.reporting.pages import picture_data
from stn_icnn.reporting.picture_grid import Drawings, fitted
from stn_icnn.reporting.run_results import RunResults
from stn_icnn.reporting.tables import f1_headings, format_f1
from stn_icnn.scoring.examples import ScoredFace, faces_with
from stn_icnn.scoring.f1 import f1_rows, weakest_row

PICTURE_PX: Final = 288
"""The longer side of a picture in the gallery, px."""
WRONG: Final = (214, 40, 57)
"""The colour of pixels that are labelled wrongly."""
LABELS: Final = "labels of the model"
"""The name of the picture with the predicted labels."""


@dataclass(frozen=True)
class ShownFace:
    """A face of the gallery."""

    key: str
    overall: str
    """The face's own overall F1."""
    weakest: str
    """The weakest of the classes that its truth has, with F1."""
    pictures: Mapping[str, str]
    """The addresses of its pictures, by what they show."""

    @property
    def labels(self) -> str:
        """The address of the picture of its predicted labels."""
        return self.pictures[LABELS]


@dataclass(frozen=True)
class Gallery:
    """The faces of a page by kind, with the colours of the classes."""

    kinds: ClassVar[Mapping[str, str]] = {
        "worst": "The worst faces",
        "weakest": "The worst faces for the weakest class",
        "median": "Faces in the middle",
        "best": "The best faces",
    }
    """The kinds of faces, in the order of the page, with what it calls them."""
    heading: str
    faces: Mapping[str, Sequence[ShownFace]]
    colours: Mapping[str, str]
    failed: Mapping[str, str] = field(default_factory=dict)
    """Why faces could not be drawn, by name."""

    @classmethod
    def of(
        cls,
        results: RunResults,
        examples: Mapping[str, Sequence[ScoredFace]],
        heading: str = "Faces",
    ) -> Self:
        """Returns the gallery of a run that has scored a model.

        Args:
            results: the results of the run.
            examples: the faces to show, by kind, as `pick_examples` names them.
            heading: what stands above them.
        """
        drawings, faces = Drawings(), {}
        once = {face.key: face for kind in cls.kinds for face in examples.get(kind, ())}
        drawn = {
            key: drawings.draw(f"face {key}", partial(_shown_face, face, results))
            for key, face in once.items()
        }
        for kind in cls.kinds:
            of_kind = (drawn[face.key] for face in examples.get(kind, ()))
            if shown := [face for face in of_kind if face is not None]:
                faces[kind] = shown
        return cls(heading, faces, class_colours(results.label_set), drawings.failed)


def class_colours(label_set: LabelSet) -> dict[str, str]:
    """Returns the colours, as CSS has them, of the classes that are painted, by their names."""
    classes = (label_set.classes[i] for i in label_set.model_classes if i > 0)
    return {one.name.replace("_", " "): "rgb({}, {}, {})".format(*one.colour) for one in classes}


def _shown_face(face: ScoredFace, results: RunResults) -> ShownFace:
    label_set = results.label_set
    counts = results.counts[results.model][list(results.keys).index(face.key)]
    rows = f1_rows(counts, label_set)
    truth = model_labels(face.truth, label_set)
    large = {
        "truth": overlay(face.image, truth, label_set),
        LABELS: overlay(face.image, face.predicted, label_set),
        "wrong pixels": error_map(face.image, truth, face.predicted),
    }
    pictures = {
        "photograph and windows": _with_windows(face, label_set),
        **{name: fitted(picture, PICTURE_PX) for name, picture in large.items()},
    }
    in_truth = {
        row: rows[row] if faces_with(counts[None], classes) else None
        for row, classes in label_set.f1_rows.items()
    }
    weakest = weakest_row(in_truth, label_set)
    return ShownFace(
        face.key,
        format_f1(rows["overall"]) or "-",
        f"{f1_headings(label_set)[weakest]}, {format_f1(rows[weakest])}" if weakest else "-",
        {name: picture_data(picture) for name, picture in pictures.items()},
    )


def _with_windows(face: ScoredFace, label_set: LabelSet) -> Uint8Array:
    """Draws the windows on the photograph at its size on the page, so that lines are sharp."""
    photo = fitted(face.image, PICTURE_PX)
    scale = photo.shape[0] / face.image.shape[0]
    windows = [(x, y, w, h) for x, y, w, h in (scale * face.windows).tolist()]
    return overlay(photo, np.zeros(photo.shape[:2], np.uint8), label_set, windows=windows)


def error_map(image: Uint8Array, truth: Uint8Array, predicted: Uint8Array) -> Uint8Array:
    """Paints the pixels that are labelled wrongly red, over the photograph in grey.

    Args:
        image: uint8 `[H, W, 3]`, RGB.
        truth: uint8 `[H, W]`, class ids.
        predicted: uint8 `[H, W]`, class ids.

    Returns:
        uint8 `[H, W, 3]`, RGB.
    """
    return marked_on_grey(image, (truth != predicted, WRONG))
