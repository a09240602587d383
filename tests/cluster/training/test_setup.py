"""The runs of trainings within a job's run."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from cluster.storage.datasets import ShardedData
from cluster.tracking.tracker import Tracker
from cluster.training.setup import Training, start_child_run


@pytest.fixture
def job(tmp_path: Path, new_store: Callable[[Path], str], shards: Path) -> Training:
    """A training of which runs need its own run, and the 5 images that it is trained on."""
    tracker = Tracker.connect(new_store(tmp_path), outbox_folder=tmp_path / "outbox")
    data, run = ShardedData.open(str(shards)), tracker.start_or_resume_run("table")
    return cast(Training, SimpleNamespace(run=run, data=data, chosen_images=5))


def test_a_training_within_a_job_bears_its_name_also_where_an_earlier_version_began_it(
    job: Training,
) -> None:
    tracker = job.run.tracker
    before = tracker.start_or_resume_run("seed-0", job.run.run_id)
    begun, new = (start_child_run(job, name, {}) for name in ("seed-0", "seed-1"))
    assert begun.run_id == before.run_id != new.run_id
    names = [tracker.client.get_run(run.run_id).info.run_name for run in (begun, new)]
    assert names == ["table/seed-0", "table/seed-1"]


def test_a_training_within_a_job_says_what_it_is_trained_on(job: Training) -> None:
    run = start_child_run(job, "seed-0", {"seed": 0})
    params = job.run.tracker.client.get_run(run.run_id).data.params
    assert params == {"seed": "0", "data": "helen", "train_images": "5"}
