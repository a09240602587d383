"""The jobs' command line: a preset or model, a config file, an option for every setting."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cluster.config import LocationsConfig, TrainingJobConfig
from cluster.finder.config import FinderJobConfig, finder_settings
from cluster.hybrid.config import HybridJobConfig, fine_tuning_settings
from jobs.command_line import asks_for_help, described_option, described_word, parse_settings
from sharding.storage.location import split_url
from stn_icnn.checks import require
from stn_icnn.config import TrainConfig, with_labels
from stn_icnn.config_dict import from_dict, merge_settings
from stn_icnn.label_set_file import given_labels
from stn_icnn.label_sets import LABEL_SETS
from stn_icnn.presets import PRESETS

if TYPE_CHECKING:
    from cluster.training.parent import Parent

DEFAULT_PRESET = "demo"

_VALUES = {
    "--config": "a JSON file, as a run's artifacts hold one",
    "--from": "a model: a checkpoint file or folder, runs:/RUN_ID/PATH or models:/NAME@ALIAS",
    "--labels": f"{', '.join(LABEL_SETS)}, or a JSON file that describes one's own",
    "--tracking-uri": "an address",
}
"""The values of the options that are read before the others, whose defaults depend on them."""

PRESET: Final = described_word(
    "preset", ", ".join(PRESETS).replace(DEFAULT_PRESET, f"{DEFAULT_PRESET} (by default)", 1) + "."
)
CONFIG: Final = described_option("config", "A JSON file of settings that go over those.", "FILE")
LABELS: Final = described_option(
    "labels",
    f"The label set: {', '.join(LABEL_SETS)}, or a JSON file that describes one's own.",
    "SET|FILE",
)
_MODEL_FORMS: Final = _VALUES["--from"].partition(": ")[2]

Job = TypeVar("Job", bound=TrainingJobConfig)


def parse_job(
    kind: type[Job],
    description: str | None,
    argv: Sequence[str] | None = None,
    program: str | None = None,
) -> tuple[Job, str]:
    """Parses `[PRESET] [--config FILE] [--SETTING VALUE ...]`, each over what comes before it.

    Args:
        kind: the class of the job's settings.
        description: what `--help` shows first.
        argv: the arguments; by default those of the process.
        program: what `--help` calls the job's script; None: as it was started.

    Returns:
        The job's settings, and the name of the preset that they start from, or else `settings of
        FILE`.

    Raises:
        ValueError: for a preset, file or value that can't be used.
    """
    rest = list(sys.argv[1:] if argv is None else argv)
    preset = rest.pop(0) if rest and not rest[0].startswith("-") else None
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"no preset {preset!r}; there are {', '.join(PRESETS)}")
    given, rest = _take_options(rest, "--config", "--labels")
    file, labels = given["--config"], given["--labels"]
    if file is None:
        preset = preset or DEFAULT_PRESET
    default = kind(training=PRESETS[preset]() if preset else TrainConfig())
    default = _with_file_and_labels(default, file, labels)
    described = (PRESET, CONFIG)
    job = parse_settings(
        kind,
        description,
        rest,
        default=default,
        described=described,
        rare=[LABELS],
        program=program,
    )
    return job, preset or f"settings of {PurePosixPath(str(file)).name}"


def parse_fine_tuning(
    description: str | None, argv: Sequence[str] | None = None
) -> tuple[HybridJobConfig, "Parent"]:
    """Parses the command line of a fine-tuning, as `_parse_from_model` does."""
    text = f"The model to fine-tune: {_MODEL_FORMS}."
    return _parse_from_model(HybridJobConfig, fine_tuning_settings, text, description, argv)


def parse_finder_training(
    description: str | None, argv: Sequence[str] | None = None
) -> tuple[FinderJobConfig, "Parent"]:
    """Parses the command line of a finder's training, as `_parse_from_model` does."""
    text = f"The model to give a finder: {_MODEL_FORMS}."
    return _parse_from_model(FinderJobConfig, finder_settings, text, description, argv)


def _parse_from_model(
    kind: type[Job],
    settings_of: Callable[[TrainConfig], Job],
    model_help: str,
    description: str | None,
    argv: Sequence[str] | None,
) -> tuple[Job, "Parent"]:
    """Parses `--from MODEL [--config FILE] [--SETTING VALUE ...]`, each over what comes before it.

    Args:
        kind: the class of the job's settings.
        settings_of: derives them from those that the model was trained with.
        model_help: what help says of `--from`.
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
    given, rest = _take_options(rest, "--from", "--config", "--labels", "--tracking-uri")
    if given["--tracking-uri"] is not None:
        rest += ["--tracking-uri", given["--tracking-uri"]]
    described = (described_option("from", model_help, "MODEL", "(required)"), CONFIG)
    if given["--from"] is None:
        if asks_for_help(rest):
            parse_settings(kind, description, rest, described=described, rare=[LABELS])
        raise ValueError(f"--from needs {_VALUES['--from']}")
    from cluster.training.parent import Parent  # which brings PyTorch and MLflow along

    parent = Parent.open(given["--from"], given["--tracking-uri"])
    default = settings_of(parent.checkpoint.config)
    default = _with_file_and_labels(default, given["--config"], given["--labels"])
    settings = parse_settings(
        kind, description, rest, default=default, described=described, rare=[LABELS]
    )
    return settings, parent


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


def _with_file_and_labels(settings: Job, file: str | None, given: str | None) -> Job:
    """Replaces settings by those of a config file, and the label set by one that is given."""
    labels = None if given is None else given_labels(given)
    settings = _with_labels(settings, labels)
    if file is None:
        return settings
    values = _read_config_file(file)
    model = values.get("model") if isinstance(values, Mapping) else None
    stored = model.get("labels") if isinstance(model, Mapping) else None
    if isinstance(stored, str):  # whose networks have sizes of their own, beside no others
        settings = _with_labels(settings, stored)
    return _with_labels(_replace_settings(settings, values), labels)


def _with_labels(settings: Job, labels: str | None) -> Job:
    """Replaces the label set by one that settings hold as a text; None: it stays."""
    if labels is None:
        return settings
    return replace(settings, training=with_labels(settings.training, labels))


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
