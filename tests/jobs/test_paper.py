"""The command line of the paper's experiments."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.paper import parity_job, table_job
from cluster.tracking.provenance import command_line, origin_tags
from jobs.paper import EXPERIMENTS, job
from jobs.running import run_job


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["jobs/paper.py", *arguments])
    return run_job(job)


@pytest.mark.parametrize("arguments", [(), ("tables",), ("--seeds", "2")])
def test_without_an_experiment_the_names_are_given(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    printed = capsys.readouterr().err
    assert all(name in printed for name in EXPERIMENTS)


@pytest.mark.parametrize(
    ("experiment", "option"),
    [
        ("table", "--seeds"),
        ("coarse-size", "--sizes"),
        ("occlusion", "--num-covered"),
        ("parity", "--patch-px"),
        ("timing", "--rounds"),
        ("windows", "--errors"),
    ],
)
def test_each_experiment_explains_its_own_options(
    experiment: str,
    option: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, experiment, "--help")
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert f"paper.py {experiment}" in printed
    assert option in printed


@pytest.mark.parametrize(
    ("module", "function", "words"),
    [
        (table_job, "run_table", ["table", "demo", "--seeds", "1"]),
        (parity_job, "run_parity", ["parity", "--num-faces", "2"]),
    ],
)
def test_the_command_that_a_run_keeps_is_the_one_that_was_typed(
    module: Any,
    function: str,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def tell(*settings: Any) -> dict[str, Any]:
        return {"command": command_line(), "source": origin_tags()["mlflow.source.name"]}

    monkeypatch.setattr(module, function, tell)
    assert run(monkeypatch, *words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["command"] == " ".join(["python jobs/paper.py", *words])
    assert told["source"] == "jobs/paper.py"


@pytest.mark.slow
def test_an_experiment_ends_with_a_line_of_json(
    tmp_path: Path,
    new_store: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = ["--storage", str(tmp_path), "--tracking-uri", new_store(tmp_path)]
    assert run(monkeypatch, "parity", "--num-faces", "1", "--patch-px", "8", "9", *places) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["experiment"] == "parity"
    assert last["largest_difference"]["9"] == 0
    assert last["largest_difference"]["8"] > 0
