"""Parses the photographs of a folder or bucket over the cluster.

    python jobs/parse.py --input PHOTOS --out LABELS
    ray job submit --working-dir . -- python jobs/parse.py …  # on a cluster

The same command goes on where it was stopped.
"""

import sys

from jobs.running import run_job


def job() -> dict[str, object]:
    """Runs the parsing that the command line describes."""
    from cluster.config import ParsingJobConfig
    from jobs.command_line import parse_settings

    settings = parse_settings(ParsingJobConfig, __doc__, sys.argv[1:])
    from cluster.parsing.job import run_parsing  # after help, which needs no Ray

    return run_parsing(settings)


if __name__ == "__main__":
    sys.exit(run_job(job))
