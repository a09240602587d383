"""A real MLflow server, a process of its own, which tests may stop and start again."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass
class MlflowServer:
    """A server on a port of its own, with its store and artifacts in a folder."""

    folder: Path
    port: int
    wait_until: Callable[..., None]
    process: subprocess.Popen | None = None

    @classmethod
    def prepare(
        cls, folder: Path, new_store: Callable[[Path], str], wait_until: Callable[..., None]
    ) -> Self:
        """Makes a server's store and finds a free port; the server is not started.

        Args:
            folder: an empty folder.
            new_store: the fixture of this name.
            wait_until: the fixture of this name.
        """
        new_store(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return cls(folder, free.getsockname()[1], wait_until)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--workers=1", "--host=127.0.0.1"),
                f"--port={self.port}",
                f"--backend-store-uri=sqlite:///{self.folder}/mlflow.db",
                f"--artifacts-destination={self.folder}/artifacts",
            ],
            cwd=self.folder,
            env=os.environ
            | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=(self.folder / "log").open("a"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.wait_until(self.answers, self.process)

    def answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.uri}/health", timeout=60).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
