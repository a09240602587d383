"""The command line: `python -m sharding celebamask|helen|faces|verify|inspect ...`."""

import argparse
import os
import sys
import tarfile
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from sharding.manifest import MANIFEST, Manifest
from sharding.packing.building import (
    MAX_REJECTED,
    SHARD_SIZE,
    MapTasks,
    Recipe,
    WriteShard,
    build,
    counted_by_kind,
    shown_rejections,
)
from sharding.packing.writer import LAYOUTS, ShardRecord, ShardTask
from sharding.processes import map_in_processes
from sharding.storage.location import open_location
from stn_icnn.progress import progress


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 1 if `verify` finds faults, 2 on an error."""
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
    for layout in LAYOUTS:
        commands.choices[layout].set_defaults(run=_run_build)
        commands.choices[layout].add_argument(
            "--workers",
            type=int,
            default=os.cpu_count() or 1,
            metavar="N",
            help="processes (default: one a core)",
        )
    command = commands.add_parser("faces", help="draw procedural faces in a raw layout")
    raw_faces.add_arguments(command)
    command.set_defaults(run=raw_faces.run)
    command = commands.add_parser("verify", help="re-read every shard; exit 1 if any is faulty")
    command.add_argument("out", metavar="OUT", help="a folder or s3://bucket/prefix")
    command.set_defaults(run=_run_verify)
    command = commands.add_parser("inspect", help="counts, class balance, sizes, a contact sheet")
    command.add_argument("out", metavar="OUT", help="a folder or s3://bucket/prefix")
    command.add_argument(
        "--sheet",
        metavar="FILE",
        default="contact-sheet.png",
        help="where the contact sheet goes, a path or s3://bucket/key (default: %(default)s)",
    )
    command.set_defaults(run=_run_inspect)
    return parser


def add_build_commands(parser: argparse.ArgumentParser) -> Any:
    """Gives a parser a command a layout; returns argparse's collection of them."""
    commands = parser.add_subparsers(dest="command", required=True)
    for layout in LAYOUTS:
        command = commands.add_parser(layout, help=f"shard the raw {layout} data set")
        _add_build_arguments(command)
    return commands


def _add_build_arguments(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--source", required=True, metavar="RAW", help="raw data set: folder or s3://bucket/prefix")
    add("--out", required=True, metavar="OUT", help="shards: folder or s3://bucket/prefix")
    add(
        "--split",
        default="paper",
        metavar="paper|official|FILE",
        help='a rule, or JSON {"train": [KEY, ...], "val": ..., "test": ...} (default: paper)',
    )
    add("--limit", type=int, metavar="N", help="take about N images, from every split its share")
    add(
        "--shard-size",
        type=int,
        default=SHARD_SIZE,
        metavar="N",
        help="images a shard (default: %(default)s)",
    )
    add(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of the shuffle behind CelebAMask-HQ's paper split (default: %(default)s)",
    )
    add(
        "--known-defects",
        choices=("drop", "keep"),
        default="drop",
        help="CelebAMask-HQ's defective faces and the second of its duplicates are rejected, or "
        "kept, duplicates in one split (default: %(default)s)",
    )
    add(
        "--max-rejected",
        type=float,
        default=MAX_REJECTED,
        metavar="SHARE",
        help="fail when more than this share of the images is rejected (default: %(default)s)",
    )


def run_build(args: argparse.Namespace, map_tasks: MapTasks) -> Manifest:
    """Shards the data set of `add_build_commands`, showing progress and what came of it."""

    def with_progress(write: WriteShard, tasks: Sequence[ShardTask]) -> Iterator[ShardRecord]:
        num_items = sum(len(task.items) for task in tasks)
        done = map_tasks(write, tasks)
        return progress(
            done,
            num_items,
            "image",
            count=lambda record: record.num_items,
            was_there=lambda record: record.was_there,
        )

    recipe = Recipe(
        layout=args.command,
        split=args.split,
        limit=args.limit,
        shard_size=args.shard_size,
        seed=args.seed,
        known_defects=args.known_defects,
        max_rejected=args.max_rejected,
    )
    was_there = open_location(args.out).exists(MANIFEST)
    manifest = build(args.source, args.out, recipe, with_progress)
    if was_there:
        print(f"{args.out} is already complete; remove it first to make it anew")
    _print_summary(manifest, args.out)
    return manifest


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
    for pair, sides in manifest.sides.items():
        if sides.swapped:
            print(
                f"warning: the left {pair} lies left of the right one in "
                f"{sides.both - sides.right} of {sides.both} faces: are the sides of this archive "
                "swapped? `inspect` shows them",
                file=sys.stderr,
            )
    print(f"fingerprint {manifest.fingerprint}")


def _run_verify(args: argparse.Namespace) -> int:
    from sharding.packing.verify import verify

    problems = verify(args.out)
    for problem in problems:
        print(problem)
    verdict = f"{len(problems)} problem{'s' * (len(problems) > 1)}" if problems else "sound"
    print(f"{args.out}: {verdict}")
    return 1 if problems else 0


def _run_inspect(args: argparse.Namespace) -> None:
    from sharding.packing.inspection import inspect_shards

    print(inspect_shards(args.out, args.sheet))
