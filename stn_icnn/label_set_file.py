"""Label sets as JSON: how one's own is written, and how one is stored in models and data sets.

    {
     "name": "eyes-and-skin",
     "classes": [
      {"name": "background", "colour": [0, 0, 0]},
      {"name": "eyes", "colour": [0, 90, 220]},
      {"name": "skin", "colour": [230, 190, 165]}
     ],
     "parts": [
      {"name": "eyes", "classes": ["eyes"], "centre": [0.5, 0.48], "window_px": 201}
     ],
     "report": {"overall": ["eyes"]}
    }

A part has a window of `window_px` at the working scale, and a fine network that labels its classes;
parts of one `network` share it, and one that is `"mirrored": true` is seen by it as in a mirror. A
class with `"mirrored": NAME` changes places with the other in a mirrored image, and one with
`"labelled": false` is background to the model. `report` adds rows to the F1 reports; every class
has one of its own, and `overall` holds the classes of all parts unless it is given.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from stn_icnn.checks import require
from stn_icnn.label_sets import LABEL_SETS
from stn_icnn.labels import FaceClass, LabelSet, Part

MOST_CLASSES: Final = 64
"""The most classes that a label set may have."""
RESERVED_ROWS: Final = ("overall", "mean", "mean_foreground")
"""Rows of F1 reports that no class may be named as."""

_KEYS: Final = {
    "the file": {"name", "classes", "parts", "report"},
    "a class": {"name", "colour", "mirrored", "labelled"},
    "a part": {"name", "network", "classes", "centre", "mirrored", "window_px"},
}


def given_labels(given: str) -> str:
    """Returns what settings hold for a label set that a command line names.

    Args:
        given: the name of one that comes along, or the path of a JSON file.

    Returns:
        The name, or the file's content in its shortest form.

    Raises:
        ValueError: it is neither, or the file describes no label set.
    """
    if given in LABEL_SETS:
        return given
    if not given.endswith(".json"):
        raise ValueError(
            f"--labels must be {', '.join(LABEL_SETS)} or a file that ends with .json, "
            f"got {given!r}"
        )
    try:
        content = json.loads(Path(given).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"--labels {given} must be a JSON file: {error}") from error
    try:
        return labels_text(label_set_from_content(content))
    except ValueError as error:
        raise ValueError(f"--labels {given}: {error}") from error


@cache
def label_set_of(text: str) -> LabelSet:
    """Returns the label set of a text as settings hold it: a name, or one's own as JSON.

    Raises:
        ValueError: there is none of that name, or the JSON describes none.
    """
    if text in LABEL_SETS:
        return LABEL_SETS[text]
    try:
        content = json.loads(text)
    except ValueError as error:
        known = ", ".join(LABEL_SETS)
        raise ValueError(f"no label set {text!r}; there are {known}") from error
    return label_set_from_content(content)


def labels_text(label_set: LabelSet) -> str:
    """Returns the text by which settings, models and data sets name a label set."""
    if LABEL_SETS.get(label_set.name) == label_set:
        return label_set.name
    return json.dumps(label_set_content(label_set), separators=(",", ":"))


def label_set_content(label_set: LabelSet) -> dict[str, Any]:
    """Returns a label set as the content of its JSON file."""
    mirror = {a: b for pair in label_set.mirrored_pairs for a, b in (pair, pair[::-1])}
    classes = [
        {
            "name": one.name,
            "colour": list(one.colour),
            **({"mirrored": mirror[one.name]} if one.name in mirror else {}),
            **({} if one.labelled else {"labelled": False}),
        }
        for one in label_set.classes
    ]
    parts = [
        {
            "name": part.name,
            "network": part.network,
            "classes": list(part.classes),
            "centre": list(part.centre),
            **({"mirrored": True} if part.mirrored else {}),
            "window_px": part.window_px,
        }
        for part in label_set.parts
    ]
    report = {row: list(names) for row, names in label_set.report_groups.items()}
    return {"name": label_set.name, "classes": classes, "parts": parts, "report": report}


def label_set_from_content(content: Any) -> LabelSet:
    """Builds a label set from the content of its JSON file.

    Raises:
        ValueError: saying what is wrong in it, what is expected, and what was given.
    """
    _require_keys("the file", content, ("name", "classes", "parts"))
    name = _text("name", content["name"])
    if name in LABEL_SETS and content != label_set_content(LABEL_SETS[name]):
        raise ValueError(f"name must be another than {name!r}, which is of a set that comes along")
    classes = tuple(map(_face_class, _list("classes", content["classes"])))
    names = [one.name for one in classes]
    require(
        2 <= len(classes) <= MOST_CLASSES and names[0] == "background",
        "classes",
        f"background and then up to {MOST_CLASSES - 1} more",
        names,
    )
    require(len({*names}) == len(names), "classes", "of different names", names)
    reserved = [name for name in names if name in RESERVED_ROWS]
    require(not reserved, "classes", f"named otherwise than {', '.join(RESERVED_ROWS)}", reserved)
    require(classes[0].labelled, "labelled of background", "true", False)
    colours = [one.colour for one in classes]
    require(len({*colours}) == len(colours), "classes", "of different colours", colours)
    parts = tuple(_part(part, names) for part in _list("parts", content["parts"]))
    require(len(parts) > 0, "parts", "one or more", "none")
    inside = [name for part in parts for name in part.classes]
    require(len({*inside}) == len(inside), "parts", "without a class in common", inside)
    part_names = [part.name for part in parts]
    require(len({*part_names}) == len(parts), "parts", "of different names", part_names)
    unlabelled = [name for name in inside if not classes[names.index(name)].labelled]
    require(not unlabelled, "classes of parts", "labelled", unlabelled)
    report = content.get("report", {})
    require(isinstance(report, Mapping), "report", "names with lists of classes", report)
    groups: dict[str, tuple[str, ...]] = {name: (name,) for name in names[1:]}
    groups |= {row: _names(f"report.{row}", given, names) for row, given in report.items()}
    means = [row for row in groups if row in RESERVED_ROWS[1:]]
    require(not means, "report", f"of rows named otherwise than {' and '.join(means)}", means)
    groups.setdefault("overall", tuple(inside))
    label_set = LabelSet(name, classes, parts, _mirrored_pairs(content["classes"], names), groups)
    _require_networks(label_set)
    return label_set


def _face_class(given: Any) -> FaceClass:
    _require_keys("a class", given, ("name", "colour"))
    name, colour = _text("a class's name", given["name"]), _list("colour", given["colour"])
    is_rgb = len(colour) == 3 and all(type(v) is int and 0 <= v <= 255 for v in colour)
    require(is_rgb, f"colour of {name}", "[red, green, blue], each from 0 to 255", colour)
    red, green, blue = colour
    return FaceClass(name, (red, green, blue), _flag("labelled", given, default=True))


def _part(given: Any, class_names: Sequence[str]) -> Part:
    _require_keys("a part", given, ("name", "classes"))
    name = _text("a part's name", given["name"])
    classes = _names(f"classes of part {name}", given["classes"], class_names[1:])
    centre = _list("centre", given.get("centre", [0.5, 0.5]))
    inside = len(centre) == 2 and all(isinstance(v, int | float) and 0 <= v <= 1 for v in centre)
    require(inside, f"centre of part {name}", "[x, y], each a share from 0 to 1", centre)
    window_px = given.get("window_px", Part.window_px)
    is_side = type(window_px) is int and window_px >= 9
    require(is_side, f"window_px of part {name}", "a whole number of at least 9", window_px)
    return Part(
        name,
        _text("network", given.get("network", name)),
        classes,
        centre=(float(centre[0]), float(centre[1])),
        mirrored=_flag("mirrored", given, default=False),
        window_px=window_px,
    )


def _mirrored_pairs(classes: Any, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Returns the pairs of classes that name each other as mirrored, each once."""
    mirror = {one["name"]: one["mirrored"] for one in classes if "mirrored" in one}
    for name, other in mirror.items():
        wanted = f"a class that names {name} in turn"
        require(other != name and other in names, f"mirrored of {name}", wanted, other)
        back = mirror.get(other)
        require(back == name, f"mirrored of {other}", repr(name), back)
    both = {frozenset(pair) for pair in mirror.items()}
    return tuple(
        (a, b) for i, a in enumerate(names) for b in names[i + 1 :] if frozenset((a, b)) in both
    )


