"""The command line of the jobs: a preset, a config file, and a setting for every field."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import tyro

from cluster.config import JobConfig
from cluster.launch import PhaseFailedError
from sharding.storage import split_url
from stn_icnn.config import PRESETS, TrainConfig
from stn_icnn.config_dict import from_dict, to_dict

DEFAULT_PRESET = "demo"

Job = TypeVar("Job", bound=JobConfig)


def parse_job(
    description: str, argv: Sequence[str] | None = None, kind: type[Job] = JobConfig
) -> tuple[Job, str]:
    """Reads `[PRESET] [--config FILE] [--FIELD VALUE ...]`; a file goes over the preset's settings.

    Args:
        description: shown by `--help`.
        argv: the arguments; those of the process by default.
        kind: of job.

    Returns:
        The job's settings and the name of what they started from: a preset, or the file's.

    Raises:
        ValueError: for a preset, file or value that can't be used.
    """
    rest = list(sys.argv[1:] if argv is None else argv)
    preset = rest.pop(0) if rest and not rest[0].startswith("-") else None
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"no preset {preset!r}; there are {', '.join(PRESETS)}")
    before_tyro = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    before_tyro.add_argument("--config")
    try:
        given, rest = before_tyro.parse_known_args(rest)
    except argparse.ArgumentError as error:
        raise ValueError("--config needs a JSON file, as a run's artifacts hold one") from error
    if given.config is None:
        preset = preset or DEFAULT_PRESET
        default = _preset_job(preset, kind)
    else:
        default = _read_config(given.config, _preset_job(preset, kind) if preset else kind())
        preset = preset or PurePosixPath(given.config).stem
    prog = f"{Path(sys.argv[0]).name} [{'|'.join(PRESETS)}] [--config FILE]"
    job = tyro.cli(kind, prog=prog, description=description, default=default, args=rest)
    return job, preset


def _preset_job(preset: str, kind: type[Job]) -> Job:
    training = PRESETS[preset]()
    return kind(**{f.name: getattr(training, f.name) for f in fields(TrainConfig)})


def _read_config(url: str, base: Job) -> Job:
    """The settings of a file, also of a bucket's, over others."""
    try:
        place, name = split_url(url)
        values = json.loads(place.read(name))
    except (OSError, ValueError) as error:
        raise ValueError(f"--config must be a JSON file of settings, got {url}: {error}") from error
    return from_dict(type(base), _laid_over(to_dict(base), values))


def _laid_over(base: Any, values: Any) -> Any:
    """Nested settings with some of them replaced."""
    if not (isinstance(base, Mapping) and isinstance(values, Mapping)):
        return values
    changed = {name: _laid_over(base.get(name), value) for name, value in values.items()}
    return {**base, **changed}


def run_job(job: Callable[[], dict[str, Any]]) -> int:
    """Runs a job and prints its result as the last line.

    Returns:
        The exit status: 2 for what the user can mend in the command, 1 for a failed training.
    """
    try:
        result = job()
    except (ValueError, OSError) as error:  # of the places: bucket, folder, tracking server
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    except PhaseFailedError as error:
        print(f"failed: {error}", file=sys.stderr, flush=True)
        return 1
    print(json.dumps(result), flush=True)
    return 0
