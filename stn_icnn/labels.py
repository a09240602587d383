"""Classes, parts, pairs and colours, defined once. Imports no torch, so that sharding needs none.

Left and right are the *subject's*: the left eye lies in the right half of a frontal photograph.
"""

from dataclasses import dataclass
from typing import Final

CLASSES: Final = (
    "background",
    "skin",
    "left_brow",
    "right_brow",
    "left_eye",
    "right_eye",
    "nose",
    "upper_lip",
    "inner_mouth",
    "lower_lip",
    "hair",
)
"""The canonical label map's classes (HELEN's eleven); a class's id is its place here."""

NUM_CLASSES: Final = len(CLASSES)
CLASS_ID: Final = {name: i for i, name in enumerate(CLASSES)}

MODEL_CLASSES: Final = (0, *range(CLASS_ID["left_brow"], CLASS_ID["lower_lip"] + 1))
"""Canonical ids of the paper's nine classes, in the coarse network's channel order.

Skin and hair are folded into background.
"""

INNER_CLASSES: Final = MODEL_CLASSES[1:]
"""Canonical ids of the eight classes that `overall` and `mean` F1 are taken over."""


@dataclass(frozen=True)
class Part:
    """One of the six parts of a face that get a window of their own.

    Attributes:
        name: as in reports and shards.
        network: the fine network that labels it; the parts of a pair share one.
        classes: canonical ids; the fine network's channel 0 is background, then these in order.
        mirrored: whether its patch is mirrored for the network and its logits back.
    """

    name: str
    network: str
    classes: tuple[int, ...]
    mirrored: bool = False


PARTS: Final = (
    Part("left_brow", "brow", (CLASS_ID["left_brow"],)),
    Part("right_brow", "brow", (CLASS_ID["right_brow"],), mirrored=True),
    Part("left_eye", "eye", (CLASS_ID["left_eye"],)),
    Part("right_eye", "eye", (CLASS_ID["right_eye"],), mirrored=True),
    Part("nose", "nose", (CLASS_ID["nose"],)),
    Part(
        "mouth",
        "mouth",
        (CLASS_ID["upper_lip"], CLASS_ID["inner_mouth"], CLASS_ID["lower_lip"]),
    ),
)
NUM_PARTS: Final = len(PARTS)

FINE_NETWORKS: Final = ("brow", "eye", "nose", "mouth")

PARTS_OF_NETWORK: Final = {
    network: tuple(i for i, part in enumerate(PARTS) if part.network == network)
    for network in FINE_NETWORKS
}
"""Indices into `PARTS` of the parts that each fine network labels."""

MIRRORED_CLASS: Final = (0, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10)
"""Canonical id of each class in a mirrored image."""

MIRRORED_PART: Final = (1, 0, 3, 2, 4, 5)
"""Index into `PARTS` of each part in a mirrored image."""

COLOURS: Final = (
    (0, 0, 0),
    (230, 190, 165),
    (128, 64, 0),
    (200, 130, 40),
    (0, 90, 220),
    (0, 190, 255),
    (60, 180, 75),
    (230, 25, 75),
    (255, 225, 25),
    (245, 130, 190),
    (120, 80, 160),
)
"""RGB of each class in overlays and palettes."""

F1_ROWS: Final = {
    "eyes": (CLASS_ID["left_eye"], CLASS_ID["right_eye"]),
    "brows": (CLASS_ID["left_brow"], CLASS_ID["right_brow"]),
    "nose": (CLASS_ID["nose"],),
    "inner_mouth": (CLASS_ID["inner_mouth"],),
    "upper_lip": (CLASS_ID["upper_lip"],),
    "lower_lip": (CLASS_ID["lower_lip"],),
    "mouth": PARTS[-1].classes,
    "skin": (CLASS_ID["skin"],),
    "overall": INNER_CLASSES,
}
"""Sets of classes of the paper's Tables 2 to 4; confusion inside a set costs nothing."""
