"""Shards a raw data set over the cluster: what `python -m sharding` does on one machine.

    ray job submit --working-dir . -- python jobs/shard.py celebamask|helen --source RAW --out OUT

RAW and OUT are folders that all nodes mount, or s3://bucket/prefix. Interrupted, the same command
goes on where it stopped.
"""

import argparse
import sys

from cluster.sharding_job import run_sharding
from jobs.options import run_job
from sharding.cli import add_build_commands


def job() -> dict[str, object]:
    """Runs the sharding that the command line describes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_build_commands(parser)
    return run_sharding(parser.parse_args())


if __name__ == "__main__":
    sys.exit(run_job(job))
