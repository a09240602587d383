"""Processes that are started to outlive this one, found again by their records, and ended."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PROC: Final = Path("/proc")
POLL_S: Final = 0.05

KILLED_WITHIN_S: Final = 10.0
"""How long a process may take to be gone that was killed."""


@dataclass(frozen=True)
class ProcessRecord:
    """A process as it is known again: a number alone may be another process's later."""

    pid: int
    started: int
    """When it was started, in the kernel's ticks since the machine was."""


@dataclass(frozen=True)
class _Entry:
    """What the kernel's table says of a process."""

    record: ProcessRecord
    parent: int
    session: int


def start_process(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    folder: Path,
    user: str | None = None,
) -> ProcessRecord:
    """Starts a process in a session of its own, without input.

    Args:
        command: the program's path and its arguments.
        log: the file that all its output is appended to.
        environment: all of its environment variables.
        folder: its working directory.
        user: the name of the user that it runs as; None: this one's.

    Raises:
        OSError: where it cannot be started.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=folder,
            start_new_session=True,
            **run_as(user),
        )
    entry = _table().get(process.pid)
    if entry is None:
        raise ChildProcessError(f"{command[0]} ended at once; its output is in {log}")
    return entry.record


def run_as(user: str | None) -> dict[str, Any]:
    """Returns the arguments by which `subprocess` starts a process as another user."""
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}


def is_running(process: ProcessRecord) -> bool:
    """Tells whether a process is still there, and has not ended."""
    entry = _table().get(process.pid)
    return entry is not None and entry.record == process


def end_processes(ends: Mapping[ProcessRecord, signal.Signals], patience_s: float) -> None:
    """Ends processes one after another, and all that they have started.

    Args:
        ends: the processes in the order in which they end, with the signal that tells each to.
        patience_s: how long each may take, seconds; then it is killed.

    Raises:
        TimeoutError: where something of them is left all the same, with its numbers.
    """
    for process, end in ends.items():
        members = _family(process)
        _send([process], end)
        _wait_until_gone(members, patience_s)
        left = [one for one in members | _family(process) if is_running(one)]
        _send(left, signal.SIGKILL)
        if not _wait_until_gone(left, KILLED_WITHIN_S):
            numbers = ", ".join(str(one.pid) for one in left if is_running(one))
            raise TimeoutError(f"processes that do not end though they were killed: {numbers}")


def _family(process: ProcessRecord) -> set[ProcessRecord]:
    """Returns a process that was started by `start_process`, if it is there, and what it started.

    Those are its children and theirs, and all of its session, which has its number: the kernel
    gives that to no other process while the session has any.
    """
    table = _table()
    leader = table.get(process.pid)
    if leader is not None and leader.record != process:
        return set()
    found = {pid for pid, entry in table.items() if entry.session == process.pid}
    if leader is not None:
        found.add(process.pid)
    while added := {pid for pid, entry in table.items() if entry.parent in found} - found:
        found |= added
    return {table[pid].record for pid in found}


def _send(processes: Iterable[ProcessRecord], end: signal.Signals) -> None:
    for process in processes:
        if is_running(process):
            try:
                os.kill(process.pid, end)
            except ProcessLookupError:  # it has just ended
                continue


def _wait_until_gone(processes: Iterable[ProcessRecord], patience_s: float) -> bool:
    """Waits for processes to end, and tells whether all have."""
    give_up_at = time.monotonic() + patience_s
    while any(is_running(one) for one in processes):
        if time.monotonic() > give_up_at:
            return False
        time.sleep(POLL_S)
    return True


def _table() -> dict[int, _Entry]:
    """Returns all processes that have not ended, by number, as the kernel lists them."""
    found = {}
    for folder in PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # Fields follow the name in brackets, which may hold brackets and blanks itself.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if fields[0] not in "ZX":
            record = ProcessRecord(int(folder.name), int(fields[19]))
            found[record.pid] = _Entry(record, parent=int(fields[1]), session=int(fields[3]))
    return found
