"""The uses of Ray's private modules, for which its public interface has no replacement.

Each was read in the source of Ray `READ_IN`. With another version, look whether it still holds;
a test compares the two.
"""

import logging
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final, NoReturn

from tqdm import tqdm

from cluster.config import is_verbose

READ_IN: Final = "2.60.0"


def recorded_head_address() -> str | None:
    """Returns the address that `ray start --head` has left on this machine, if it was ever run."""
    from ray._private.services import find_bootstrap_address

    address: str | None = find_bootstrap_address(None)
    return address


def is_told_to_go() -> bool:
    """Tells whether a node of this worker's group is drained, as far as this worker knows.

    `ray.train.get_preemption_info` would ask all workers, through one process, each time.
    """
    from ray.train.v2._internal.execution.context import get_train_context

    return get_train_context().preemption_context.preemption_info is not None


def end_run(error: Exception) -> NoReturn:
    """Ends a Ray Train run from a callback of its controller, without a page of traceback."""
    manager = "ray.train.v2._internal.execution.callback_manager"
    logging.getLogger(manager).setLevel(logging.CRITICAL)
    raise error


def hide_vain_starts() -> None:
    """Leaves out of the log what Ray Train's controller prints where it can't get workers yet.

    It asks for them every 20 s, and of each answer that is late it says that all may be well.
    """
    if is_verbose():
        return
    from ray.exceptions import GetTimeoutError
    from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

    def is_wanted(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, WorkerGroupStartupTimeoutError | GetTimeoutError)

    execution = "ray.train.v2._internal.execution"
    logging.getLogger(f"{execution}.controller.controller").addFilter(is_wanted)
    asking = f"{execution}.scaling_policy.autoscaling_coordinator_client"
    logging.getLogger(asking).addFilter(is_wanted)


HARMLESS: Final = re.compile(
    # A worker's death is seen without this actor; Ray's issue 53727 is about the message.
    r"class name: 'PreemptionWatcher'"
    # PyTorch's store says so of addresses that have no name.
    r"|The hostname of the client socket cannot be retrieved"
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
