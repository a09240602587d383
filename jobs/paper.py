"""The paper's experiments, a command a table or figure; each goes on under its --run-name.

    ray job submit --working-dir . -- python jobs/paper.py table PRESET --data OUT --seeds 2

table        Tables 2 and 3: iCNN, STN-iCNN* and STN-iCNN over some seeds
coarse-size  Figure 6: 64 px against 128 px for the coarse network
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cluster.paper.coarse_size import CoarseSizeConfig, run_coarse_size
from cluster.paper.table import TableConfig, run_table
from jobs.options import parse_job, run_job


def table(argv: Sequence[str]) -> dict[str, Any]:
    """The paper's Tables 2 and 3."""
    return run_table(*parse_job(__doc__, argv, TableConfig))


def coarse_size(argv: Sequence[str]) -> dict[str, Any]:
    """The paper's Figure 6."""
    return run_coarse_size(*parse_job(__doc__, argv, CoarseSizeConfig))


EXPERIMENTS: Mapping[str, Callable[[Sequence[str]], dict[str, Any]]] = {
    "table": table,
    "coarse-size": coarse_size,
}


def job() -> dict[str, Any]:
    """The experiment that the command line names."""
    name = sys.argv[1] if len(sys.argv) > 1 else None
    if name in ("-h", "--help"):
        print(__doc__)
        sys.exit(0)
    if name not in EXPERIMENTS:
        raise ValueError(f"which experiment? One of {', '.join(EXPERIMENTS)}; got {name}")
    return EXPERIMENTS[name](sys.argv[2:])


if __name__ == "__main__":
    sys.exit(run_job(job))
