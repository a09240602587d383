"""The command line: `python -m sharding LAYOUT|faces|verify|inspect ...`."""

import argparse
import os
import sys
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from operator import attrgetter
from typing import Any, Final

from sharding.layouts.folder import ORDERS
from sharding.layouts.raw import Layout
from sharding.layouts.splits import shares_of
from sharding.manifest import MANIFEST, Manifest
from sharding.packing.building import (
    MapTasks,
    WriteShard,
    build,
    counted_by_kind,
    shown_rejections,
)
from sharding.packing.plausibility import implausibilities
from sharding.packing.recipe import MAX_REJECTED, SHARD_SIZE, Recipe
from sharding.packing.writer import LAYOUTS, ShardRecord, ShardTask
from sharding.processes import map_in_processes
from sharding.storage.joined import JoinedLocation
from sharding.storage.location import open_location
from stn_icnn.label_set_file import given_labels
from stn_icnn.label_sets import LABEL_SETS, PAPER9
from stn_icnn.progress import progress
from stn_icnn.storage import ReadableLocation


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status: 1 if `verify` finds faults, 2 on an error."""
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args) or 0)
    except (ValueError, OSError, tarfile.TarError) as error:
        print(f"sharding {args.command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where this one stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    from sharding.procedural import raw_faces  # here, so that importing the package stays cheap

    parser = argparse.ArgumentParser(prog="python -m sharding", description=__doc__)
    commands = add_build_commands(parser)
    for command in commands.choices.values():
        command.set_defaults(run=_run_build)
        command.add_argument(
            "--workers",
            type=int,
            default=os.cpu_count() or 1,
            metavar="N",
            help="processes (default: one a core)",
        )
    command = commands.add_parser("faces", help="draw procedural faces in a raw layout")
    raw_faces.add_arguments(command)
    command.set_defaults(run=raw_faces.run)
    for name, run, what in (
        ("verify", _run_verify, "re-read every shard; exit 1 if any is faulty"),
        ("inspect", _run_inspect, "counts, class balance, sizes, a contact sheet"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("out", metavar="OUT", help="a folder or s3://bucket/prefix")
        command.set_defaults(run=run)
    command.add_argument(
        "--sheet",
        metavar="FILE",
        default="contact-sheet.png",
        help="where the contact sheet goes, a path or s3://bucket/key (default: %(default)s)",
    )
    return parser


def add_build_commands(parser: argparse.ArgumentParser) -> Any:
    """Adds a command for each layout to a parser and returns argparse's collection of them."""
    commands = parser.add_subparsers(dest="command", required=True)
    for name, layout in LAYOUTS.items():
        if name == layout.name:
            command = commands.add_parser(name, help=_HELP[name])
            _add_build_arguments(command, layout)
    return commands


_HELP: Final = {
    "celebamask": "shard CelebAMask-HQ as it ships",
    "helen": "shard HELEN as Smith et al. ship it",
    "helen-relabeled": "shard Relabeled HELEN as it ships",
    "lapa": "shard LaPa as it ships",
    "folder": "shard a folder of photographs and one of their label maps",
}

_PLACES: Final = {
    "source": ("RAW", "raw data set: folder or s3://bucket/prefix"),
    "images": ("DIR", "photographs NAME.jpg, .jpeg or .png: folder or s3://bucket/prefix"),
    "masks": ("DIR", "their label maps NAME.png, of ids or of the label set's colours"),
}
"""The placeholder and the help of each option that says where raw data lie."""


def _add_build_arguments(command: argparse.ArgumentParser, layout: Layout) -> None:
    add = command.add_argument
    for place in layout.places:
        metavar, what = _PLACES[place]
        add(f"--{place}", required=True, metavar=metavar, help=what)
    add("--out", required=True, metavar="OUT", help="shards: folder or s3://bucket/prefix")
    _add_labels(command, is_own=layout.classes is None)
    default, metavar = layout.split_rules[0], "|".join((*layout.split_rules, "FILE"))
    rule = "shares of train, val and test" if shares_of(default) else "a rule"
    file = 'JSON {"train": [KEY, ...], "val": ..., "test": ...}'
    what = f"{rule}, or {file} (default: %(default)s)"
    add("--split", default=default, metavar=metavar, help=what)
    add("--limit", type=int, metavar="N", help="take about N images, from every split its share")
    _add_number(command, "--shard-size", SHARD_SIZE, "images a shard")
    _add_number(command, "--seed", 0, "of the shuffle that makes splits where the data have none")
    if layout in (LAYOUTS["celebamask"], LAYOUTS["helen"]):
        add(
            "--known-defects",
            choices=("drop", "keep"),
            default="drop",
            help="CelebAMask-HQ's defective faces and the second of its duplicates are rejected, "
            "or kept, duplicates in one split (default: %(default)s)",
        )
    rejected = "fail when more than this share of the images is rejected"
    _add_number(command, "--max-rejected", MAX_REJECTED, rejected, "SHARE")


