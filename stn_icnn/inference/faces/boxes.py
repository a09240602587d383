"""Boxes of faces from other detectors: as Python has them, and in files."""

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from stn_icnn.inference.faces.frame import FaceFrame
from stn_icnn.labels import LabelSet

_FORM: Final = "x0, y0, x1, y1, or these and ten more, x and y of five landmarks"


@dataclass(frozen=True)
class FaceBox:
    """A face as a detector gives it, px of the upright photograph."""

    box: tuple[float, float, float, float]
    """x0, y0, x1, y1."""
    landmarks: tuple[tuple[float, float], ...] = ()
    """Five points, as `FaceFrame.from_landmarks` takes them, or none."""

    @classmethod
    def from_numbers(cls, numbers: Sequence[float]) -> Self:
        """Takes four numbers, or fourteen with landmarks.

        Raises:
            ValueError: these are others, or no box.
        """
        if len(numbers) not in (4, 14) or not all(map(math.isfinite, numbers)):
            raise ValueError(f"a face's box must be {_FORM}, got {list(numbers)}")
        x0, y0, x1, y1, *points = map(float, numbers)
        if x1 <= x0 or y1 <= y0:
            raise ValueError(
                f"a face's box must be x0, y0, x1, y1 with x1 > x0 and y1 > y0, got {numbers[:4]}"
            )
        return cls((x0, y0, x1, y1), tuple(zip(points[::2], points[1::2], strict=True)))

    def frame(self, label_set: LabelSet) -> FaceFrame:
        """Returns the face's frame: by its landmarks where it has some, else by its box."""
        if self.landmarks:
            return FaceFrame.from_landmarks(self.landmarks, label_set)
        return FaceFrame.from_box(self.box)


BoxesLike = Sequence[FaceBox | Sequence[float]] | NDArray[Any]
"""The boxes of a photograph's faces: rows of four or fourteen numbers; perhaps none."""


def face_boxes(given: BoxesLike) -> list[FaceBox]:
    """Takes the boxes of one photograph's faces.

    Args:
        given: rows of numbers as `FaceBox.from_numbers` takes them, an array `[F, 4]` or `[F, 14]`;
            or one such row, of the only face.

    Raises:
        ValueError: they have no such form.
    """
    rows: list[Any] = given.tolist() if isinstance(given, np.ndarray) else list(given)
    if rows and all(isinstance(value, int | float | np.number) for value in rows):
        rows = [rows]
    boxes = []
    for row in rows:
        try:
            boxes.append(row if isinstance(row, FaceBox) else FaceBox.from_numbers(list(row)))
        except TypeError as error:
            raise ValueError(f"a face's box must be {_FORM}, got {row!r}") from error
    return boxes


