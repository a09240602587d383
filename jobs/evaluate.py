"""Scores a model on a split of any shards, and reports its F1 in MLflow.

    python jobs/evaluate.py --model models/celebamask --data SHARDS
    ray job submit --working-dir . -- python jobs/evaluate.py …  # on a cluster

Each scoring is a run of its own.
"""

import sys

from jobs.running import run_job


def job() -> dict[str, object]:
    """Runs the scoring that the command line describes."""
    from cluster.config import ScoringJobConfig
    from jobs.command_line import parse_settings

    settings = parse_settings(ScoringJobConfig, __doc__, sys.argv[1:])
    from cluster.scoring.job import run_evaluation  # after help, which needs no Ray

    return run_evaluation(settings)


if __name__ == "__main__":
    sys.exit(run_job(job))
