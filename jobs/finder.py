"""Gives a finished model a finder, which looks for faces in photographs.

    python jobs/finder.py --from MODEL --data SHARDS --run-name found
    ray job submit --working-dir . -- python jobs/finder.py …  # on a cluster

Its other networks stay as they are. The same command goes on after a stop.
"""

import sys

from jobs.running import run_job


def job() -> dict[str, object]:
    """Runs the training that the command line describes."""
    from jobs.options import parse_finder_training

    settings, parent = parse_finder_training(__doc__)
    from cluster.finder.job import run_finder  # after help, which needs no Ray

    return run_finder(settings, parent)


if __name__ == "__main__":
    sys.exit(run_job(job))
