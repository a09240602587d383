"""The help of the commands: about one screen, at once, without what they run on."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping

import pytest

from cluster.sweep.config import SweepJobConfig
from jobs.options import parse_job
from jobs.paper import EXPERIMENTS

COMMANDS = (
    *(
        f"jobs/{name}.py"
        for name in ("e2e", "evaluate", "finder", "hybrid", "parse", "shard", "tune")
    ),
    "jobs/shard.py celebamask",
    "jobs/paper.py",
    *(f"jobs/paper.py {experiment}" for experiment in EXPERIMENTS),
    "stn_icnn/inference/command.py",
    "stn_icnn/inference/command.py parse",
    "stn_icnn/inference/command.py export",
    "stn_icnn/inference/command.py compare",
)
SHOW_ALL = """
import contextlib, io, json, runpy, sys

shown = {}
for command in json.loads(sys.argv[1]):
    sys.argv = [*command.split(), "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as exit_:
            assert not exit_.code, command
    shown[command] = out.getvalue()
print(json.dumps({"shown": shown, "modules": list(sys.modules)}))
"""


@pytest.fixture(scope="module")
def helps() -> Mapping[str, object]:
    """What the commands show, all in one process, and the modules that it has loaded."""
    done = subprocess.run(
        [sys.executable, "-c", SHOW_ALL, json.dumps(COMMANDS)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    return json.loads(done.stdout)


def test_help_loads_neither_torch_nor_ray_nor_mlflow(helps) -> None:
    assert not {"torch", "ray", "mlflow"} & set(helps["modules"])


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_screen(helps, command: str) -> None:
    lines = helps["shown"][command].splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[-4:] != "mask"])
def test_help_has_an_example(helps, command: str) -> None:
    name = command.replace("stn_icnn/inference/command.py", "stn-icnn")
    if command.startswith("jobs/"):
        name = f"python {command}"
    assert re.search(rf"(\n|^).*{name} .*--", helps["shown"][command])


def test_jobs_that_track_show_the_experiment_s_option(helps) -> None:
    names = ("e2e", "tune", "hybrid", "finder", "evaluate")
    for command in (f"jobs/{name}.py" for name in names):
        assert "--experiment NAME" in helps["shown"][command]


def help_all(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit_:
        parse_job(SweepJobConfig, "A job.", ["--help-all"])
    assert exit_.value.code == 0
    return capsys.readouterr().out


def test_what_help_leaves_out_help_all_has(helps, capsys: pytest.CaptureFixture[str]) -> None:
    short = helps["shown"]["jobs/tune.py"]
    whole = help_all(capsys)
    for option in ("--optim.lr-coarse", "--model.window-px.eye", "--sweep.grace-epochs"):
        assert option not in short
        assert option in whole


def test_a_job_s_own_options_come_before_the_shared_ones(
    helps, capsys: pytest.CaptureFixture[str]
) -> None:
    for shown in (helps["shown"]["jobs/tune.py"], help_all(capsys)):
        assert shown.index("--num-trials INT") < shown.index("--data DATA")
    shown = help_all(capsys)
    assert shown.index("--sweep.search") < shown.index("--optim.lr-fine")


@pytest.mark.parametrize(
    ("given", "near"),
    [("--confg", "--config FILE"), ("--verbse", "--verbose"), ("--num-trails", "--num-trials INT")],
)
def test_near_names_are_named_for_an_unknown_option(
    given: str, near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse_job(SweepJobConfig, "A job.", ["helen", given, "1"])
    assert exit_.value.code == 2
    printed = capsys.readouterr().err
    assert given in printed
    assert near in printed
    assert len(printed.splitlines()) < 20


def test_a_word_too_many_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse_job(SweepJobConfig, "A job.", ["helen", "--seeds", "2", "celebamask"])
    assert exit_.value.code == 2
    assert "celebamask" in capsys.readouterr().err
