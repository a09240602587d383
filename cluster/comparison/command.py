"""The command `stn-icnn compare`, which is found through an entry point of `stn_icnn.commands`."""

# What brings MLflow and PyTorch along is imported as it is needed, so that help comes at once.

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stn_icnn.extras import needing


def add_compare(commands: Any) -> None:
    """Adds the command to `stn-icnn`, given what its `add_subparsers` returned."""
    parser = commands.add_parser(
        "compare",
        help="compare runs in MLflow: which is better, in which classes, on which faces",
        description="Compares runs in MLflow with the first of them, on one page.",
        epilog="example: stn-icnn compare first-try wider-windows",
    )
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="names or ids of two or more runs")
    add("--out", type=Path, metavar="FILE.html", help="the page (default: compare-RUN-RUN.html)")
    add("--tracking-uri", help="MLflow (MLFLOW_TRACKING_URI)")
    add("--experiment", help="the list that the names are in (MLFLOW_EXPERIMENT_NAME)")
    parser.set_defaults(run=_compare)


def _compare(args: argparse.Namespace) -> int:
    """Writes the page, and prints the answer, F1 by class, and the page's path."""
    with needing("train", "comparing runs"):
        from cluster.comparison.stored_runs import fetch_runs
        from stn_icnn.reporting.comparison import compare_runs
        from stn_icnn.reporting.comparison_report import write_comparison_report

    runs = fetch_runs(args.runs, args.tracking_uri, args.experiment)
    comparisons = compare_runs(runs)
    out = (args.out or _default_page([run.name for run in runs])).absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    write_comparison_report(out, comparisons)
    for comparison in comparisons:
        answer = "\n".join(filter(None, (comparison.answer, comparison.by_class)))
        print(f"{answer}\n\n{comparison.table.text}\n")
    print(f"page: {out}")
    return 0


def _default_page(names: Sequence[str]) -> Path:
    """Returns the name of a page: of the runs, as far as a file's name can hold them."""
    words = (re.sub(r"[^\w.-]+", "_", name) for name in names)
    return Path("-".join(["compare", *words])[:100] + ".html")
