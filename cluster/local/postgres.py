"""PostgreSQL for the MLflow of a local cluster: found, and set up in the cluster's folder."""

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final

from cluster.local.ports import HOST, Ports, accepts
from cluster.local.processes import run_as
from cluster.local.services import Service, write_secret

POSTGRES_USER: Final = "postgres"
"""The user that PostgreSQL runs as where this one is root, as which it refuses to."""
POSTGRES_FOLDERS: Final = Path("/usr/lib/postgresql")
"""The folder of PostgreSQL's programs on Debian, which does not put them on PATH."""


def postgres_programs() -> tuple[Path | None, str]:
    """Returns the folder of PostgreSQL's programs, or None and why it is not used."""
    if importlib.util.find_spec("psycopg") is None:
        return None, "its Python driver, the extra `postgres`, is not installed"
    found = shutil.which("initdb")
    newest = sorted(POSTGRES_FOLDERS.glob("*/bin/initdb"), key=lambda file: file.parts[-3])
    program = Path(found).resolve() if found else (newest[-1] if newest else None)
    if program is None:
        return None, "it is not installed"
    return program.parent, ""


def postgres_service(ports: Ports, folder: Path, programs: Path) -> tuple[Service, str]:
    """Makes a PostgreSQL database cluster, and returns its server and the store's address.

    Args:
        ports: where services listen.
        folder: the cluster's folder.
        programs: the folder of PostgreSQL's programs.

    Raises:
        OSError: where none can be made, with PostgreSQL's reason.
    """
    user = POSTGRES_USER if os.geteuid() == 0 else None
    data, password = folder / "postgres", secrets.token_urlsafe(24)
    data.mkdir(mode=0o700)
    password_file = data.with_name("postgres-password")
    write_secret(password_file, password)
    try:
        if user is not None:
            for path in (data, password_file):
                shutil.chown(path, user, user)
        made = subprocess.run(
            [
                *(programs / "initdb", "-D", data, "-U", "mlflow", "-E", "UTF8"),
                *("-A", "scram-sha-256", f"--pwfile={password_file}", "--no-sync"),
            ],
            capture_output=True,
            text=True,
            cwd=data,
            **run_as(user),
        )
    except LookupError as error:
        raise OSError(f"it does not run as root, and there is no user {user}") from error
    finally:
        password_file.unlink()
    if made.returncode:
        raise OSError((made.stderr or made.stdout).strip().splitlines()[-1])
    settings = {
        "listen_addresses": HOST,
        "port": ports.postgres,
        "unix_socket_directories": "",
        "fsync": "off",  # what it holds is not kept
    }
    options = (f"-c{name}={value}" for name, value in settings.items())
    command = (str(programs / "postgres"), "-D", str(data), *options)
    service = Service(
        "PostgreSQL",
        command,
        lambda: accepts(ports.postgres),
        user=user,
        end=signal.SIGINT,  # at once, whoever is connected
    )
    return service, f"postgresql://mlflow:{password}@{HOST}:{ports.postgres}/postgres"
