"""Scores a model on a split of any shards: F1 report beside the paper's rows, tracked in MLflow.

ray job submit --working-dir . -- python jobs/evaluate.py --model models:/NAME@champion --data OUT
"""

import sys

import tyro

from cluster.config import ScoringJobConfig
from cluster.scoring.job import run_evaluation
from jobs.options import run_job


def job() -> dict[str, object]:
    """Runs the scoring that the command line describes."""
    return run_evaluation(tyro.cli(ScoringJobConfig, description=__doc__))


if __name__ == "__main__":
    sys.exit(run_job(job))
