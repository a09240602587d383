"""Label sets: the classes of a label map, and the parts of the face that are made of them.

Imports no torch, so that sharding needs none. Left and right are the *subject's*: the left eye lies
in the right half of a frontal photograph. The sets that come along are in `label_sets`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Self, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class FaceClass:
    """One class of a label map.

    Attributes:
        name: as manifests and reports have it.
        colour: RGB in overlays and palettes, 0 to 255.
        labelled: whether the model labels it; the model takes its pixels for background otherwise.
    """

    name: str
    colour: tuple[int, int, int]
    labelled: bool = True


@dataclass(frozen=True)
class Part:
    """A part of the face that gets a window of its own.

    Attributes:
        name: as shards and reports have it.
        network: the fine network that labels it; the parts of a pair share one.
        classes: names of its classes. The fine network's channel 0 is background, then these come
            in order.
        centre: where an average face has it, (x, y) as a share of the image's width and height.
        mirrored: whether its patch is mirrored for the network, and its logits back.
        window_px: side of its window at the working scale, px, where settings name none.
    """

    name: str
    network: str
    classes: tuple[str, ...]
    centre: tuple[float, float]
    mirrored: bool = False
    window_px: int = 81


@dataclass(frozen=True)
class LabelSet:
    """The classes that label maps hold, and what the model and the reports make of them.

    A class's id is its place in `classes`; a part's index is its place in `parts`. Class 0 is
    background. The fine networks label the classes of parts, in the parts' windows; the coarse
    network labels all, and alone the others, which lie anywhere in the image.

    Attributes:
        name: names the set in settings and data sets.
        classes: in the order of their ids.
        parts: in the order of the localizer's outputs.
        mirrored_pairs: names of the classes that change places in a mirrored image.
        report_groups: names of the classes of each row of an F1 report. Confusion inside a group
            costs nothing. `overall` holds the inner classes, which `mean` is taken over too.
    """

    name: str
    classes: tuple[FaceClass, ...]
    parts: tuple[Part, ...]
    mirrored_pairs: tuple[tuple[str, str], ...]
    report_groups: Mapping[str, tuple[str, ...]] = field(hash=False)

    @property
    def num_classes(self) -> int:
        """The number of classes: C in the shapes that docstrings give."""
        return len(self.classes)

    @property
    def num_parts(self) -> int:
        """The number of parts: P in the shapes that docstrings give."""
        return len(self.parts)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class."""
        return tuple(one.name for one in self.classes)

    @cached_property
    def colours(self) -> tuple[tuple[int, int, int], ...]:
        """The RGB colour of each class."""
        return tuple(one.colour for one in self.classes)

    @cached_property
    def class_id(self) -> dict[str, int]:
        """The id of each class, by its name."""
        return {name: i for i, name in enumerate(self.class_names)}

    @cached_property
    def model_classes(self) -> tuple[int, ...]:
        """Ids of the L classes that the model labels, in the coarse network's channel order."""
        return tuple(i for i, one in enumerate(self.classes) if one.labelled)

    @cached_property
    def whole_classes(self) -> tuple[int, ...]:
        """Ids of the W classes that the model labels and no part has: those of the whole image."""
        return tuple(i for i in self.model_classes[1:] if i not in {*chain(*self.part_classes)})

    @cached_property
    def located_classes(self) -> tuple[int, ...]:
        """Ids of the model's classes but those of the whole image: what parts are located by."""
        return tuple(i for i in self.model_classes if i not in self.whole_classes)

    def channels_of(self, classes: Sequence[int]) -> list[int]:
        """Returns the coarse network's channels of classes that the model labels."""
        return [self.model_classes.index(class_id) for class_id in classes]

    @cached_property
    def f1_rows(self) -> dict[str, tuple[int, ...]]:
        """Ids of the classes of each report group, by its name."""
        return {row: self._ids(names) for row, names in self.report_groups.items()}

    @cached_property
    def mean_rows(self) -> dict[str, tuple[int, ...]]:
        """Ids of the classes whose F1 the rows of means average: `mean` has the inner classes;
        `mean_foreground`, where the model labels the whole image, has all but background."""
        rows = {"mean": self.inner_classes}
        return rows | ({"mean_foreground": self.model_classes[1:]} if self.whole_classes else {})

    @cached_property
    def named_classes(self) -> dict[str, tuple[int, ...]]:
        """Ids of the classes that a name stands for, where the model labels them all: the name of a
        class, of a report group or of a part."""
        named: dict[str, tuple[int, ...]] = {name: (i,) for i, name in enumerate(self.class_names)}
        named |= self.f1_rows
        named |= {part.name: ids for part, ids in zip(self.parts, self.part_classes, strict=True)}
        return {name: ids for name, ids in named.items() if {*ids} <= {*self.model_classes}}

    def classes_of(self, name: str) -> tuple[int, ...]:
        """Returns the ids of the classes that a name stands for.

        Raises:
            ValueError: it stands for none, or for one that the model does not label.
        """
        if name not in self.named_classes:
            raise ValueError(f"{name!r} is not labelled; names are {', '.join(self.named_classes)}")
        return self.named_classes[name]

    @property
    def inner_classes(self) -> tuple[int, ...]:
        """Ids of the classes that `overall` and `mean` F1 are taken over."""
        return self.f1_rows["overall"]

    @cached_property
    def part_classes(self) -> tuple[tuple[int, ...], ...]:
        """Ids of the classes of each part, in the order of its fine network's channels."""
        return tuple(self._ids(part.classes) for part in self.parts)

    @cached_property
    def fine_networks(self) -> tuple[str, ...]:
        """Names of the fine networks, in the order of the parts."""
        return tuple(dict.fromkeys(part.network for part in self.parts))

    @cached_property
    def parts_of_network(self) -> dict[str, tuple[int, ...]]:
        """Indices of the parts that each fine network labels."""
        return {
            network: tuple(i for i, part in enumerate(self.parts) if part.network == network)
            for network in self.fine_networks
        }

    @cached_property
    def mirrored_class(self) -> tuple[int, ...]:
        """The id of each class in a mirrored image."""
        mirror = {a: b for pair in self.mirrored_pairs for a, b in (pair, pair[::-1])}
        return self._ids(tuple(mirror.get(name, name) for name in self.class_names))

    @cached_property
    def mirrored_part(self) -> tuple[int, ...]:
        """The index of each part in a mirrored image: the part of the mirrored classes."""
        return tuple(
            self.part_classes.index(tuple(self.mirrored_class[i] for i in ids))
            for ids in self.part_classes
        )

    @cached_property
    def part_pairs(self) -> dict[str, tuple[str, str]]:
        """The names of the left and the right part of each pair, by their fine network."""
        pairs = zip(self.parts, (self.parts[i] for i in self.mirrored_part), strict=True)
        return {left.network: (left.name, right.name) for left, right in pairs if right.mirrored}

    def per_part(self, of_network: Mapping[str, Value]) -> tuple[Value, ...]:
        """Returns what each part's fine network has in a mapping by fine network."""
        return tuple(of_network[part.network] for part in self.parts)

    def labelling(self, names: Collection[str]) -> Self:
        """Returns the label set of a model that labels background and these classes alone."""
        classes = tuple(
            replace(one, labelled=i == 0 or one.name in names) for i, one in enumerate(self.classes)
        )
        return replace(self, classes=classes)

    def _ids(self, names: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(self.class_id[name] for name in names)
