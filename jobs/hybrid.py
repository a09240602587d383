"""Fine-tunes a model on some images of another data set.

    python jobs/hybrid.py --from MODEL --data SHARDS --num-images 400
    ray job submit --working-dir . -- python jobs/hybrid.py …  # on a cluster

Settings are the model's, at lower rates. The same command goes on after a stop.
"""

import sys

from jobs.running import run_job


def job() -> dict[str, object]:
    """Runs the fine-tuning that the command line describes."""
    from jobs.options import parse_fine_tuning

    settings, parent = parse_fine_tuning(__doc__)
    from cluster.hybrid.job import run_hybrid  # after help, which needs no Ray

    return run_hybrid(settings, parent)


if __name__ == "__main__":
    sys.exit(run_job(job))
