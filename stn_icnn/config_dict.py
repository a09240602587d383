"""Settings as nested dicts of plain types: written, read back with checks, compared."""

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, Final, Literal, TypeVar, get_args, get_origin, get_type_hints

from stn_icnn.checks import require
from stn_icnn.config import TrainConfig

Config = TypeVar("Config")

LEGACY_VALUES: Final[Mapping[str, Mapping[str, Any]]] = {
    "optim": {"freeze_pretrained_stats": False}
}
"""Settings that a training had before they could be set, where that is not their default."""

LATER_SETTINGS: Final = (("model", "labels"),)
"""Group and name of settings that there were not from the beginning."""


def from_dict(kind: type[Config], values: Mapping[str, Any], path: str = "") -> Config:
    """Builds a config dataclass from what `asdict` returned; missing fields keep their defaults.

    Args:
        kind: the class of the config.
        values: the settings by field; nested ones may be a dataclass already.
        path: the dotted name of the group that they are in, for errors; it ends with a dot.

    Raises:
        ValueError: for a field that does not exist, naming it and the ones that do, and for a value
            that is of another type or that the config refuses.
    """
    require(isinstance(values, Mapping), path[:-1] or "settings", "names with values", values)
    hints = get_type_hints(kind)
    arguments = {}
    for name, value in values.items():
        if name not in hints:
            raise ValueError(f"no such setting: {path}{name}; there are {', '.join(sorted(hints))}")
        arguments[name] = _checked(value, hints[name], f"{path}{name}")
    return kind(**arguments)


def from_stored(values: Mapping[str, Any]) -> TrainConfig:
    """Builds the settings of a training from what any version of this program has stored.

    Raises:
        ValueError: as `from_dict` does.
    """
    return from_dict(TrainConfig, merge_settings(LEGACY_VALUES, values))


def to_stored(config: TrainConfig) -> dict[str, Any]:
    """Returns the settings of a training as files store them.

    A setting of `LATER_SETTINGS` at its default is left out: files that use nothing new are as they
    were before there was the setting.
    """
    stored = asdict(config)
    for group, name in LATER_SETTINGS:
        if stored[group][name] == getattr(getattr(TrainConfig(), group), name):
            del stored[group][name]
    return stored


def merge_settings(base: Any, values: Any) -> Any:
    """Returns nested settings with some of them replaced."""
    if not (isinstance(base, Mapping) and isinstance(values, Mapping)):
        return values
    changed = {name: merge_settings(base.get(name), value) for name, value in values.items()}
    return {**base, **changed}


def _checked(value: Any, hint: Any, name: str) -> Any:
    """Returns a setting as its field holds it; refuses one that is not of the field's type."""
    if is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else from_dict(hint, value, f"{name}.")
    if get_origin(hint) is Mapping:
        require(isinstance(value, Mapping), name, "names with values", value)
        of_key = get_args(hint)[1]
        return {key: _checked(one, of_key, f"{name}.{key}") for key, one in value.items()}
    if get_origin(hint) is tuple and isinstance(value, list):  # as JSON has it
        value = tuple(value)
    require(_fits(value, hint), name, _described(hint), value)
    return value


def _fits(value: object, hint: Any) -> bool:
    """Tells whether a plain value is of a field's type; a whole number may stand for a float."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(one, get_args(hint)[0]) for one in value)
    if get_args(hint):  # a union
        return any(_fits(value, one) for one in get_args(hint))
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def _described(hint: Any) -> str:
    """Names a field's type in words."""
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"a list, each {_described(get_args(hint)[0])}"
    if get_args(hint):
        return " or ".join(_described(one) for one in get_args(hint))
    return "None" if hint is type(None) else str(hint.__name__)


def flatten_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested settings by dotted name, each name after the prefix."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten_settings(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def differing_settings(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], path: str = ""
) -> dict[str, tuple[Any, Any]]:
    """Returns the settings that differ between two configs as dicts, by name: ours and theirs."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in sorted({*ours, *theirs}):
        a, b = ours.get(name), theirs.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found |= differing_settings(a, b, f"{path}{name}.")
        elif a != b:
            found[f"{path}{name}"] = (a, b)
    return found


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: str = "") -> list[str]:
    """Lists the settings that differ between two configs as dicts, as `name: ours, was theirs`."""
    differing = differing_settings(ours, theirs, path)
    return [f"{name}: {a}, was {b}" for name, (a, b) in differing.items()]