def _add_labels(command: argparse.ArgumentParser, *, is_own: bool) -> None:
    """Adds `--labels`, which must be given where masks may be of any label set."""
    what = f"classes of the label maps: {', '.join(LABEL_SETS)}, or a JSON file of one's own"
    if not is_own:
        what += " (default: %(default)s)"
    default = None if is_own else PAPER9.name
    add = command.add_argument
    add("--labels", default=default, required=is_own, metavar="SET|FILE", help=what)
    if is_own:
        add(
            "--order",
            choices=tuple(ORDERS),
            help="the masks are CelebAMask-HQ's, 512 px, with ids in its authors' order, in that "
            "of zllrunning and yakhyo, or in that of FaRL and SegFace",
        )


def _add_number(
    command: argparse.ArgumentParser, option: str, default: float, what: str, metavar: str = "N"
) -> None:
    """Adds an option that takes a number of its default's type."""
    text = f"{what} (default: %(default)s)"
    command.add_argument(option, type=type(default), default=default, metavar=metavar, help=text)


def run_build(args: argparse.Namespace, map_tasks: MapTasks) -> Manifest:
    """Shards a data set, showing progress and a summary.

    Args:
        args: the arguments that `add_build_commands` describes.
        map_tasks: runs the tasks.
    """

    def with_progress(write: WriteShard, tasks: Sequence[ShardTask]) -> Iterator[ShardRecord]:
        total = sum(len(task.items) for task in tasks)
        num_items, was_there = attrgetter("num_items"), attrgetter("was_there")
        return progress(map_tasks(write, tasks), total, "image", num_items, was_there)

    given = {f.name: getattr(args, f.name) for f in fields(Recipe) if hasattr(args, f.name)}
    order = getattr(args, "order", None)
    layout = f"{args.command}:{order}" if order else args.command
    recipe = Recipe(**given | {"layout": layout, "labels": given_labels(args.labels)})
    was_there = open_location(args.out).exists(MANIFEST)
    manifest = build(_source_of(args), args.out, recipe, with_progress)
    if was_there:
        print(f"{args.out} is already complete; remove it first to make it anew")
    _print_summary(manifest, args.out)
    return manifest


def place_options(args: argparse.Namespace) -> tuple[str, ...]:
    """Returns the names of the options that say where the raw data lie."""
    return LAYOUTS[args.command].places


def _source_of(args: argparse.Namespace) -> ReadableLocation:
    """Opens the raw data: one place, or several as the folders of one."""
    found = {place: open_location(getattr(args, place)) for place in place_options(args)}
    return found["source"] if "source" in found else JoinedLocation(tuple(found.items()))


def _run_build(args: argparse.Namespace) -> None:
    if args.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {args.workers}")
    run_build(args, partial(map_in_processes, num_workers=args.workers))


def _print_summary(manifest: Manifest, out: str) -> None:
    for line in shown_rejections(manifest.rejected, f"more: all are in {MANIFEST}"):
        print(line)
    counts = ", ".join(f"{count} {split}" for split, count in manifest.num_samples.items())
    kinds = counted_by_kind(manifest.rejected)
    print(f"{out}: {counts}; {len(manifest.rejected)} rejected" + (f": {kinds}" if kinds else ""))
    _print_warnings(implausibilities(manifest))
    print(f"fingerprint {manifest.fingerprint}")


def _run_verify(args: argparse.Namespace) -> int:
    from sharding.packing.verify import examine

    found = examine(args.out)
    for problem in found.problems:
        print(problem)
    _print_warnings(found.warnings)
    verdict = _counted(found.problems, "problem") or "sound"
    if found.warnings:
        verdict += f", but {_counted(found.warnings, 'warning')}"
    print(f"{args.out}: {verdict}")
    return 1 if found.problems else 0


def _counted(lines: Sequence[str], what: str) -> str:
    """Returns `3 problems`, or nothing where there are none."""
    return f"{len(lines)} {what}{'s' * (len(lines) > 1)}" if lines else ""


def _print_warnings(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)


def _run_inspect(args: argparse.Namespace) -> None:
    from sharding.packing.inspection import inspect_shards

    print(inspect_shards(args.out, args.sheet))
