"""Parses the photographs of a folder or bucket over the cluster: labels, overlays, windows.

    ray job submit --working-dir . -- python jobs/parse.py --model MODEL --input IN --out OUT

IN and OUT are folders that all nodes mount, or s3://bucket/prefix. Interrupted, the same command
goes on where it stopped.
"""

import sys

import tyro

from cluster.config import ParsingJobConfig
from cluster.parsing.job import run_parsing
from jobs.options import run_job


def job() -> dict[str, object]:
    """Runs the parsing that the command line describes."""
    return run_parsing(tyro.cli(ParsingJobConfig, description=__doc__))


if __name__ == "__main__":
    sys.exit(run_job(job))
