"""The command line: `python -m sharding celebamask|helen|faces|verify|inspect ...`."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence

from sharding.building import MAX_REJECTED, SHARD_SIZE, build
from sharding.manifest import MANIFEST, Manifest
from sharding.storage import open_place
from sharding.writer import LAYOUTS, ShardRecord, ShardTask


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 1 if `verify` finds faults, 2 on an error."""
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args) or 0)
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"sharding {args.command}: error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where this one stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    from sharding import faces  # here, so that importing the package stays cheap

    parser = argparse.ArgumentParser(prog="python -m sharding", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for layout in LAYOUTS:
        command = commands.add_parser(layout, help=f"shard the raw {layout} data set")
        _add_build_arguments(command)
        command.set_defaults(run=_run_build)
    command = commands.add_parser("faces", help="draw procedural faces in a raw layout")
    faces.add_arguments(command)
    command.set_defaults(run=faces.run)
    command = commands.add_parser("verify", help="re-read every shard; exit 1 if any is faulty")
    command.add_argument("out", metavar="OUT", help="a folder or s3://bucket/prefix")
    command.set_defaults(run=_run_verify)
    command = commands.add_parser("inspect", help="counts, class balance, sizes, a contact sheet")
    command.add_argument("out", metavar="OUT", help="a folder or s3://bucket/prefix")
    command.add_argument(
        "--sheet",
        metavar="FILE",
        default="contact-sheet.png",
        help="where the contact sheet goes (default: %(default)s)",
    )
    command.set_defaults(run=_run_inspect)
    return parser


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
        "--max-rejected",
        type=float,
        default=MAX_REJECTED,
        metavar="SHARE",
        help="fail when more than this share of the images is unusable (default: %(default)s)",
    )


def _run_build(args: argparse.Namespace) -> None:
    was_there = open_place(args.out).exists(MANIFEST)
    manifest = build(
        args.command,
        args.source,
        args.out,
        split=args.split,
        limit=args.limit,
        shard_size=args.shard_size,
        seed=args.seed,
        max_rejected=args.max_rejected,
        map_tasks=_map_with_progress,
    )
    if was_there:
        print(f"{args.out} is already complete; remove it first to make it anew")
    _print_summary(manifest, args.out)


def _print_summary(manifest: Manifest, out: str) -> None:
    for rejection in manifest.rejected:
        print(f"rejected {rejection.source}: {rejection.reason}")
    counts = ", ".join(f"{count} {split}" for split, count in manifest.num_samples.items())
    print(f"{out}: {counts}; {len(manifest.rejected)} rejected")
    print(f"fingerprint {manifest.fingerprint}")


def _map_with_progress(
    write: Callable[[ShardTask], ShardRecord], tasks: Sequence[ShardTask]
) -> Iterator[ShardRecord]:
    """The builtin `map` with a bar on a terminal and a line a shard elsewhere."""
    from tqdm import tqdm

    on_terminal = sys.stderr.isatty()
    num_items = sum(len(task.items) for task in tasks)
    done = 0
    with tqdm(total=num_items, unit="image", disable=not on_terminal) as bar:
        for task in tasks:
            yield write(task)
            done += len(task.items)
            bar.update(len(task.items))
            if not on_terminal:
                print(f"{task.path}: {done} of {num_items} images", file=sys.stderr, flush=True)


def _run_verify(args: argparse.Namespace) -> int:
    from sharding.verify import verify

    problems = verify(args.out)
    for problem in problems:
        print(problem)
    verdict = f"{len(problems)} problem{'s' * (len(problems) > 1)}" if problems else "sound"
    print(f"{args.out}: {verdict}")
    return 1 if problems else 0


def _run_inspect(args: argparse.Namespace) -> None:
    from sharding.inspection import inspect_shards

    print(inspect_shards(args.out, args.sheet))
