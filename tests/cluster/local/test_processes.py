"""Processes are ended with all that they have started, and no others."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.local import processes
from cluster.local.processes import ProcessRecord, end_processes, is_running, start_process

DEAF = "trap '' TERM; sleep 1000 & echo $! > child; wait"


def test_what_does_not_end_is_killed_with_its_children(
    tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """A child too whose parent has ended before."""
    child = tmp_path / "child"
    for has_parent in (True, False):
        child.unlink(missing_ok=True)
        shell = start_process(["sh", "-c", DEAF], tmp_path / "log", os.environ, tmp_path)
        wait_until(lambda: child.exists() and child.read_text().strip())
        sleep = next(one for one in processes._family(shell) if one.pid == int(child.read_text()))
        if not has_parent:
            os.kill(shell.pid, signal.SIGKILL)
            wait_until(lambda shell=shell: not is_running(shell))
        end_processes({shell: signal.SIGTERM}, patience_s=0.1)
        assert not is_running(shell)
        assert not is_running(sleep)


def test_a_number_that_another_process_has_now_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a stranger gets a signal"))
    end_processes({ProcessRecord(os.getpid(), started=1): signal.SIGTERM}, patience_s=1)
