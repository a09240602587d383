"""Several hosts on one machine, in network namespaces of Linux, with links that can be cut.

A host has an address, a name, processes, /tmp, /dev/shm and a home of its own, and shares the other
files with this machine. It needs root, and util-linux's and iproute2's commands.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[3]
NETWORK = "10.77.0"
ENDS_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")
SPACES = (
    *ENDS_WITH_PARENT,
    *("unshare", "-n", "-m", "-u", "-p", "-f", "--mount-proc", "--kill-child"),
)
COMMANDS = ("ip", "nsenter", "setpriv", "unshare")
# The first process of a host's process namespace: it takes over orphans, and reaps them.
HOLDER = "import signal as s; s.signal(s.SIGCHLD, s.SIG_IGN); [s.pause() for _ in iter(int, 1)]"
WAIT_S = 120.0
POLL_S = 0.05


def reason_against() -> str | None:
    """Why this machine can have no such hosts; None: it can."""
    if missing := [command for command in COMMANDS if shutil.which(command) is None]:
        return f"no command {' '.join(missing)}"
    make_bridge = ("ip", "link", "add", "br0", "type", "bridge")
    tried = subprocess.run([*SPACES, *make_bridge], capture_output=True, text=True)
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else None


def wait_for(
    happened: Callable[[], Any], what: str, timeout_s: float = WAIT_S, poll_s: float = POLL_S
) -> Any:
    """Waits until a call gives something true, and returns that."""
    give_up_at = time.monotonic() + timeout_s
    while not (value := happened()):
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(poll_s)
    return value


@dataclass
class Host:
    """A host of a rig."""

    rig: "Rig"
    name: str
    address: str
    folder: Path
    """Its /tmp and home, the file that is its /etc/hosts, and the logs of what it runs."""
    holder: subprocess.Popen

    @cached_property
    def pid(self) -> int:
        """The first process of its namespaces."""
        children = Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children")
        return int(wait_for(lambda: children.read_text().split(), f"{self.name} starts")[0])

    def inside(self, *command: str) -> list[str]:
        """A command line that runs another on the host."""
        spaces = ("-n", "-m", "-p", "-u", f"--wdns={ROOT}")
        return ["nsenter", "-t", str(self.pid), *spaces, "--", *command]

    def start(
        self, *command: str, log: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen:
        """Starts a process, whose output is appended to `folder/log`."""
        with (self.folder / log).open("ab") as file:
            return subprocess.Popen(
                self.inside(*command),
                env={**self.environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *command: str, timeout_s: float = WAIT_S) -> str:
        """Runs a command and returns its output."""
        done = subprocess.run(
            self.inside(*command),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"{self.name}: {command}: {done.stdout}{done.stderr}"
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its processes."""
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.folder / "home"),
            "OMP_NUM_THREADS": "1",
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
            "RAY_worker_niceness": "0",  # else other work of this machine goes before all hosts'
            **self.rig.variables,
        }

    def processes(self, beginning: str = "") -> list[int]:
        """The ids, on this machine, of its processes whose command line begins so."""
        own = os.stat(f"/proc/{self.pid}/ns/pid").st_ino
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                same = os.stat(entry / "ns/pid").st_ino == own
                if same and int(entry.name) != self.pid and line.startswith(beginning) and line:
                    found.append(int(entry.name))
        return found

    def kill(self, beginning: str = "", signal_number: int = signal.SIGKILL) -> int:
        """Sends a signal to its processes whose command line begins so; returns how many."""
        pids = self.processes(beginning)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_number)
        return len(pids)

    def cut(self) -> None:
        """Takes the host off the network."""
        self.rig.in_switch("ip", "link", "set", f"to-{self.name}", "down")

    def mend(self) -> None:
        """Puts it back."""
        self.rig.in_switch("ip", "link", "set", f"to-{self.name}", "up")

    def close(self, other: "Host") -> None:
        """Closes the ports that the system gives out, on which workers meet, to another host."""
        self.run(*_PORTS_CLOSED, "-A", *_port_rule(other))

    def open(self, other: "Host") -> None:
        """Opens them again."""
        self.run(*_PORTS_CLOSED, "-D", *_port_rule(other))


