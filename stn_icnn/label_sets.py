"""The label sets that come along, by name.

The ids 0 to 10 mean the same in all of them.
"""

from dataclasses import replace
from typing import Final

from stn_icnn.labels import FaceClass, LabelSet, Part

FACE_MIDDLE: Final = (0.5, 0.58)
"""The middle of an average face's inner parts, (x, y) as a share of the image's width and height.
"""

_MOUTH = ("upper_lip", "inner_mouth", "lower_lip")

PAPER9: Final = LabelSet(
    name="paper9",
    classes=(
        FaceClass("background", (0, 0, 0)),
        FaceClass("skin", (230, 190, 165), labelled=False),
        FaceClass("left_brow", (128, 64, 0)),
        FaceClass("right_brow", (200, 130, 40)),
        FaceClass("left_eye", (0, 90, 220)),
        FaceClass("right_eye", (0, 190, 255)),
        FaceClass("nose", (60, 180, 75)),
        FaceClass("upper_lip", (230, 25, 75)),
        FaceClass("inner_mouth", (255, 225, 25)),
        FaceClass("lower_lip", (245, 130, 190)),
        FaceClass("hair", (120, 80, 160), labelled=False),
    ),
    parts=(
        Part("left_brow", "brow", ("left_brow",), centre=(0.62, 0.42)),
        Part("right_brow", "brow", ("right_brow",), centre=(0.38, 0.42), mirrored=True),
        Part("left_eye", "eye", ("left_eye",), centre=(0.62, 0.48)),
        Part("right_eye", "eye", ("right_eye",), centre=(0.38, 0.48), mirrored=True),
        Part("nose", "nose", ("nose",), centre=(0.50, 0.58)),
        Part("mouth", "mouth", _MOUTH, centre=(0.50, 0.75)),
    ),
    mirrored_pairs=(("left_brow", "right_brow"), ("left_eye", "right_eye")),
    report_groups={
        "eyes": ("left_eye", "right_eye"),
        "brows": ("left_brow", "right_brow"),
        "nose": ("nose",),
        "inner_mouth": ("inner_mouth",),
        "upper_lip": ("upper_lip",),
        "lower_lip": ("lower_lip",),
        "mouth": _MOUTH,
        "skin": ("skin",),
        "overall": ("left_brow", "right_brow", "left_eye", "right_eye", "nose", *_MOUTH),
    },
)
"""The paper's nine classes, over HELEN's eleven that shards hold: skin and hair are background to
the model. The groups are the rows of the paper's Tables 2 to 4."""

HELEN11: Final = replace(
    PAPER9,
    name="helen11",
    classes=tuple(replace(one, labelled=True) for one in PAPER9.classes),
    report_groups={**PAPER9.report_groups, "hair": ("hair",)},
)
"""HELEN's eleven classes: the paper's, and skin and hair over the whole image."""

LAPA11: Final = replace(HELEN11, name="lapa11")
"""LaPa's eleven classes, which are HELEN's."""

CELEBAMASK19: Final = replace(
    HELEN11,
    name="celebamask19",
    classes=(
        *HELEN11.classes,
        FaceClass("glasses", (70, 70, 70)),
        FaceClass("left_ear", (240, 140, 50)),
        FaceClass("right_ear", (255, 180, 100)),
        FaceClass("hat", (150, 0, 60)),
        FaceClass("earring", (170, 255, 195)),
        FaceClass("necklace", (0, 128, 128)),
        FaceClass("neck", (190, 145, 120)),
        FaceClass("cloth", (130, 150, 200)),
    ),
    mirrored_pairs=(*HELEN11.mirrored_pairs, ("left_ear", "right_ear")),
    report_groups={
        **HELEN11.report_groups,
        "glasses": ("glasses",),
        "ears": ("left_ear", "right_ear"),
        "hat": ("hat",),
        "earring": ("earring",),
        "necklace": ("necklace",),
        "neck": ("neck",),
        "cloth": ("cloth",),
    },
)
"""CelebAMask-HQ's nineteen classes, which come after HELEN's eleven."""

LABEL_SETS: Final = {one.name: one for one in (PAPER9, HELEN11, LAPA11, CELEBAMASK19)}
"""The label sets that come along, by name."""
