"""Delivers to MLflow what a job could not, as its server was away.

python -m cluster.deliver FILE     # the end of the job names the file
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.tracking.run_pages import page_of
from cluster.tracking.tracker import Tracker
from cluster.tracking.tracking_uri import connect, resolve_tracking_uri


def main(arguments: Sequence[str]) -> int:
    """Delivers the file's records, and prints the address of the run's page.

    Returns:
        The exit status: 1 where MLflow refuses some, which stay in the file; 2 where there is no
        such file, or MLflow is away.
    """
    parser = argparse.ArgumentParser(prog="python -m cluster.deliver", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="what a job could not deliver")
    parser.add_argument("--tracking-uri", help="MLflow (MLFLOW_TRACKING_URI)")
    args = parser.parse_args(arguments)
    file: Path = args.file.absolute()
    try:
        if not file.is_file():
            raise ValueError(f"there is no file {file}: all of it has been delivered, or moved")
        tracker, left = _deliver(file, args.tracking_uri)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if left:
        print(f"MLflow has not taken all of it: the rest stays in {left}", file=sys.stderr)
        return 1
    print(f"delivered: {page_of(tracker, file.stem)}")
    return 0


def _deliver(file: Path, tracking_uri: str | None) -> tuple[Tracker, Path | None]:
    """Delivers a file's records; returns the tracker, and the file where it holds some still."""
    uri, run_id = resolve_tracking_uri(tracking_uri), file.stem
    with connect(uri) as client:
        experiment_id = client.get_run(run_id).info.experiment_id
    tracker = Tracker(client, uri, experiment_id, file.parent)
    tracker.deliver_left(run_id)
    return tracker, tracker.undelivered


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
