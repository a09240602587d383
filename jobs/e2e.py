"""Trains and scores a face parser: coarse -> localizer -> end-to-end -> evaluate -> report.

    ray job submit --working-dir . -- python jobs/e2e.py [demo|helen|celebamask] --data OUT

Without arguments it draws procedural faces, shards them and trains on them. The same command with
the same --run-name goes on where it was stopped.
"""

import sys

from cluster.config import TrainingJobConfig
from cluster.training.job import run_end_to_end
from jobs.options import parse_job, run_job


def job() -> dict[str, object]:
    """Runs the training that the command line describes."""
    return run_end_to_end(*parse_job(TrainingJobConfig, __doc__))


if __name__ == "__main__":
    sys.exit(run_job(job))
