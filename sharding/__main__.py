"""Runs the command line, as `python -m sharding`."""

import sys

from stn_icnn.extras import needing


def main() -> int:
    """Runs the command line, or says what to install for it; returns the exit status."""
    try:
        with needing("train", "sharding"):
            from sharding import cli
    except ValueError as error:
        print(f"sharding: error: {error}", file=sys.stderr)
        return 2
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
