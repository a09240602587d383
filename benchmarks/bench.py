"""Measures ratios of this code on this machine: `make bench`. See README.md beside it."""

import argparse
import json
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.data import data
from benchmarks.export import export
from benchmarks.finding import finding
from benchmarks.floor import floor
from benchmarks.inference import inference
from benchmarks.layouts import layouts
from benchmarks.machine import facts
from benchmarks.measure import HEADER, Row
from benchmarks.scaling import scaling
from benchmarks.subjects import Setup, procedural_shards
from benchmarks.training import training
from benchmarks.workers import workers

Group = Callable[[Setup], Iterator[Row]]

GROUPS: Mapping[str, Group] = {
    "inference": inference,
    "finding": finding,
    "training": training,
    "floor": floor,
    "layouts": layouts,
    "workers": workers,
    "scaling": scaling,
    "export": export,
    "data": data,
}
ROUNDS = 5
RESULT = Path(__file__).with_name("result.json")


def run(groups: Sequence[str], setup: Setup, result: Path) -> bool:
    """Measures groups; prints and writes each row as soon as it is there.

    A group that fails is reported with its error, and the others are still measured.

    Returns:
        Whether none has failed.
    """
    report: dict[str, Any] = {
        "facts": facts(setup.rounds, setup.reference, setup.describe()),
        "rows": [],
        "failed": {},
    }
    for name in groups:
        print(f"\n## {name}\n\n{HEADER}", flush=True)
        try:
            for row in GROUPS[name](setup):
                print(row.to_markdown(), flush=True)
                report["rows"].append({"group": name, **row.to_json()})
                result.write_text(json.dumps(report, indent=1) + "\n")
        except Exception as error:
            traceback.print_exc()
            report["failed"][name] = repr(error)
            print(f"\n{name} failed: {error!r}", flush=True)
    result.write_text(json.dumps(report, indent=1) + "\n")
    print("\n" + "\n".join(f"- {name}: {value}" for name, value in report["facts"].items()))
    return not report["failed"]


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=GROUPS, default=list(GROUPS), help="groups of figures"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each figure")
    parser.add_argument("--reference", type=Path, help="checkout of the authors' code")
    parser.add_argument("--shards", type=Path, help="sharded data set; default: drawn faces")
    parser.add_argument("--raw", type=Path, help="folder in CelebAMask-HQ's layout, for `data`")
    parser.add_argument(
        "--model",
        type=Path,
        help="trained model, for `finding` (default: that which comes along), `export`",
    )
    parser.add_argument("--result", type=Path, default=RESULT, help="where the JSON goes")
    return parser.parse_args()


def main() -> None:
    """Measures, prints a Markdown table, writes the JSON; exit status 1 if a group failed."""
    args = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="stn-icnn-bench-") as folder:
        scratch = Path(folder)
        setup = Setup(
            shards=args.shards or procedural_shards(scratch),
            scratch=scratch,
            rounds=args.rounds,
            reference=args.reference,
            raw=args.raw,
            model=args.model,
        )
        all_succeeded = run(args.only, setup, args.result)
    sys.exit(0 if all_succeeded else 1)


if __name__ == "__main__":
    main()
