"""Records: JSON files in storage that say what a run was started with and what it has done.

By its record the same command goes on where it stopped, and a command with other settings is
refused.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from stn_icnn.config_dict import differences, from_stored, to_dict
from stn_icnn.storage import StorageLocation


def write_record(storage: StorageLocation, file: str, content: Any) -> None:
    """Writes a record; it is of types that JSON holds."""
    storage.write(file, json.dumps(content, indent=1).encode())


def read_record(storage: StorageLocation, file: str) -> Any:
    """Reads a record."""
    return json.loads(storage.read(file))


def as_stored(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns values as a record gives them back: tuples as lists, keys as strings."""
    stored: dict[str, Any] = json.loads(json.dumps(values))
    return stored


def create_or_load(
    storage: StorageLocation,
    file: str,
    content: Mapping[str, Any],
    settings: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Writes the record of a run that is new; loads and compares that of a run that goes on.

    Args:
        storage: the run's own.
        file: name of the record in it.
        content: of a new record; of types that JSON holds. Its `config` is a `TrainConfig`, which
            an earlier version of this program may have written with fewer fields.
        settings: names of the entries that must be the same when the run goes on; None: all.

    Returns:
        What the record holds.

    Raises:
        ValueError: naming the settings in which the run was started otherwise.
    """
    if not storage.exists(file):
        write_record(storage, file, content)
        return as_stored(content)
    earlier: dict[str, Any] = read_record(storage, file)
    names = list(content) if settings is None else settings
    ours, theirs = _with_whole_config(content), _with_whole_config(earlier)
    require_same_settings(
        f"the run at {storage.url}",
        {name: ours[name] for name in names},
        {name: theirs.get(name) for name in names},
    )
    return earlier


def require_same_settings(
    started: str,
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    *,
    path: str = "",
    option: str = "--run-name",
) -> None:
    """Refuses to go on with what was started with other settings.

    Args:
        started: what it is, and where.
        ours: the settings that are given now, nested.
        theirs: the settings that it was started with.
        path: of the settings in the whole, with a dot at its end.
        option: with another value of which the new settings can be used.

    Raises:
        ValueError: naming each setting that differs with both values, and what to do.
    """
    if changed := differences(as_stored(ours), as_stored(theirs), path):
        raise ValueError(
            f"{started} was started with other settings ({'; '.join(changed)}): repeat them to go "
            f"on with it, or give another {option}"
        )


def _with_whole_config(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a record whose `config` has all fields, whichever version wrote it."""
    return {**content, "config": to_dict(from_stored(content["config"]))}
