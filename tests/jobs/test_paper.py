"""The command line of the paper's experiments."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.options import run_job
from jobs.paper import EXPERIMENTS, job


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
