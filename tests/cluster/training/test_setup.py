"""The runs of trainings within a job's run."""

from collections.abc import Callable
from pathlib import Path

from cluster.tracking.tracker import Tracker
from cluster.training.setup import start_child_run


def test_a_training_within_a_job_bears_its_name_also_where_an_earlier_version_began_it(
    tmp_path: Path, new_store: Callable[[Path], str]
) -> None:
    tracker = Tracker.connect(new_store(tmp_path), outbox_folder=tmp_path / "outbox")
    job = tracker.start_or_resume_run("table")
    before = tracker.start_or_resume_run("seed-0", job.run_id)
    begun, new = (start_child_run(job, name, {}) for name in ("seed-0", "seed-1"))
    assert begun.run_id == before.run_id != new.run_id
    names = [tracker.client.get_run(run.run_id).info.run_name for run in (begun, new)]
    assert names == ["table/seed-0", "table/seed-1"]
