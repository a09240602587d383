"""The uses of Ray's private modules, for which its public interface has no replacement.

Each was read in the source of Ray `READ_IN`. With another version, look whether it still holds;
a test compares the two.
"""

import logging
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from cluster.config import is_verbose

READ_IN: Final = "2.60.0"


def recorded_head_address() -> str | None:
    """Returns the address that `ray start --head` has left on this machine, if it was ever run."""
    from ray._private.services import find_bootstrap_address

    address: str | None = find_bootstrap_address(None)
    return address


HARMLESS: Final = re.compile(
    # A worker's death is seen without this actor; Ray's issue 53727 is about the message.
    r"class name: 'PreemptionWatcher'"
    r"|\b(Future|Deprecation|PendingDeprecation)Warning: "
)
"""Lines that Ray, or the libraries that it runs, print though all is well."""


def silence_ray_logs() -> None:
    """Keeps Ray Train's own line for each report, and the like, out of the job's log.

    Some of its loggers bear the names of its modules, others the paths of their files.
    """
    if is_verbose():
        return
    import ray.train

    folder = str(Path(ray.train.__file__).parent)
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("ray.train", folder)):
            logging.getLogger(name).setLevel(logging.WARNING)


def silence_ray_start() -> None:
    """Keeps what `ray.init` tells of addresses and tokens out of the job's log."""
    if is_verbose():
        return
    logging.getLogger("ray").setLevel(logging.WARNING)
    tokens = "ray._private.authentication.authentication_token_setup"
    logging.getLogger(tokens).setLevel(logging.ERROR)


def hide_harmless_lines() -> None:
    """Leaves `HARMLESS` lines out of what the cluster's processes print in this one.

    What is shown goes above the bar of a terminal. To be called once the cluster is joined.
    """
    from ray._private.ray_logging import global_worker_stdstream_dispatcher as dispatcher

    shown = [show for name, show in dispatcher.handlers if name == RAY_PRINTS]

    def show_filtered(data: dict[str, Any]) -> None:
        lines = [line for line in data["lines"] if is_verbose() or not HARMLESS.search(line)]
        # Ray shows next to nothing of what the autoscaler writes every second.
        printing = data["pid"] != "autoscaler" and bool(lines)
        with tqdm.external_write_mode() if printing else nullcontext():
            for show in shown:
                show({**data, "lines": lines})

    dispatcher.remove_handler(RAY_PRINTS)
    dispatcher.add_handler(RAY_PRINTS, show_filtered)


RAY_PRINTS: Final = "ray_print_logs"
"""Ray's name for what prints the lines of other processes; it is removed by it at shutdown."""
