"""How a job ends for programs: its result as the last line, or an error in words; its status.

Imports what every installation has alone, so that it can say which extra is missing.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

from cluster.workers.errors import PhaseFailedError
from stn_icnn.extras import needing


def run_job(job: Callable[[], dict[str, Any]]) -> int:
    """Runs a job and prints its result as the last line.

    Returns:
        The exit status: 2 for what the user can mend in the command, 1 for work that failed.
    """
    try:
        with needing("train", "this job"):
            result = job()
    except (ValueError, OSError) as error:  # of the bucket, folder or tracking server
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    except PhaseFailedError as error:
        print(f"failed: {error}", file=sys.stderr, flush=True)
        return 1
    print(json.dumps(result), flush=True)
    return 0
