"""Label sets of one's own: what a JSON file may say, and what is told of one that can't be used."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stn_icnn.config import ModelConfig, TrainConfig, with_labels
from stn_icnn.config_dict import from_stored, to_stored
from stn_icnn.label_set_file import given_labels, label_set_content, label_set_of, labels_text
from stn_icnn.label_sets import CELEBAMASK19, HELEN11, LABEL_SETS, PAPER9
from stn_icnn.presets import celebamask_tuned, helen

BACKGROUND: dict[str, Any] = {"name": "background", "colour": [0, 0, 0]}
EYES: dict[str, Any] = {"name": "eyes", "colour": [0, 90, 220]}
SKIN: dict[str, Any] = {"name": "skin", "colour": [230, 190, 165]}
OWN: dict[str, Any] = {
    "name": "eyes-and-skin",
    "classes": [BACKGROUND, EYES, SKIN],
    "parts": [{"name": "eyes", "classes": ["eyes"], "centre": [0.5, 0.48], "window_px": 200}],
}
"""Three classes and one part."""


def written(folder: Path, content: object) -> str:
    path = folder / "own.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_one_of_ones_own_is_read_from_a_file_and_stored_as_text(tmp_path: Path):
    text = given_labels(written(tmp_path, OWN))
    own = label_set_of(text)
    assert labels_text(own) == text
    assert own.class_names == ("background", "eyes", "skin")
    assert own.colours[1] == (0, 90, 220)
    assert own.part_classes == ((1,),)
    assert own.whole_classes == (2,)
    assert own.f1_rows == {"eyes": (1,), "skin": (2,), "overall": (1,)}
    assert own.mean_rows == {"mean": (1,), "mean_foreground": (1, 2)}


@pytest.mark.parametrize("name", LABEL_SETS)
def test_those_that_come_along_go_by_name_and_can_be_written_as_files(name: str) -> None:
    label_set = LABEL_SETS[name]
    assert given_labels(name) == labels_text(label_set) == name
    copy = {**label_set_content(label_set), "name": "copy"}
    again = label_set_of(json.dumps(copy))
    assert again.classes == label_set.classes
    assert again.parts == label_set.parts
    assert again.mirrored_class == label_set.mirrored_class


def test_ids_mean_the_same_in_all_that_come_along() -> None:
    assert CELEBAMASK19.class_names[:11] == HELEN11.class_names == PAPER9.class_names
    assert CELEBAMASK19.colours[:11] == PAPER9.colours
    assert len(CELEBAMASK19.model_classes) == 19
    assert PAPER9.whole_classes == ()


def test_settings_with_a_label_set_have_sizes_for_its_networks(tmp_path: Path):
    tuned = celebamask_tuned()
    whole = with_labels(tuned, "celebamask19").model
    assert (whole.window_px, whole.patch_px) == (tuned.model.window_px, tuned.model.patch_px)
    own = with_labels(tuned, given_labels(written(tmp_path, OWN)))
    assert own.model.window_px == {"eyes": 200}
    assert own.model.patch_px == {"eyes": 127}
    assert own.fine.networks == ("eyes",)
    assert from_stored(json.loads(json.dumps(to_stored(own)))) == own


def test_a_set_of_few_parts_has_no_finder_and_whole_classes_have_a_loss(tmp_path: Path):
    own = with_labels(celebamask_tuned(), given_labels(written(tmp_path, OWN)))
    assert own.model.finder_px == 0
    with pytest.raises(ValueError, match="must be 0 for a label set of fewer than 3 parts"):
        replace(own.model, finder_px=128)
    assert helen().loss.coarse_weight == 0
    assert with_labels(helen(), "helen11").loss.coarse_weight == 1
    assert with_labels(helen(), "paper9") == helen()


def test_settings_of_the_papers_classes_are_stored_as_ever() -> None:
    assert "labels" not in to_stored(TrainConfig())["model"]
    assert to_stored(with_labels(TrainConfig(), "helen11"))["model"]["labels"] == "helen11"
    assert from_stored(to_stored(TrainConfig())) == TrainConfig()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "helen11"}, "name must be another than 'helen11'"),
        ({"classes": []}, "classes must be background and then up to 63 more, got"),
        ({"parts": []}, "parts must be one or more, got none"),
        (
            {"colours": {}},
            r"the file must be one with classes, name, parts, report alone, got \['col",
        ),
        (
            {"classes": [*OWN["classes"], {"name": "hat", "colour": [1, 2, 300]}]},
            r"colour of hat must be \[red, green, blue\], each from 0 to 255, got \[1, 2, 300\]",
        ),
        (
            {"classes": [*OWN["classes"], {"name": "skin", "colour": [1, 2, 3]}]},
            "classes must be of different names",
        ),
        (
            {"parts": [{"name": "nose", "classes": ["nose"]}]},
            r"classes of part nose must be one or more of eyes, skin, got \['nose'\]",
        ),
        (
            {"parts": [{"name": "eyes", "classes": ["eyes"], "window_px": 5}]},
            "window_px of part eyes must be a whole number of at least 9, got 5",
        ),
        (
            {"classes": [BACKGROUND, {**EYES, "mirrored": "skin"}, SKIN]},
            "mirrored of skin must be 'eyes', got None",
        ),
        (
            {"classes": [BACKGROUND, EYES, {**SKIN, "name": "mean"}]},
            "classes must be named otherwise than overall, mean, mean_foreground, got",
        ),
        (
            {"classes": [BACKGROUND, {**EYES, "labelled": False}, SKIN]},
            r"classes of parts must be labelled, got \['eyes'\]",
        ),
        ({"report": {"mean": ["eyes"]}}, "report must be of rows named otherwise than mean, got"),
        (
            {"report": {"all": ["teeth"]}},
            "report.all must be one or more of background, eyes, skin",
        ),
    ],
)
def test_a_file_that_describes_none_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=message):
        given_labels(written(tmp_path, {**OWN, **change}))


def test_what_is_neither_a_name_nor_a_file_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="must be paper9, helen11, lapa11, celebamask19 or a file"):
        given_labels("celebamask")
    with pytest.raises(ValueError, match="must be a JSON file"):
        given_labels(str(tmp_path / "absent.json"))
    with pytest.raises(ValueError, match="no label set 'celebamask'; there are paper9"):
        _ = ModelConfig(labels="celebamask")
