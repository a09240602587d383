"""Searches settings by trials, reports on them, and keeps the best as a file.

    python jobs/tune.py celebamask-tuned --data SHARDS --num-trials 24 \\
        --space 'optim.lr_fine=log 1e-4 1e-1' --space 'model.patch_px.eye=49 73'
    ray job submit --working-dir . -- python jobs/tune.py …  # on a cluster

The same command goes on where it was stopped.
"""

import re
import shlex
import sys
from collections.abc import Sequence

from jobs.running import run_job


def job() -> dict[str, object]:
    """Runs the sweep that the command line describes."""
    from cluster.sweep.config import SweepJobConfig
    from jobs.options import parse_job

    require_no_old_spaces(sys.argv[1:])
    settings, preset = parse_job(SweepJobConfig, __doc__)
    from cluster.sweep.job import run_sweep  # after help, which needs no Ray

    return run_sweep(settings, preset)


def require_no_old_spaces(arguments: Sequence[str]) -> None:
    """Refuses the options `--space.NAME SPACE` that came before `--space NAME=SPACE`.

    Raises:
        ValueError: with the new form of all that are given.
    """
    old: list[str] = []
    new: list[str] = []
    for option, words in _split_options(arguments):
        if option.startswith("--space."):
            old.append(option)
            name = option.removeprefix("--space.").replace("-", "_")
            texts = words if name in ("other", "default") else [f"{name}={' '.join(words)}"]
            new += [f"--space {shlex.quote(text)}" for text in texts]
    if old:
        raise ValueError(
            f"{', '.join(old)}: a space is given as --space NAME=SPACE now: {' '.join(new)}"
        )


def _split_options(arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Splits a command line into options, each with the words that follow it."""
    options: list[tuple[str, list[str]]] = [("", [])]
    for argument in arguments:
        if re.match(r"--?[A-Za-z]", argument):
            option, _, word = argument.partition("=")
            options.append((option, [word] if word else []))
        else:
            options[-1][1].append(argument)
    return options


if __name__ == "__main__":
    sys.exit(run_job(job))
