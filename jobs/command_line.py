"""The command line of a job, which tyro makes of its settings, and its help.

`--help` shows the options that the settings list as `COMMON_OPTIONS`, on about one screen, and
`--help-all` shows all. The job's own come before those that it shares with others. Imports no
torch, Ray or MLflow, so that help comes at once.
"""

import os
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import is_dataclass, replace
from typing import Annotated, Any, ClassVar, Final, TypeVar, get_args, get_origin, get_type_hints

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, Suppress, arg
from tyro.constructors import (
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from cluster.config import UNPREFIXED, VERBOSE_ENV

Settings = TypeVar("Settings")

METAVARS: Final = {"storage": "URI", "experiment": "NAME"}
"""What the values of some settings are called; those of others, like the last word of the name."""

HELP: Final = frozenset({"-h", "--help"})
HELP_ALL: Final = "--help-all"
VERBOSE: Final = "--verbose"


def described_option(name: str, text: str, metavar: str, hint: str = "") -> StructFieldSpec:
    """Describes an option that is read before the settings are, for help and error messages.

    Args:
        name: its name, underscored.
        text: what it does.
        metavar: what its value is called.
        hint: what stands after the text, in the place of a default.
    """
    kind = _marked(str | None, arg(metavar=metavar, help_behavior_hint=hint))
    return StructFieldSpec(name, kind, None, text)


def described_word(name: str, text: str) -> StructFieldSpec:
    """Describes the word that may come first, as `described_option` does an option."""
    named = arg(metavar=f"[{name.upper()}]", help_behavior_hint="")
    return StructFieldSpec(name, _marked(str | None, Positional, named), None, text)


def _described_flag(name: str, text: str) -> StructFieldSpec:
    kind = _marked(bool, FlagCreatePairsOff, arg(help_behavior_hint=""))
    return StructFieldSpec(name, kind, False, text)


def _marked(kind: Any, *marks: Any) -> Any:
    """Returns a type with marks for tyro."""
    return Annotated[(kind, *marks)]


SHARED: Final = (
    _described_flag("help_all", "Shows all options."),
    _described_flag("verbose", "Shows what Ray says, too."),
)
"""The options of every job that are no settings."""


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Tells whether a command line asks for help, so that nothing is to be run."""
    return not {*HELP, HELP_ALL}.isdisjoint(arguments)


def take_verbose(arguments: Sequence[str]) -> list[str]:
    """Takes `--verbose` out of a command line; it holds for all processes of the job."""
    if VERBOSE in arguments:
        os.environ[VERBOSE_ENV] = "1"
    return [argument for argument in arguments if argument != VERBOSE]


def parse_settings(
    kind: type[Settings],
    description: str | None,
    arguments: Sequence[str],
    *,
    default: Settings | None = None,
    described: Sequence[StructFieldSpec] = (),
    rare: Sequence[StructFieldSpec] = (),
    program: str | None = None,
) -> Settings:
    """Parses a job's settings; prints help, or what is wrong with an option, and exits.

    Args:
        kind: the class of the settings. `--help` shows its `COMMON_OPTIONS`; all, where it names
            none.
        description: what help begins with.
        arguments: the command line.
        default: the settings that options go over; None: those of the class.
        described: options of the job that were read, and taken out of `arguments`, before.
        rare: more of them, which help shows with all options alone.
        program: what help calls the job's script; None: as it was started.
    """
    rest = take_verbose(arguments)
    common = None
    if not asks_for_help(rest):  # a stray word must not be taken for the first one
        described = [one for one in described if Positional not in get_args(one.type)]
    elif HELP_ALL not in rest:
        common = getattr(kind, "COMMON_OPTIONS", None)
    described = described if common else (*described, *rare)
    settings: Settings = tyro.cli(
        kind,
        prog=f"python {program or sys.argv[0]}",
        description=description,
        args=["--help"] if asks_for_help(rest) else rest,
        default=tyro.MISSING_NONPROP if default is None else default,
        registry=_layout(kind, (*described, *SHARED), common),
    )
    return settings


def _layout(
    kind: type[Any], described: Sequence[StructFieldSpec], common: Collection[str] | None
) -> ConstructorRegistry:
    """Returns the rule by which tyro lays out a job's options.

    Args:
        kind: the class of its settings.
        described: options that come before them.
        common: the dotted names of the settings that are shown, each in a sentence; None: all are,
            with all that there is to say.
    """
    registry = ConstructorRegistry()
    paths = dict(_paths(kind))
    kept = None if common is None else {step for name in common for step in paths[name]}
    asking = False

    @registry.struct_rule
    def lay_out(info: StructTypeInfo) -> StructConstructorSpec | None:
        nonlocal asking
        if asking or not is_dataclass(info.type):
            return None
        asking = True  # tyro for its own rule
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            asking = False
        assert isinstance(spec, StructConstructorSpec)  # of a dataclass
        shown = [
            _described(field, shortened=kept is not None)
            if kept is None or (info.type, field.name) in kept
            else replace(field, type=_marked(field.type, Suppress))
            for field in spec.fields
        ]
        if info.type is not kind:
            return replace(spec, fields=tuple(shown))
        shown.sort(key=lambda field: field.name not in kind.__annotations__)  # its own first
        names = [field.name for field in shown]
        return StructConstructorSpec(
            lambda **values: spec.instantiate(**{name: values[name] for name in names}),
            (*described, *shown),
        )

    return registry


def _paths(kind: Any, prefix: str = "") -> Iterator[tuple[str, tuple[tuple[type[Any], str], ...]]]:
    """Yields the settings' dotted names, each with the classes and fields that lead to it."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        marks = getattr(hint, "__metadata__", ())
        inner = hint.__origin__ if marks else hint
        if get_origin(hint) is ClassVar:
            continue
        if not is_dataclass(inner):
            yield f"{prefix}{name}", ((kind, name),)
            continue
        for nested, steps in _paths(inner, prefix if UNPREFIXED in marks else f"{prefix}{name}."):
            yield nested, ((kind, name), *steps)


def _described(field: StructFieldSpec, shortened: bool) -> StructFieldSpec:
    """Describes a setting without the line breaks of the code, and without `None`.

    Args:
        field: the setting, or group of settings, as tyro describes it.
        shortened: whether a setting's first sentence is enough, and a group is only named.
    """
    marks = getattr(field.type, "__metadata__", ())
    given = next((mark.help for mark in marks if getattr(mark, "help", None)), field.helptext)

    def helptext() -> str | None:
        text = given() if callable(given) else given
        if shortened and is_dataclass(field.type):
            return ""
        if text is None:
            return None
        text = " ".join(text.split())
        return re.split(r"(?<=\.) ", text)[0] if shortened else text

    described = replace(field, helptext=helptext)
    if given is not field.helptext:
        return replace(described, type=_marked(field.type, arg(help=helptext())))
    if field.type not in (str, str | None, int | None):
        return described
    named = arg(
        metavar=METAVARS.get(field.name) or field.name.rpartition("_")[2].upper(),
        help_behavior_hint="" if field.default is None else None,
    )
    return replace(described, type=_marked(field.type, named))
