"""Records in storage: the same settings go on, others are refused by name."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest

from cluster.storage.records import create_or_load, require_same_settings
from stn_icnn.config import FineConfig, TrainConfig
from stn_icnn.storage import Folder

EYE = TrainConfig(fine=FineConfig(networks=("eye",)))


def content(config: TrainConfig = EYE, **others: object) -> dict[str, object]:
    return {"config": asdict(config), "kind": "sweep", **others}


def test_a_record_is_created_once_and_loaded_as_it_was_returned(tmp_path: Path) -> None:
    created = create_or_load(Folder(tmp_path), "run.json", content(finished=[]), ("config", "kind"))
    assert created["config"]["fine"]["networks"] == ["eye"]  # as JSON has a tuple
    again = create_or_load(
        Folder(tmp_path), "run.json", content(finished=["coarse"]), ("config", "kind")
    )
    assert again == created


def test_every_entry_is_compared_where_none_are_named(tmp_path: Path) -> None:
    create_or_load(Folder(tmp_path), "run.json", content(seeds=1))
    with pytest.raises(ValueError, match=r"\(seeds: 2, was 1\)"):
        create_or_load(Folder(tmp_path), "run.json", content(seeds=2))


def test_each_setting_that_differs_is_named_with_both_values_and_the_cure() -> None:
    ours, theirs = {"a": {"b": (1, 2)}, "c": 3, "d": 4}, {"a": {"b": [1]}, "c": 3, "d": 5}
    whole = (
        "the run at /x was started with other settings (top.a.b: [1, 2], was [1]; top.d: 4, was 5)"
        ": repeat them to go on with it, or give another --out"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(whole)}$"):
        require_same_settings("the run at /x", ours, theirs, path="top.", option="--out")


def test_a_tuple_equals_the_list_that_json_makes_of_it() -> None:
    require_same_settings("the run at /x", {"sizes": (1, 2)}, {"sizes": [1, 2]})
