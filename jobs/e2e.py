"""Trains and scores a face parser: coarse -> localizer -> end-to-end -> report.

    python jobs/e2e.py celebamask-tuned --data SHARDS --run-name first
    ray job submit --working-dir . -- python jobs/e2e.py …  # on a cluster

The same command goes on where it was stopped. Without any arguments, a demo.
"""

import sys

from jobs.running import run_job


def job() -> dict[str, object]:
    """Runs the training that the command line describes."""
    from cluster.config import TrainingJobConfig
    from jobs.options import parse_job

    settings, preset = parse_job(TrainingJobConfig, __doc__)
    from cluster.training.job import run_end_to_end  # after help, which needs no Ray

    return run_end_to_end(settings, preset)


if __name__ == "__main__":
    sys.exit(run_job(job))
