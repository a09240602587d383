"""A local cluster as its folder records it: started a service at a time, ended as a whole."""

import json
import shutil
import signal
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Self

from cluster.local.ports import Ports
from cluster.local.processes import ProcessRecord, end_processes, is_running, start_process
from cluster.local.services import Service, base_environment

STATE_FILE: Final = "cluster.json"

READY_WITHIN_S: Final = 120.0
END_WITHIN_S: Final = 20.0
POLL_S: Final = 0.2
LOG_LINES: Final = 5
"""How many of a log's last lines are shown of a service that does not start."""


@dataclass
class LocalCluster:
    """A cluster's folder, and what was started."""

    folder: Path
    temporary: Path
    """The folder of Ray's own files and of temporary ones: its path is short, for Ray's sockets."""
    ports: Ports
    database: str = ""
    """What MLflow keeps its runs in, in words."""
    is_up: bool = False
    """Whether all of it was started."""
    processes: dict[str, ProcessRecord] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    """The signals that end them."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads the record in a cluster's folder."""
        content = json.loads((folder / STATE_FILE).read_text())
        return cls(
            folder=folder,
            temporary=Path(content["temporary"]),
            ports=Ports(**content["ports"]),
            database=content["database"],
            is_up=content["is_up"],
            processes={k: ProcessRecord(**v) for k, v in content["processes"].items()},
            ends=content["ends"],
        )

    def write(self) -> None:
        """Writes the record, at once or not at all."""
        content = {k: v for k, v in asdict(self).items() if k != "folder"}
        half = self.folder / f"{STATE_FILE}.half"
        half.write_text(json.dumps({**content, "temporary": str(self.temporary)}, indent=1))
        half.replace(self.folder / STATE_FILE)

    def log(self, name: str) -> Path:
        """Returns the file of a service's output."""
        return self.folder / "logs" / f"{name.lower()}.log"

    def start(self, service: Service) -> None:
        """Starts a service, and records its process."""
        print(f"starting {service.name}", flush=True)
        environment = {**base_environment(self.temporary), **service.environment}
        folder = self.folder if service.user is None else Path("/")
        self.processes[service.name] = start_process(
            service.command, self.log(service.name), environment, folder, service.user
        )
        self.ends[service.name] = int(service.end)
        self.write()

    def wait_for(self, service: Service) -> None:
        """Waits until a service answers.

        Raises:
            OSError: it has ended, or does not answer, with the end of its log.
        """
        give_up_at = time.monotonic() + READY_WITHIN_S
        while not service.is_ready():
            ended = not is_running(self.processes[service.name])
            if ended or time.monotonic() > give_up_at:
                what = "ended" if ended else f"does not answer after {READY_WITHIN_S:.0f} s"
                lines = self.log(service.name).read_text(errors="replace").splitlines()
                shown = "\n  ".join(lines[-LOG_LINES:])
                raise OSError(f"{service.name} {what}; the end of its log:\n  {shown}")
            time.sleep(POLL_S)

    def lost(self) -> list[str]:
        """Returns the names of the services that have ended."""
        return [name for name, process in self.processes.items() if not is_running(process)]

    def end(self) -> None:
        """Ends all that was started, the last first, and removes what was stored."""
        last_first = reversed(self.processes.items())
        ends = {one: signal.Signals(self.ends[name]) for name, one in last_first}
        end_processes(ends, END_WITHIN_S)
        shutil.rmtree(self.temporary, ignore_errors=True)
        shutil.rmtree(self.folder)
