"""The commands of this installation, as a job prints them for its user to paste."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

USER_PATH_ENV: Final = "STN_ICNN_USER_PATH"
"""The environment variable by which make tells a job the PATH of the user's own shell, as make
puts `.venv/bin` before it."""


def typed_command(name: str) -> str:
    """Returns what the user types to run a command of this installation, quoted for the shell.

    It is the command's name where the user's shell finds this one by it, and otherwise its path,
    which is relative where it lies in the working directory.

    Args:
        name: `python`, or a script that is installed beside it.
    """
    own = Path(sys.executable).absolute().with_name(name)
    found = shutil.which(name, path=os.environ.get(USER_PATH_ENV))
    if not own.exists() or (found and Path(found).parent.samefile(own.parent)):
        return name
    here = Path.cwd()
    return shlex.quote(str(own.relative_to(here) if own.is_relative_to(here) else own))


def going_on(run_name: str) -> str:
    """Returns the line that says how the job of this process is gone on with: its own command.

    Args:
        run_name: the name of a run of the job, which begins with the job's own.
    """
    words = [re.sub(r"://[^/?#]*@", "://PASSWORD@", word) for word in sys.argv]
    given = any(word.replace("_", "-").startswith("--run-name") for word in words)
    name = [] if given else ["--run-name", run_name.partition("/")[0]]
    command = shlex.join([*words, *name])
    return f"the same command goes on from the last checkpoint: {typed_command('python')} {command}"
