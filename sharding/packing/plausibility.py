"""Says what looks wrong in a data set as a whole, though each of its samples is sound."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sharding.manifest import Manifest
from stn_icnn.labels import LabelSet

LEAST_SHARE: Final = 0.03
"""The share of the faces that must show a class of the inner face; fewer are a warning."""

LEAST_SHARE_OF_ANY: Final = 0.2
"""The share that must show one of those classes at least, whichever; fewer are an error. It is far
above what falls to a class by chance where masks are inverted, and far below a nose's."""


def rare_classes(class_faces: Sequence[int], num_faces: int, label_set: LabelSet) -> dict[str, int]:
    """Finds the classes of the inner face that hardly a face shows.

    Args:
        class_faces: number of faces that show each class.
        num_faces: number of all faces.
        label_set: the classes.

    Returns:
        The number of faces that show it, by the name of each such class.
    """
    return {
        label_set.class_names[class_id]: class_faces[class_id]
        for class_id in label_set.inner_classes
        if class_faces[class_id] < LEAST_SHARE * num_faces
    }


def lacks_all_parts(class_faces: Sequence[int], num_faces: int, label_set: LabelSet) -> str:
    """Returns what is wrong where hardly a face shows any class of the inner face, else nothing.

    The arguments are those of `rare_classes`.
    """
    inner = label_set.inner_classes
    if any(class_faces[class_id] >= LEAST_SHARE_OF_ANY * num_faces for class_id in inner):
        return ""
    names = ", ".join(label_set.class_names[class_id] for class_id in inner)
    return (
        f"none of {names} is in {LEAST_SHARE_OF_ANY:.0%} of the faces: are the masks inverted, or "
        "those of another data set?"
    )


def weigh(manifest: Manifest, class_faces: Sequence[int]) -> tuple[str, list[str]]:
    """Says what looks wrong in a data set whose faces were counted anew.

    Args:
        manifest: the data set's; one of an earlier version names no rare classes.
        class_faces: number of faces in the shards that show each class.

    Returns:
        The line of `lacks_all_parts`, and those of `implausibilities`.
    """
    facts = (class_faces, sum(manifest.num_samples.values()), manifest.label_set)
    counted = replace(manifest, rare_classes=rare_classes(*facts))
    return lacks_all_parts(*facts), implausibilities(counted)


def implausibilities(manifest: Manifest) -> list[str]:
    """Returns a line for each thing in a data set that its maker should look at."""
    num_faces = sum(manifest.num_samples.values())
    lines = [
        f"{name} is in {count} of {num_faces} faces: are its masks missing, or named otherwise?"
        for name, count in manifest.rare_classes.items()
    ]
    if manifest.num_soft_masks:
        lines.append(
            f"{manifest.num_soft_masks} of {num_faces} faces have masks with values between 0 and "
            "255, which were cut at 128: were they saved as JPEG, or scaled? The originals are "
            "exact"
        )
    for pair, sides in manifest.sides.items():
        if sides.swapped:
            lines.append(
                f"the left {pair} lies left of the right one in {sides.both - sides.right} of "
                f"{sides.both} faces: are the sides of this archive swapped? `inspect` shows them"
            )
    return lines
