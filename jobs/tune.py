"""Sweeps settings: trials under Ray Tune, a report in MLflow, the best setting as a file.

    ray job submit --working-dir . -- python jobs/tune.py PRESET --data OUT --num-trials N

A space follows the name of its setting: `--space.optim.lr-fine log 1e-4 1e-1`,
`--space.model.patch-px.eye 33 49 65 81 97`; without one, `space.default` is searched. The same
command with the same --run-name goes on where it was stopped.
"""

import sys

from cluster.sweep.config import SweepJobConfig
from cluster.sweep.job import run_sweep
from jobs.options import parse_job, run_job


def job() -> dict[str, object]:
    """The job, from the command line."""
    config, preset = parse_job(SweepJobConfig, __doc__)
    return run_sweep(config, preset)


if __name__ == "__main__":
    sys.exit(run_job(job))
