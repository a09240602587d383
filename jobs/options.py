"""The jobs' command line: a preset or model, a config file, an option for every setting."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import tyro

from cluster.config import LocationsConfig, TrainingJobConfig
from cluster.hybrid.config import HybridJobConfig, fine_tuning_settings
from cluster.hybrid.parent import Parent
from cluster.workers.errors import PhaseFailedError
from sharding.storage.location import split_url
from stn_icnn.config import PRESETS, TrainConfig, require
from stn_icnn.config_dict import from_dict, merge_settings

DEFAULT_PRESET = "demo"

Job = TypeVar("Job", bound=TrainingJobConfig)


def parse_job(
    kind: type[Job], description: str | None, argv: Sequence[str] | None = None
) -> tuple[Job, str]:
    """Parses `[PRESET] [--config FILE] [--SETTING VALUE ...]`, each over what comes before it.

    Args:
        kind: the class of the job's settings.
        description: what `--help` shows first.
        argv: the arguments; by default those of the process.

    Returns:
        The job's settings, and the name of the preset, or else of the file, that they start from.

    Raises:
        ValueError: for a preset, file or value that can't be used.
    """
    rest = list(sys.argv[1:] if argv is None else argv)
    preset = rest.pop(0) if rest and not rest[0].startswith("-") else None
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"no preset {preset!r}; there are {', '.join(PRESETS)}")
    given, rest = _take_options(rest, "--config")
    file = given["--config"]
    if file is None:
        preset = preset or DEFAULT_PRESET
    default = kind(training=PRESETS[preset]() if preset else TrainConfig())
    usage = f"[{'|'.join(PRESETS)}] [--config FILE]"
    name = preset or PurePosixPath(str(file)).stem
    return _parse_settings(default, file, usage, description, rest), name


def parse_fine_tuning(
    description: str | None, argv: Sequence[str] | None = None
) -> tuple[HybridJobConfig, Parent]:
    """Parses `--from MODEL [--config FILE] [--SETTING VALUE ...]`, each over what comes before it.

    Args:
        description: what `--help` shows first.
        argv: the arguments; by default those of the process.

    Returns:
        The job's settings, and the model, which is fetched since they start from its own.

    Raises:
        ValueError: for a model, file or value that can't be used.
        TrackingUnavailableError: where the model is in MLflow, which does not answer.
    """
    rest = list(sys.argv[1:] if argv is None else argv)
    if rest and not rest[0].startswith("-"):
        raise ValueError(f"there are no presets here, but the settings of --from; got {rest[0]!r}")
    given, rest = _take_options(rest, "--from", "--config", "--tracking-uri")
    if given["--tracking-uri"] is not None:
        rest += ["--tracking-uri", given["--tracking-uri"]]
    parent, default = None, HybridJobConfig()
    if given["--from"] is not None:
        parent = Parent.open(given["--from"], given["--tracking-uri"])
        default = fine_tuning_settings(parent.checkpoint.config)
    elif not {"-h", "--help"} & set(rest):
        raise ValueError(f"--from needs {_VALUES['--from']}")
    usage = "--from MODEL [--config FILE]"
    settings = _parse_settings(default, given["--config"], usage, description, rest)
    assert parent is not None  # or else the help was shown
    return settings, parent


_VALUES = {
    "--config": "a JSON file, as a run's artifacts hold one",
    "--from": "a model: a checkpoint file or folder, runs:/RUN_ID/PATH or models:/NAME@ALIAS",
    "--tracking-uri": "an address",
}
"""The values of the options that are read before the others, whose defaults depend on them."""


def _take_options(arguments: Sequence[str], *names: str) -> tuple[dict[str, str | None], list[str]]:
    """Takes some options out of a command line.

    Returns:
        Their values by name, None for those that are not there; and the other arguments.

    Raises:
        ValueError: for an option without a value.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in names:
        underscored = "--" + name[2:].replace("-", "_")  # which tyro takes as well
        parser.add_argument(name, underscored, dest=name, nargs="?", const="")
    given, rest = parser.parse_known_args(arguments)
    for name, value in vars(given).items():
        if value == "":
            raise ValueError(f"{name} needs {_VALUES[name]}")
    return vars(given), rest


def _parse_settings(
    default: Job, file: str | None, usage: str, description: str | None, arguments: Sequence[str]
) -> Job:
    """Replaces settings by those of a config file, and these by those of a command line."""
    if file is not None:
        default = _replace_settings(default, _read_config_file(file))
    prog = f"{Path(sys.argv[0]).name} {usage}"
    return tyro.cli(
        type(default), prog=prog, description=description, default=default, args=arguments
    )


def _read_config_file(url: str) -> Any:
    """Reads a JSON file of a folder or bucket."""
    try:
        location, name = split_url(url)
        return json.loads(location.read(name))
    except (OSError, ValueError) as error:
        raise ValueError(f"--config must be a JSON file of settings, got {url}: {error}") from error


def _replace_settings(job: Job, values: Any) -> Job:
    """Replaces some of a job's settings by others that are nested as their options are named."""
    require(isinstance(values, Mapping), "settings", "names with values", values)
    own = asdict(job)
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
        The exit status: 2 for what the user can mend in the command, 1 for work that failed.
    """
    try:
        result = job()
    except (ValueError, OSError) as error:  # of the bucket, folder or tracking server
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    except PhaseFailedError as error:
        print(f"failed: {error}", file=sys.stderr, flush=True)
        return 1
    print(json.dumps(result), flush=True)
    return 0
