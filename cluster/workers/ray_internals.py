"""The uses of Ray's private modules, for which its public interface has no replacement.

Each was read in the source of Ray `READ_IN`. With another version, look whether it still holds;
a test compares the two.
"""

import logging
from pathlib import Path
from typing import Final

READ_IN: Final = "2.60.0"


def recorded_head_address() -> str | None:
    """Returns the address that `ray start --head` has left on this machine, if it was ever run."""
    from ray._private.services import find_bootstrap_address

    address: str | None = find_bootstrap_address(None)
    return address


def silence_ray_logs() -> None:
    """Keeps Ray Train's own line for each report, and the like, out of the job's log.

    Some of its loggers bear the names of its modules, others the paths of their files.
    """
    import ray.train

    folder = str(Path(ray.train.__file__).parent)
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("ray.train", folder)):
            logging.getLogger(name).setLevel(logging.WARNING)