def _require_networks(label_set: LabelSet) -> None:
    """Refuses parts that can't share their network, and pairs whose parts do not mirror."""
    for network, indices in label_set.parts_of_network.items():
        parts = [label_set.parts[i] for i in indices]
        for what, values in (
            ("number of classes", [len(part.classes) for part in parts]),
            ("window_px", [part.window_px for part in parts]),
        ):
            require(len({*values}) == 1, f"network {network}", f"of parts of one {what}", values)
    try:
        _ = label_set.mirrored_part
    except ValueError as error:
        raise ValueError(
            "parts must be mirrored as their classes are: for each part there must be one of the "
            f"classes that its own have as `mirrored`, in the same order ({error})"
        ) from error


def _require_keys(what: str, given: Any, needed: Sequence[str]) -> None:
    require(isinstance(given, Mapping), what, "a JSON object", given)
    missing = [key for key in needed if key not in given]
    require(not missing, what, f"one with {', '.join(needed)}", f"none of {', '.join(missing)}")
    unknown = sorted({*given} - _KEYS[what])
    require(not unknown, what, f"one with {', '.join(sorted(_KEYS[what]))} alone", unknown)


def _list(name: str, given: Any) -> list[Any]:
    require(isinstance(given, list), name, "a list", given)
    return list(given)


def _names(what: str, given: Any, known: Sequence[str]) -> tuple[str, ...]:
    names = _list(what, given)
    among = len(names) > 0 and all(name in known for name in names)
    require(among, what, f"one or more of {', '.join(known)}", names)
    return tuple(names)


def _text(what: str, given: Any) -> str:
    is_name = isinstance(given, str) and given.replace("_", "").replace("-", "").isalnum()
    require(is_name, what, "letters, digits, _ and -", given)
    return str(given)


def _flag(key: str, given: Mapping[str, Any], default: bool) -> bool:
    value = given.get(key, default)
    require(isinstance(value, bool), key, "true or false", value)
    return bool(value)
