"""The command line of the jobs: a preset, a config file, and a setting for every field."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import tyro

from cluster.config import JobConfig, LocationsConfig
from cluster.hybrid.config import HybridJobConfig, fine_tuning_settings
from cluster.hybrid.parent import Parent
from cluster.workers.launch import PhaseFailedError
from sharding.storage.location import split_url
from stn_icnn.config import PRESETS, TrainConfig, require
from stn_icnn.config_dict import from_dict, merge_settings, to_dict

DEFAULT_PRESET = "demo"

Job = TypeVar("Job", bound=JobConfig)


def parse_job(
    kind: type[Job], description: str | None, argv: Sequence[str] | None = None
) -> tuple[Job, str]:
    """Reads `[PRESET] [--config FILE] [--FIELD VALUE ...]`; a file goes over the preset's settings.

    Args:
        kind: of job.
        description: shown by `--help`.
        argv: the arguments; those of the process by default.

    Returns:
        The job's settings and the name of what they started from: a preset, or the file's.

    Raises:
        ValueError: for a preset, file or value that can't be used.
    """
    rest = list(sys.argv[1:] if argv is None else argv)
    preset = rest.pop(0) if rest and not rest[0].startswith("-") else None
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"no preset {preset!r}; there are {', '.join(PRESETS)}")
    given, rest = _taken(rest, "--config")
    config = given["--config"]
    if config is None:
        preset = preset or DEFAULT_PRESET
    default = kind(training=PRESETS[preset]() if preset else TrainConfig())
    if config is not None:
        default = _read_config(config, default)
    usage = f"[{'|'.join(PRESETS)}] [--config FILE]"
    name = preset or PurePosixPath(str(config)).stem
    return _options_over(default, usage, description, rest), name


def parse_fine_tuning(
    description: str | None, argv: Sequence[str] | None = None
) -> tuple[HybridJobConfig, Parent]:
    """Reads `--from MODEL [--config FILE] [--FIELD VALUE ...]`; a file goes over MODEL's settings.

    Args:
        description: shown by `--help`, with MODEL's settings where one is named.
        argv: the arguments; those of the process by default.

    Returns:
        The job's settings, and the model, which is fetched for its own.

    Raises:
        ValueError: for a model, file or value that can't be used.
        TrackingUnavailableError: where the model is in MLflow, which does not answer.
    """
    rest = list(sys.argv[1:] if argv is None else argv)
    if rest and not rest[0].startswith("-"):
        raise ValueError(f"there are no presets here, but the settings of --from; got {rest[0]!r}")
    given, rest = _taken(rest, "--from", "--config", "--tracking-uri")
    if given["--tracking-uri"] is not None:
        rest += ["--tracking-uri", given["--tracking-uri"]]
    parent, default = None, HybridJobConfig()
    if given["--from"] is not None:
        parent = Parent.open(given["--from"], given["--tracking-uri"])
        default = fine_tuning_settings(parent.checkpoint.config)
    elif not {"-h", "--help"} & set(rest):
        raise ValueError(f"--from needs {_VALUES['--from']}")
    if given["--config"] is not None:
        default = _read_config(given["--config"], default)
    settings = _options_over(default, "--from MODEL [--config FILE]", description, rest)
    assert parent is not None  # or else the help was shown
    return settings, parent


_VALUES = {
    "--config": "a JSON file, as a run's artifacts hold one",
    "--from": "a model: a checkpoint file or folder, runs:/RUN_ID/PATH or models:/NAME@ALIAS",
    "--tracking-uri": "an address",
}
"""Of the options on which the others' defaults depend."""


def _taken(arguments: Sequence[str], *names: str) -> tuple[dict[str, str | None], list[str]]:
    """Takes some options' values out of a command line; None for those that are not there."""
    before_tyro = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in names:
        as_tyro_has_it_too = "--" + name[2:].replace("-", "_")
        before_tyro.add_argument(*dict.fromkeys((name, as_tyro_has_it_too)), dest=name)
    try:
        given, rest = before_tyro.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        name = str(error.argument_name).partition("/")[0]
        raise ValueError(f"{name} needs {_VALUES[name]}") from error
    return vars(given), rest


def _options_over(
    default: Job, usage: str, description: str | None, arguments: Sequence[str]
) -> Job:
    """Settings with those of a command line over them."""
    prog = f"{Path(sys.argv[0]).name} {usage}"
    return tyro.cli(
        type(default), prog=prog, description=description, default=default, args=arguments
    )


def _read_config(url: str, base: Job) -> Job:
    """The settings of a file, also of a bucket's, over others."""
    try:
        place, name = split_url(url)
        values = json.loads(place.read(name))
    except (OSError, ValueError) as error:
        raise ValueError(f"--config must be a JSON file of settings, got {url}: {error}") from error
    return _replaced(base, values)


def _replaced(job: Job, values: Any) -> Job:
    """A job with other values of some settings, nested as the names of their options are."""
    require(isinstance(values, Mapping), "settings", "names with values", values)
    own = to_dict(job)
    training, locations = own.pop("training"), own.pop("locations")
    known = {**training, **locations, **own}
    if unknown := sorted(values.keys() - known.keys()):
        raise ValueError(f"no such setting: {unknown[0]}; there are {', '.join(sorted(known))}")
    merged = merge_settings(known, values)
    parts = {
        "training": from_dict(TrainConfig, {name: merged[name] for name in training}),
        "locations": from_dict(LocationsConfig, {name: merged[name] for name in locations}),
    }
    return from_dict(type(job), {**{name: merged[name] for name in own}, **parts})


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
