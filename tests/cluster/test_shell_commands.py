"""The commands that a job prints run where its user pastes them."""

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.shell_commands import USER_PATH_ENV, going_on, typed_command

ROOT = Path(__file__).parents[2]


def make_program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an installation's commands, in the working directory and off the PATH."""
    folder = tmp_path / "clone" / ".venv" / "bin"
    for name in ("python", "stn-icnn"):
        make_program(folder / name)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")  # as make has it
    monkeypatch.setenv(USER_PATH_ENV, "/usr/bin:/bin")
    monkeypatch.chdir(folder.parents[1])
    return folder


def test_a_command_that_the_user_s_shell_lacks_is_named_by_its_path(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert typed_command("stn-icnn") == ".venv/bin/stn-icnn"
    assert typed_command("python") == ".venv/bin/python"
    monkeypatch.chdir(tmp_path / "clone" / ".venv" / "bin")
    (tmp_path / "a clone").symlink_to(tmp_path / "clone")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "a clone" / ".venv" / "bin" / "python"))
    assert typed_command("python") == f"'{tmp_path}/a clone/.venv/bin/python'"


def test_a_command_that_the_user_s_shell_has_is_named(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(USER_PATH_ENV, f"{installed}:/usr/bin:/bin")
    assert typed_command("stn-icnn") == "stn-icnn"
    monkeypatch.delenv(USER_PATH_ENV)  # the job was not started by make
    assert typed_command("stn-icnn") == "stn-icnn"


def test_another_command_of_the_name_is_not_meant(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_program(tmp_path / "other" / "stn-icnn")
    monkeypatch.setenv(USER_PATH_ENV, f"{other.parent}:{installed}")
    assert typed_command("stn-icnn") == ".venv/bin/stn-icnn"
    assert typed_command("python") == "python"


def test_make_tells_a_job_the_path_of_the_user_s_shell(tmp_path: Path) -> None:
    rules = tmp_path / "rules.mk"
    rules.write_text(
        f'said:\n\t@echo "$${USER_PATH_ENV}"\nnested:\n\t@$(MAKE) -f Makefile -f {rules} said\n'
    )
    for target in ("said", "nested"):
        run = subprocess.run(
            ["make", "-s", "--no-print-directory", "-f", "Makefile", "-f", str(rules), target],
            cwd=ROOT,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.strip() == "/usr/local/bin:/usr/bin:/bin"


def test_a_job_that_failed_names_its_own_command_without_passwords(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = "postgresql://me:secret@db:5432/mlflow"
    argv = ["jobs/e2e.py", "demo", "--tracking-uri", store, "--data", "my shards"]
    monkeypatch.setattr(sys, "argv", argv)
    line = going_on("first/coarse")
    shown = store.replace("me:secret", "PASSWORD")
    assert line.endswith(
        f"python jobs/e2e.py demo --tracking-uri {shown} --data 'my shards' --run-name first"
    )
    monkeypatch.setattr(sys, "argv", [*argv, "--run_name=first"])
    assert "--run-name" not in going_on("first/coarse")
