"""What is told of a run's workers: from when they train again, what they repeat, which are lost."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayActorError

from cluster.workers import group_watch
from cluster.workers.errors import LostWorkersError
from cluster.workers.group_watch import GroupWatch
from cluster.workers.reports import WorkersAwaited, WorkersStarted
from cluster.workers.steps_done import StepsDone

NODES = ["10.0.0.1", "10.0.0.2"]


class Group:
    """Workers that answer with their steps; those that are dead, with an error."""

    def __init__(self, nodes: list[str], steps: StepsDone | None) -> None:
        self.nodes, self.steps = nodes, steps
        self.dead: set[int] = set()

    def __len__(self) -> int:
        return len(self.nodes)

    def get_workers(self) -> list[Any]:
        return [SimpleNamespace(metadata=SimpleNamespace(node_ip=node)) for node in self.nodes]

    def execute_single_async(self, rank: int, function: Any) -> Any:
        return RayActorError() if rank in self.dead else self.steps

    def execute_async(self, function: Any) -> list[Any]:
        return [self.execute_single_async(rank, function) for rank in range(len(self))]


class Clock:
    now = 1000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(group_watch, "time", clock)
    return clock


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The addresses of the nodes that live."""
    nodes = list(NODES)

    def get(answer: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("ray.get", get)
    monkeypatch.setattr("ray.wait", lambda asked, **_: (asked, []))
    monkeypatch.setattr(group_watch, "_living_nodes", lambda: nodes)
    return nodes


def train(watch: GroupWatch, group: Group, clock: Clock) -> None:
    """Has workers begin, and the controller look twice: the second time the answer is there."""
    watch.after_worker_group_training_start(group)
    for _ in range(2):
        clock.sleep(group_watch.ASK_EVERY_S + 0.1)
        watch.after_worker_group_poll_status(None)


def state(looks_for_workers: bool) -> Any:
    return SimpleNamespace(needs_new_run_attempt=lambda: looks_for_workers)


def test_a_restart_says_how_long_it_took_and_what_is_done_again(
    clock: Clock, alive: list[str]
) -> None:
    told: list[Any] = []
    watch = GroupWatch(told.append, wait_s=100)
    first = Group(NODES, StepsDone(0, 3))
    train(watch, first, clock)
    assert told == [WorkersStarted(2, NODES, 0)]
    first.steps = StepsDone(0, 17)  # which the survivor tells when the group is dissolved
    first.dead = {0}
    watch.before_worker_group_shutdown(first)
    clock.sleep(20)
    vain = Group(NODES, None)  # it dies before it trains
    watch.before_worker_group_shutdown(vain)
    clock.sleep(3)
    train(watch, Group(NODES[1:], StepsDone(10, 10)), clock)
    assert told[1].num_workers == 1
    assert told[1].num_steps == 10
    assert told[1].num_repeated == 7
    assert told[1].restart_s == pytest.approx(23 + 2.2)


def test_workers_that_all_died_are_remembered_as_they_were_last_asked(
    clock: Clock, alive: list[str]
) -> None:
    told: list[Any] = []
    watch = GroupWatch(told.append, wait_s=100)
    first = Group(NODES, StepsDone(0, 12))
    train(watch, first, clock)
    first.dead = {0, 1}
    watch.before_worker_group_shutdown(first)
    train(watch, Group(NODES, StepsDone(10, 11)), clock)
    assert told[1].num_repeated == 2


def test_lost_nodes_are_waited_for_so_long_and_then_named(clock: Clock, alive: list[str]) -> None:
    told: list[Any] = []
    watch = GroupWatch(told.append, wait_s=100)
    group = Group(NODES, StepsDone(0, 3))
    train(watch, group, clock)
    clock.sleep(1000)
    watch.after_controller_state_update(state(False), state(False))  # they train
    watch.before_worker_group_shutdown(group)
    alive.remove(NODES[1])
    clock.sleep(50)
    watch.after_controller_state_update(state(False), state(True))
    watch.after_controller_state_update(state(False), state(True))
    assert told[1:] == [WorkersAwaited([NODES[1]], 100)]
    clock.sleep(60)
    with pytest.raises(LostWorkersError, match=r"waited 100 s .* for 10\.0\.0\.2 to come back"):
        watch.after_controller_state_update(state(False), state(True))
