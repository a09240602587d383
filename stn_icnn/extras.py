"""The extras of this distribution, and what is said where one of them is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

Extra = Literal["train", "export", "test"]
"""A name in `[project.optional-dependencies]` of `pyproject.toml`."""

OWN_PACKAGES: Final = frozenset({"jobs", "cluster", "sharding", "stn_icnn"})


def describe_missing(user: str, packages: str, extra: Extra) -> str:
    """Says what to install.

    Args:
        user: what needs the packages.
        packages: the packages that are missing.
        extra: the extra that brings them.
    """
    return f"{user} needs {packages}, not installed here: pip install 'stn-icnn[{extra}]'"


@contextmanager
def needing(extra: Extra, user: str) -> Iterator[None]:
    """Explains, where the block imports a package that is not installed, what to install.

    Args:
        extra: the extra that brings what the block imports.
        user: what the block does, for the message.

    Raises:
        ValueError: another distribution's package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OWN_PACKAGES:
            raise  # our own fault
        raise ValueError(describe_missing(user, error.name or str(error), extra)) from error
