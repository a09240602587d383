"""The settings that a sweep searches: read, replaced and checked by their dotted names."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cluster.sweep.spaces import (
    Distribution,
    SearchSpace,
    Value,
    Values,
    all_values,
    end_values,
    is_range,
    parse_space,
    split_spaces,
)
from stn_icnn.checks import require
from stn_icnn.config import TrainConfig
from stn_icnn.config_dict import from_dict
from stn_icnn.labels import LabelSet
from stn_icnn.training.phases import PHASES, PhaseName

MAX_CHECKED = 1024
"""How many values of a space, and how many combinations of ends, are checked."""

PAPERS_OPERATIONS = tuple(
    f"augment.{name}" for name in ("rotation_deg", "shift", "scale_min", "scale_max", "noise_std")
)

NOT_SEARCHED: Mapping[str, str] = {
    "seed": "--seeds repeats each setting",
    "fine": "it says what is scored, so that trials would not compare",
    "optim.epochs": "it is what a trial costs, so that trials would not compare",
    "validate_every_epochs": "a trial is validated after every epoch",
}


def replace_settings(config: TrainConfig, values: Mapping[str, Value]) -> TrainConfig:
    """Returns the settings with some of them replaced.

    Args:
        config: all settings.
        values: the new ones, by dotted name; a name that stands for four sizes replaces them all.

    Raises:
        ValueError: where the config refuses a value, in its words.
    """
    changed = asdict(config)
    for name, value in values.items():
        *path, last = name.split(".")
        group = changed
        for step in path:
            group = group[step]
        sizes = group[last]
        group[last] = dict.fromkeys(sizes, value) if isinstance(sizes, dict) else value
    return from_dict(TrainConfig, changed)


def find_setting(config: TrainConfig, name: str) -> Any:
    """Returns the value of a setting, or a mapping of those of a group, by dotted name.

    Raises:
        ValueError: where there is no such setting.
    """
    value: Any = asdict(config)
    for step in name.split("."):
        require(isinstance(value, Mapping) and step in value, "space", "of a setting", name)
        value = value[step]
    return value


def current_value(config: TrainConfig, name: str) -> Any:
    """Returns a searched setting's value in a config; of four sizes the one they share, or None."""
    value = find_setting(config, name)
    if isinstance(value, Mapping):
        return next(iter(value.values())) if len(set(value.values())) == 1 else None
    return value


def read_search_space(
    texts: Sequence[str],
    defaults: Sequence[str],
    config: TrainConfig,
    phases: Sequence[PhaseName],
) -> SearchSpace:
    """Reads what is searched, and checks each value and combination that can be listed.

    Args:
        texts: spaces as `NAME=SPACE`.
        defaults: spaces that are searched where `texts` is empty: those of them that have an
            effect. A rate of 0, which freezes a network, is left as it is.
        config: the settings that trials start from.
        phases: the phases that trials train.

    Raises:
        ValueError: naming the setting, and where nothing is searched.
    """
    given = split_spaces(texts) or {
        name: words
        for name, words in split_spaces(defaults).items()
        if find_setting(config, name) and not why_unused(name, config, phases)
    }
    require(len(given) > 0, "space", "given for one setting or more", "none")
    spaces: dict[str, Distribution] = {}
    for name, words in given.items():
        current = find_setting(config, name)
        _require_searchable(name, current, config.model.label_set)
        reason = why_unused(name, config, phases)
        if reason:
            raise ValueError(f"space.{name} has no effect: {reason}")
        spaces[name] = parse_space(name, words, current)
    for one, other in itertools.permutations(spaces, 2):
        require(not other.startswith(f"{one}."), f"space.{one}", f"given without {other}", "both")
    for name, space in spaces.items():
        for value in itertools.islice(all_values(space) or end_values(space), MAX_CHECKED):
            _require_valid(config, {name: value}, space)
    corners = itertools.product(*map(end_values, spaces.values()))
    for corner in itertools.islice(corners, MAX_CHECKED):
        _require_valid(config, dict(zip(spaces, corner, strict=True)))
    return spaces


def _require_searchable(name: str, current: object, label_set: LabelSet) -> None:
    for other, reason in NOT_SEARCHED.items():
        if name.startswith(other):
            raise ValueError(f"space.{name} can't be searched: {reason}")
    sizes = isinstance(current, Mapping) and set(current) == set(label_set.fine_networks)
    require(
        sizes or isinstance(current, int | float | str),
        f"space.{name}",
        "of one setting",
        f"a group: {', '.join(current) if isinstance(current, Mapping) else current}",
    )


def why_unused(name: str, config: TrainConfig, phases: Sequence[PhaseName]) -> str:
    """Says why a search of a setting would change nothing; empty where it changes something."""
    if not any(PHASES[phase].uses(name) for phase in phases):
        used_by = [row.name for row in PHASES.values() if row.in_sweeps and row.uses(name)]
        if not used_by:
            return "no phase of a sweep uses it"
        return f"sweep.phases is {' '.join(phases)}, and it has one in {', '.join(used_by)}"
    if name in PAPERS_OPERATIONS and not config.augment.operations:
        return "augment.operations is off"
    part = name.rpartition(".")[2]
    others = set(config.model.label_set.fine_networks) - set(config.fine.networks)
    if all(PHASES[phase].only_chosen_fine for phase in phases) and part in others:
        return f"fine.networks is {' '.join(config.fine.networks)}"
    return ""


def _require_valid(config: TrainConfig, values: Values, space: Distribution | None = None) -> None:
    try:
        replace_settings(config, values)
    except ValueError as error:
        given = ", ".join(f"{name} = {value}" for name, value in values.items())
        instead = "; give the values, or steps LOW HIGH STEP" if space and is_range(space) else ""
        raise ValueError(f"space: {given} can't be tried: {error}{instead}") from error