_PORTS_CLOSED = ("iptables", "-w")


def _port_rule(other: Host) -> tuple[str, ...]:
    ports = ("-p", "tcp", "--syn", "--dport", "32768:60999")
    return ("INPUT", "-s", other.address, *ports, "-j", "DROP")


@dataclass
class Rig:
    """Hosts that are joined by a switch. To be used as a context: its end leaves nothing."""

    folder: Path
    own_names_loop: bool = False
    """Whether each host's own name resolves to 127.0.1.1, as Debian and Ubuntu have it."""
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables of all processes that are started on its hosts."""
    hosts: dict[str, Host] = field(default_factory=dict)
    _switch: subprocess.Popen | None = None

    def __enter__(self) -> Self:
        holder = (*ENDS_WITH_PARENT, "unshare", "-n", sys.executable, "-c", HOLDER)
        self._switch = subprocess.Popen(holder, start_new_session=True)
        own = os.stat("/proc/self/ns/net").st_ino
        net = f"/proc/{self._switch.pid}/ns/net"
        wait_for(lambda: os.stat(net).st_ino != own, "the switch starts")
        self.in_switch("ip", "link", "add", "br0", "type", "bridge")
        self.in_switch("ip", "link", "set", "br0", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts.values():
            host.holder.kill()  # with it ends all that its namespace of processes holds
            host.holder.wait()
        if self._switch is not None:
            self._switch.kill()
            self._switch.wait()

    def in_switch(self, *command: str) -> None:
        """Runs a command where all links end."""
        assert self._switch is not None
        inside = ["nsenter", "-t", str(self._switch.pid), "-n", "--", *command]
        subprocess.run(inside, check=True, capture_output=True)

    def add(self, name: str, tmp_mb: int | None = None) -> Host:
        """Adds a host.

        Args:
            name: its name.
            tmp_mb: the size of its /tmp and home, MB; None: this machine's free disk.
        """
        address = f"{NETWORK}.{10 + len(self.hosts)}"
        folder = self.folder / name
        (folder / "tmp").mkdir(parents=True)
        (folder / "home").mkdir()
        own = "127.0.1.1" if self.own_names_loop else address
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{own} {name}\n")
        script = self.folder / f"{name}.sh"
        script.write_text(_host_script(self.folder, folder, tmp_mb))
        holder = subprocess.Popen([*SPACES, "bash", str(script)], start_new_session=True)
        host = self.hosts[name] = Host(self, name, address, folder, holder)
        wait_for((folder / "ready").exists, f"{name} is ready")
        link = ("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0")
        self.in_switch(*link, "netns", str(host.pid))
        self.in_switch("ip", "link", "set", f"to-{name}", "master", "br0", "up")
        host.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        host.run("ip", "link", "set", "eth0", "up")
        return host


def _host_script(shared: Path, folder: Path, tmp_mb: int | None) -> str:
    """What a host's first process does before it waits for its end."""
    lines = ["set -e", f"hostname {folder.name}", "ip link set lo up", "mount --make-rprivate /"]
    lines += [f"mount --bind {folder}/hosts /etc/hosts"]
    lines += ["mount -t tmpfs -o size=256m none /dev/shm"]
    if tmp_mb is not None:
        for own in ("tmp", "home"):
            lines += [f"mount -t tmpfs -o size={tmp_mb}m none {folder}/{own}"]
    for needed in {ROOT, Path(sys.prefix), Path(sys.base_prefix), shared}:
        if needed.is_relative_to("/tmp"):  # which the host's own would hide
            seen = f"{folder}/tmp/{needed.relative_to('/tmp')}"
            lines += [f"mkdir -p {seen}", f"mount --rbind {needed} {seen}"]
    lines += [f"mount --rbind {folder}/tmp /tmp", f"touch {folder}/ready"]
    return "\n".join([*lines, f'exec {sys.executable} -c "{HOLDER}"', ""])
