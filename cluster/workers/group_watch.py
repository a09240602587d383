"""What becomes of a run's workers: lost, restarted, more or fewer. Seen in Ray Train's controller.

Its callbacks are of Ray's developers' interface, as `ray_internals` has more of.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import ray
from ray.exceptions import RayError
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback

from cluster.workers.errors import LostWorkersError
from cluster.workers.ray_internals import end_run, hide_vain_starts
from cluster.workers.reports import WorkersAwaited, WorkersStarted
from cluster.workers.steps_done import StepsDone, steps_done

ASK_EVERY_S: Final = 1.0
ANSWER_WITHIN_S: Final = 2.0
TELL_AFTER_S: Final = 30.0
"""How long a run waits for workers until it says so, seconds."""


Tell = Callable[[WorkersStarted | WorkersAwaited], None]


class GroupWatch(WorkerGroupCallback, ControllerCallback):
    """Tells when workers have begun to train, and ends a run that waits for them for too long.

    Args:
        tell: is told when workers train, once their first step is known.
        wait_s: how long the run may wait for its workers, seconds.
    """

    def __init__(self, tell: Tell, wait_s: float) -> None:
        self._tell = tell
        self._wait_s = wait_s
        self._waiting_since: float | None = time.monotonic()
        self._stopped: float | None = None  # when workers last stopped training
        self._group: Any = None
        self._nodes: Sequence[str] = ()  # of the workers that train, or trained last
        self._has_told = False  # that the run waits for workers
        self._asked: Any = None
        self._asked_at = 0.0
        self._steps: StepsDone | None = None  # of the workers that train
        self._done_before: int | None = None  # by those that trained before them

    def after_controller_start(self, train_run_context: Any) -> None:
        """Keeps what Ray prints of each vain attempt to get workers, a page, out of the log."""
        hide_vain_starts()

    def after_worker_group_training_start(self, worker_group: Any) -> None:
        """Takes note of new workers."""
        self._group, self._waiting_since, self._has_told = worker_group, None, False
        addresses = [worker.metadata.node_ip for worker in worker_group.get_workers()]
        self._nodes = list(dict.fromkeys(addresses))

    def after_worker_group_poll_status(self, worker_group_status: Any) -> None:
        """Asks the first worker for its steps, every second, without waiting for the answer."""
        if self._asked is not None:
            if ray.wait([self._asked], timeout=0)[0]:
                self._hear([self._asked])
                self._asked = None
        elif time.monotonic() - self._asked_at > ASK_EVERY_S:
            self._asked_at = time.monotonic()
            self._asked = self._group.execute_single_async(0, steps_done)

    def before_worker_group_shutdown(self, worker_group: Any) -> None:
        """Asks the workers that still live how far they have come."""
        if self._group is None:  # they have not begun: the run has been waiting all along
            return
        self._waiting_since = self._stopped = time.monotonic()
        asked = worker_group.execute_async(steps_done)
        self._hear(ray.wait(asked, num_returns=len(asked), timeout=ANSWER_WITHIN_S)[0])
        self._done_before = self._steps.now if self._steps else self._done_before
        self._group = self._asked = self._steps = None

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """Ends the run where it has waited for too long.

        Raises:
            LostWorkersError: naming the nodes that are lost.
        """
        if self._waiting_since is None or not current_state.needs_new_run_attempt():
            return
        waited_s = time.monotonic() - self._waiting_since
        if waited_s > self._wait_s:
            end_run(LostWorkersError(describe_lost(self._wait_s, self._nodes, _living_nodes())))
        if waited_s > TELL_AFTER_S and not self._has_told:
            self._has_told = True
            self._tell(WorkersAwaited(_lost(self._nodes, _living_nodes()), self._wait_s))
        if type(previous_state) is type(current_state):  # Ray would look again without a pause
            time.sleep(ASK_EVERY_S)

    def _hear(self, answers: Sequence[Any]) -> None:
        """Takes note of the steps that workers have done, and tells of a start."""
        known = [steps for answer in answers if (steps := _value(answer)) is not None]
        if not known:
            return
        is_new = self._steps is None
        self._steps = max(known, key=lambda steps: steps.now)
        if not is_new:
            return
        first, before = self._steps.first, self._done_before
        self._tell(
            WorkersStarted(
                num_workers=len(self._group),
                nodes=self._nodes,
                num_steps=first,
                restart_s=self._stopped and time.monotonic() - self._stopped,
                num_repeated=None if before is None else max(0, before - first),
            )
        )


def describe_lost(wait_s: float, nodes: Sequence[str], living: Sequence[str]) -> str:
    """Returns the line about nodes that have not come back.

    Args:
        wait_s: how long they were waited for, seconds.
        nodes: the addresses of the nodes of the last workers.
        living: those of the nodes that live.
    """
    lost = ", ".join(_lost(nodes, living))
    what = f"for {lost} to come back" if lost else "for the cluster to have room for all workers"
    return (
        f"waited {wait_s:g} s (scaling.lost_node_wait_s) {what}; with scaling.min_workers a phase "
        "goes on with the workers that are left"
    )


def _lost(nodes: Sequence[str], living: Sequence[str]) -> list[str]:
    return [node for node in nodes if node not in living]


def _living_nodes() -> list[str]:
    return [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]


def _value(answer: Any) -> StepsDone | None:
    """Returns a worker's answer; None where it died, or has not begun."""
    try:
        value: StepsDone | None = ray.get(answer)
    except RayError:
        return None
    return value
