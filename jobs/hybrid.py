"""Fine-tunes a model on N images of another data set: the paper's HELEN to CelebAMask-HQ.

    ray job submit --working-dir . -- python jobs/hybrid.py --from MODEL --data OUT --num-images N

The settings are MODEL's own, at lower rates; `--config` and options go over them. `--compare` then
trains from scratch on the same images for the same time and reports both curves. The same command
with the same --run-name goes on where it was stopped.
"""

import sys

from cluster.hybrid.job import run_hybrid
from jobs.options import parse_fine_tuning, run_job


def job() -> dict[str, object]:
    """Runs the fine-tuning that the command line describes."""
    return run_hybrid(*parse_fine_tuning(__doc__))


if __name__ == "__main__":
    sys.exit(run_job(job))
