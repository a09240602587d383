"""Records: JSON files in storage that say what a run was started with and what it has done.

By its record the same command goes on where it stopped, and a command with other settings is
refused.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from stn_icnn.config_dict import differences, from_stored
from stn_icnn.storage import StorageLocation


def write_record(storage: StorageLocation, file: str, content: Any) -> None:
    """Writes a record, whose content is of types that JSON holds."""
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
        storage: the location of the run.
        file: name of the record in it.
        content: content of a new record, of types that JSON holds. Its `config` is a `TrainConfig`,
            which an earlier version of this program may have written with fewer fields.
        settings: names of the entries that must be the same when the run goes on; None: all.

    Returns:
        The content of the record.

    Raises:
        ValueError: naming the settings in which the run was started otherwise.
    """
    if not storage.exists(file):
        write_record(storage, file, content)
        return as_stored(content)
    earlier: dict[str, Any] = read_record(storage, file)
    names = list(content) if settings is None else settings
    given, stored = _with_all_fields(content), _with_all_fields(earlier)
    require_same_settings(
        f"the run at {storage.url}",
        {name: given[name] for name in names},
        {name: stored.get(name) for name in names},
    )
    return earlier


def require_same_settings(
    started: str,
    given: Mapping[str, Any],
    stored: Mapping[str, Any],
    *,
    path: str = "",
    option: str = "--run-name",
) -> None:
    """Refuses to go on with a run, sweep or parsing that was started with other settings.

    Args:
        started: what was started, and where, as the message begins.
        given: the settings that are given now, nested.
        stored: the settings that it was started with.
        path: the dotted name of the group that the settings are in, with a dot at its end.
        option: the option that names what was started; with another value, a new one is started.

    Raises:
        ValueError: naming each setting that differs with both values, and what to do.
    """
    if changed := differences(as_stored(given), as_stored(stored), path):
        raise ValueError(
            f"{started} was started with other settings ({'; '.join(changed)}): repeat them to go "
            f"on with it, or give another {option}"
        )


def _with_all_fields(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a record whose `config` has all fields, whichever version wrote it."""
    return {**content, "config": asdict(from_stored(content["config"]))}
