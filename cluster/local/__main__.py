"""Runs the command line, as `python -m cluster.local`."""

import sys

from cluster.local.command import main

if __name__ == "__main__":
    sys.exit(main())
