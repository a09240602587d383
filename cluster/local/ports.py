"""The ports of loopback that the services of a local cluster listen at."""

import socket
from dataclasses import dataclass
from typing import Final

HOST: Final = "127.0.0.1"

ABOVE_RAY: Final = 20000
"""The least port beyond those that Ray gives to its workers."""

TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class Ports:
    """A port for each service; `0` stands for a free one until `chosen`."""

    dashboard: int = 8265
    """Ray's dashboard, which also takes jobs."""
    mlflow: int = 5000
    s3: int = 9000
    postgres: int = 5433
    ray: int = 6379

    @property
    def s3_url(self) -> str:
        """The address of the S3 server."""
        return f"http://{HOST}:{self.s3}"

    @property
    def mlflow_url(self) -> str:
        """The address of the MLflow server."""
        return f"http://{HOST}:{self.mlflow}"

    @property
    def dashboard_url(self) -> str:
        """The address of Ray's dashboard."""
        return f"http://{HOST}:{self.dashboard}"

    def chosen(self) -> "Ports":
        """Returns these ports, each 0 replaced by a free one.

        Raises:
            ValueError: where somebody listens at one, with the option that chooses another.
        """
        for name, port in vars(self).items():
            if port and not is_free(port):
                raise ValueError(
                    f"port {port} ({name}) is in use: end what listens there, or choose another: "
                    f"make cluster OPTIONS='--{name}-port={free_port()}'"
                )
        taken: set[int] = set()
        return Ports(**{name: port or free_port(taken) for name, port in vars(self).items()})


def free_port(taken: set[int] | None = None) -> int:
    """Returns a free port, beyond those of Ray's workers.

    Args:
        taken: ports that it is not among; it is added to them.
    """
    taken = set() if taken is None else taken
    while True:
        with socket.create_server((HOST, 0)) as server:
            port: int = server.getsockname()[1]
        if port >= ABOVE_RAY and port not in taken:
            taken.add(port)
            return port


def is_free(port: int) -> bool:
    """Tells whether nobody listens at a port of loopback, alone or with all addresses."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def accepts(port: int) -> bool:
    """Tells whether somebody takes connections at a port of loopback."""
    try:
        socket.create_connection((HOST, port), TIMEOUT_S).close()
    except OSError:
        return False
    return True