@dataclass(frozen=True)
class BoxFile:
    """The boxes of many photographs' faces, by the photographs' names."""

    boxes: Mapping[str, Sequence[FaceBox]]
    """By name, a path or its last part."""
    source: str
    """The file that they are from, or `boxes`, for messages."""

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Reads a file.

        It is CSV, a row a face: name, x0, y0, x1, y1 and perhaps ten numbers more, with or without
        a header; or JSON, a list of objects with `name`, `box` and perhaps `landmarks`, or an
        object that holds the faces of each name, each a list of numbers as in CSV.

        Raises:
            ValueError: there is no such file, or a row has another form; its line is named.
        """
        try:
            text = Path(path).read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"boxes can't be read from {path}: {error}") from error
        is_json = text.lstrip()[:1] in ("[", "{")
        boxes: dict[str, list[FaceBox]] = {}
        for place, name, numbers in _json_rows(text, path) if is_json else _csv_rows(text):
            try:
                boxes.setdefault(name, []).append(FaceBox.from_numbers(list(map(float, numbers))))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}, {place}: {error}") from error
        if not boxes and not is_json:
            raise ValueError(f"{path} holds no boxes: a row is name, {_FORM}")
        return cls({_normal(name): rows for name, rows in boxes.items()}, str(path))

    @property
    def fingerprint(self) -> str:
        """A digest of all boxes and names."""
        content = repr(sorted((name, list(rows)) for name, rows in self.boxes.items()))
        return hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()

    def of(self, paths: Sequence[str]) -> list[FaceBox]:
        """Returns a photograph's faces, none where no row names it.

        Args:
            paths: what the photograph may be called, the fullest first; last comes the last part
                of its path.
        """
        for path in map(_normal, paths):
            if path in self.boxes:
                return list(self.boxes[path])
        return []

    def require_matches(self, photos: Sequence[Sequence[str]]) -> None:
        """Refuses a file that names none of some photographs.

        Args:
            photos: what each may be called, as `of` takes it; nothing for pixels without a name.

        Raises:
            ValueError: it names none of them, but others.
        """
        named = {_normal(path) for paths in photos for path in paths}
        if photos and self.boxes and not named.intersection(self.boxes):
            first = next((f"{paths[0]} and so on" for paths in photos if paths), "without a name")
            raise ValueError(
                f"{self.source} names none of the photographs: it has {next(iter(self.boxes))}, "
                f"they are {first}"
            )


BoxesByName = Mapping[str, BoxesLike] | BoxFile | str | Path
"""The boxes of photographs by their names, or the path of a file of such."""


def boxes_of_photos(
    given: BoxesLike | Sequence[BoxesLike] | BoxesByName | None,
    names: Sequence[str],
    is_one: bool,
) -> list[list[FaceBox]] | None:
    """Takes the boxes of photographs.

    Args:
        given: those of each photograph in turn, or by name, or a file's path; of one photograph
            that is in no list, its own; None: there are none to go by.
        names: what the photographs are called, empty for those without a name. A photograph is
            meant by the end of its path, too.
        is_one: whether there is one photograph, in no list.

    Returns:
        The boxes of each photograph; None where none are given.

    Raises:
        ValueError: they have another form, or there are more or less than photographs.
    """
    if given is None:
        return None
    if isinstance(given, str | Path):
        given = BoxFile.read(given)
    if isinstance(given, Mapping):
        boxes = {_normal(name): face_boxes(rows) for name, rows in given.items()}
        given = BoxFile(boxes, "boxes")
    if isinstance(given, BoxFile):
        called = [_ends_of(name) for name in names]
        given.require_matches(called)
        return [given.of(paths) for paths in called]
    if is_one:
        return [face_boxes(given)]  # type: ignore[arg-type]
    if len(given) != len(names):
        raise ValueError(f"boxes must be of {len(names)} photographs, got those of {len(given)}")
    return [face_boxes(rows) for rows in given]  # type: ignore[arg-type]


def _ends_of(name: str) -> list[str]:
    """Returns a path and what is left of it without its first folders, the last part last."""
    parts = _normal(name).split("/") if name else []
    return ["/".join(parts[i:]) for i in range(len(parts))]


def _normal(path: str) -> str:
    """Returns a path without `./` and `//`."""
    return str(PurePosixPath(path.replace("\\", "/")))


def _csv_rows(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yields the place, the name and the numbers of each row."""
    reader = csv.reader(io.StringIO(text), skipinitialspace=True)
    is_first = True
    for row in reader:
        values = [value.strip() for value in row]
        while values and not values[-1]:
            values.pop()
        if not values:
            continue
        is_header = is_first and len(values) > 1 and not _is_number(values[1])
        is_first = False
        if not is_header:
            yield f"line {reader.line_num}", values[0], values[1:]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _json_rows(text: str, path: str | Path) -> Iterator[tuple[str, str, list[Any]]]:
    """Yields the place, the name and the numbers of each face.

    Raises:
        ValueError: it is no such JSON.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: no JSON: {error.msg}") from error
    if isinstance(content, dict):
        for name, faces in content.items():
            if not isinstance(faces, list):
                raise ValueError(f"{path}, {name!r}: must be a list of faces, got {faces!r}")
            if faces and not isinstance(faces[0], list):
                faces = [faces]
            for numbers in faces:
                yield repr(name), name, numbers
        return
    for i, face in enumerate(content, start=1):
        if not isinstance(face, dict) or not isinstance(face.get("name"), str) or "box" not in face:
            got = json.dumps(face)[:80]
            raise ValueError(f"{path}, face {i}: must be an object with name and box, got {got}")
        yield f"face {i}", face["name"], [*face["box"], *_flat(face.get("landmarks") or [])]


def _flat(points: list[Any]) -> list[Any]:
    """Returns the numbers of a list of numbers or of points."""
    return [n for point in points for n in (point if isinstance(point, list) else [point])]
