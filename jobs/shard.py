"""Shards a raw data set on the cluster: `python -m sharding` does it without one.

    python jobs/shard.py celebamask --source CelebAMask-HQ --out SHARDS
    ray job submit --working-dir . -- python jobs/shard.py …  # on a cluster

The same command goes on after a stop. --verbose shows what Ray says, too.
--help lists the layouts, and after one of them its options.
"""

import argparse
import sys

from jobs.running import run_job


def job() -> dict[str, object]:
    """Runs the sharding that the command line describes."""
    from jobs.command_line import HELP_ALL, take_verbose
    from sharding.cli import add_build_commands

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_build_commands(parser)
    arguments = take_verbose(sys.argv[1:])
    # There are few options: `--help` shows all.
    args = parser.parse_args(["--help" if word == HELP_ALL else word for word in arguments])
    from cluster.sharding_job import run_sharding  # after help, which needs no Ray

    return run_sharding(args)


if __name__ == "__main__":
    sys.exit(run_job(job))
