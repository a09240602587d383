"""The bench's own machinery, on tiny sizes; no time is asserted."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import bench
from benchmarks.inference import NO_REFERENCE
from benchmarks.measure import Row
from benchmarks.subjects import Setup
from stn_icnn.config import TrainConfig


@pytest.fixture
def setup(shards: Path, tiny_config: TrainConfig, tmp_path: Path) -> Setup:
    return Setup(
        shards=shards,
        scratch=tmp_path,
        rounds=2,
        config=replace(tiny_config, optim=replace(tiny_config.optim, global_batch=2)),
        steps=1,
        image_px=96,
        batch=2,
    )


@pytest.mark.slow
def test_a_result_holds_facts_and_rows_and_says_what_was_not_given(
    setup: Setup,
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    setup = replace(setup, model=exported)
    content = (exported / "new" / "model.onnx").read_bytes()
    monkeypatch.setattr("benchmarks.export.export_onnx", lambda model: content)  # half a minute
    assert bench.run(["inference", "training", "export", "data"], setup, tmp_path / "r.json")
    result = json.loads((tmp_path / "r.json").read_text())
    assert {"commit", "cpu", "threads", "torch", "date"} <= set(result["facts"])
    assert result["facts"]["reference"] is None
    printed = capsys.readouterr().out
    for row in result["rows"]:
        assert f"| {row['figure']} |" in printed
        if "authors" in row["figure"]:
            assert (row["ratio"], row["note"]) == (None, NO_REFERENCE)
        elif "not measured" in row["note"]:
            assert row["ratio"] is None
        else:
            assert row["ratio"] > 0
            assert len(row["rounds"]) == (1 if row["figure"].endswith("alike") else 2)
    of_groups = [row["group"] for row in result["rows"] if row["ratio"] is not None]
    assert of_groups.count("inference") == 2  # the networks' share, for one face and for two
    assert of_groups.count("training") == 3
    assert of_groups.count("export") == 3  # one face, two, and their labels


def test_a_group_that_fails_loses_no_figure(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def broken(_: Setup) -> Iterator[Row]:
        yield Row(figure="a", rounds=[1.0, 3.0])
        raise ValueError("no more")

    def sound(_: Setup) -> Iterator[Row]:
        yield Row(figure="b", rounds=[4.0], parts={"networks": 0.5})

    monkeypatch.setattr(bench, "GROUPS", {"broken": broken, "sound": sound})
    assert not bench.run(["broken", "sound"], setup, tmp_path / "r.json")
    result = json.loads((tmp_path / "r.json").read_text())
    assert [(row["figure"], row["ratio"]) for row in result["rows"]] == [("a", 2.0), ("b", 4.0)]
    assert result["failed"] == {"broken": "ValueError('no more')"}
