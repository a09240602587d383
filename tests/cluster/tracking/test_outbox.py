"""The outbox alone, with a store that is pretended."""

import json
import math

import pytest

from cluster.tracking.outbox import RETRY_AFTER_S, Outbox, RefusedError


@pytest.fixture
def store():
    """A pretended store: `away` and `refuses` say how it answers."""

    class Store:
        away, refuses, got, calls = False, (), [], 0

        def __call__(self, record):
            self.calls += 1
            if self.away:
                raise OSError("no answer")
            if record["n"] in self.refuses:
                raise RefusedError("never")
            self.got.append(record["n"])

    store = Store()
    store.got = []
    return store


def note(n: int, **more) -> dict:
    return {"op": "metrics", "n": n, **more}


def test_the_outbox_keeps_the_order(store, tmp_path, monkeypatch):
    monkeypatch.setattr("cluster.tracking.outbox.RETRY_AFTER_S", 0)
    outbox = Outbox(store, tmp_path, "job")
    store.away, store.refuses = True, (1,)
    for n in range(3):
        outbox.add(note(n))
    store.away = False
    outbox.add(note(3))
    assert store.got == [0, 2, 3]
    assert [record["n"] for record in outbox.refused] == [1]


def test_the_outbox_leaves_a_store_that_failed_alone(store, tmp_path, clock):
    outbox = Outbox(store, tmp_path, "job")
    store.away = True
    for n in range(50):
        outbox.add(note(n))
    assert store.calls == 1
    clock.now += RETRY_AFTER_S
    outbox.add(note(50))
    assert store.calls == 2
    outbox.flush(force=True)
    assert store.calls == 3


def test_the_next_driver_takes_up_what_is_left(store, tmp_path):
    outbox = Outbox(store, tmp_path / "outbox", "job")
    store.away = True
    outbox.add(note(0, values={"a": math.nan, "b": -math.inf, "c": 0.5}))
    outbox.add(note(1))
    assert outbox.undelivered == tmp_path / "outbox" / "job.jsonl"
    lines = outbox.undelivered.read_text().splitlines()
    values = json.loads(lines[0], parse_constant=pytest.fail)["values"]
    assert math.isnan(float(values["a"]))
    assert (float(values["b"]), values["c"]) == (-math.inf, 0.5)

    store.away = False
    other = Outbox(store, tmp_path / "outbox", "job", wanted=lambda record: record["n"] == 1)
    other.flush()
    assert store.got == [1]
    assert other.undelivered is None


def test_a_full_disk_does_not_end_training(store, tmp_path):
    (tmp_path / "file").touch()
    outbox = Outbox(store, tmp_path / "file", "job")  # no folder can be made there
    store.away = True
    outbox.add(note(0))
    store.away = False
    outbox.flush(force=True)
    assert store.got == [0]


def test_points_of_a_curve_that_are_no_numbers_outlive_the_driver(store, tmp_path):
    outbox = Outbox(store, tmp_path / "outbox", "job")
    store.away = True
    outbox.add(note(0, op="curve", points=[[10, 0.5], [20, math.nan], [30, math.inf]]))
    (line,) = outbox.undelivered.read_text().splitlines()
    points = json.loads(line, parse_constant=pytest.fail)["points"]
    values = [float(value) for _, value in points]
    assert (values[0], math.isnan(values[1]), values[2]) == (0.5, True, math.inf)
    assert [step for step, _ in points] == [10, 20, 30]
