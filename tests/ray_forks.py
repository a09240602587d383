"""Ray's processes as forks of one process that has imported Ray and PyTorch.

A training of seconds starts six processes, which would spend most of the tests' time on importing.
`RayForks` runs the process that is forked. Ray starts each of its own by `RayForks.command` (the
`py_executable` of a runtime environment), a Python without imports that hands its arguments,
environment and standard streams to a fork and lives as long as this.
"""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NUM_STREAMS = 3
"""Standard input, output and error."""


class RayForks:
    """The process that is forked for one connection to Ray, listening at a socket in a folder."""

    def __init__(self, folder: Path) -> None:
        self.address = folder / "forks"

    @property
    def command(self) -> str:
        """The command line before a script's path, in place of Python's."""
        return f"{sys.executable} -ISs {__file__} {self.address}"

    @contextmanager
    def serving(self, raylet_pid: int, job_id: str) -> Iterator[None]:
        """Runs the process that is forked until the block ends.

        Args:
            raylet_pid: the id of the raylet's process, with which the forks end.
            job_id: the id of the job that they work for. Ray reads both as it is imported.
        """
        known = {"RAY_RAYLET_PID": str(raylet_pid), "RAY_JOB_ID": job_id, "OMP_NUM_THREADS": "1"}
        # -P keeps this file's folder, in which `cluster` is the tests', off the path of imports.
        command = [sys.executable, "-P", __file__, "serve", str(self.address)]
        with subprocess.Popen(command, env={**os.environ, **known}) as process:
            try:
                yield
            finally:
                process.kill()


def run_in_fork(address: str, arguments: list[str]) -> None:
    """Has a script run in a fork, and waits until the fork has ended."""
    call = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
    with socket.socket(socket.AF_UNIX) as connection:
        while not os.path.exists(address):
            time.sleep(0.01)
        connection.connect(address)
        socket.send_fds(connection, [b"\n"], list(range(NUM_STREAMS)))
        connection.sendall(json.dumps(call).encode())
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)  # the fork holds the other end open while it lives


def serve(address: str) -> None:
    """Imports what Ray's processes import, and forks for each call, until it is killed."""
    import ray.train.torch  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that forks that have ended are gone
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{address}.part")
        listener.listen(64)
        os.rename(f"{address}.part", address)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                return run_script(connection)
            connection.close()


def run_script(connection: socket.socket) -> None:
    """Becomes the process that a call asks for, and runs its script."""
    _, streams, _, _ = socket.recv_fds(connection, 1, NUM_STREAMS)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    call = json.load(connection.makefile())
    os.environ.clear()
    os.environ.update(call["environment"])
    os.chdir(call["folder"])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    sys.argv = call["arguments"]
    python_path = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:0] = [str(Path(sys.argv[0]).parent), *python_path]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        run_in_fork(sys.argv[1], sys.argv[2:])
