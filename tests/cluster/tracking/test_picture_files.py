"""Pictures over the epochs of a run, as MLflow's slider finds them."""

import re
from pathlib import Path

from PIL import Image

from cluster.tracking.tracker import Tracker
from tests.tracked_runs import ArtifactStoreError, artifacts, data, logged, picture, slides


def test_pictures_of_an_epoch_are_slides_once_also_for_the_next_driver(uri, tmp_path, job):
    job.log_pictures([picture("faces/1", 0), picture("faces/2", 0)])
    job.log_pictures([picture("faces/1", 0, "blue"), picture("faces/1", 3)])  # a worker has died
    again = Tracker.connect(uri, outbox_folder=tmp_path / "outbox")
    again.start_or_resume_run(job.name).log_pictures([picture("faces/1", 3, "blue")])
    assert slides(job) == [
        (name, step, kind)
        for name, step in (("faces~1", "0"), ("faces~1", "3"), ("faces~2", "0"))
        for kind in ("+compressed.webp", ".png")
    ]
    assert data(job).tags["mlflow.loggedImages"] == "True"
    for path in artifacts(job, "images"):
        file = Path(job.tracker.client.download_artifacts(job.run_id, path, str(tmp_path)))
        with Image.open(file) as image:
            assert max(image.size) == (212 if file.suffix == ".webp" else 422)
            red, _, blue = image.convert("RGB").getpixel((9, 9))
            assert red > 200 > 50 > blue


def test_an_upload_that_broke_off_is_made_good(job, monkeypatch):
    upload, calls = job.tracker.client.log_artifact, []

    def break_off(run_id, path, *more):
        calls.append(path)
        if len(calls) == 2:
            raise ArtifactStoreError("connection reset")
        upload(run_id, path, *more)

    with monkeypatch.context() as patched:
        patched.setattr(job.tracker.client, "log_artifact", break_off)
        job.log_pictures([picture("faces/1", 0)])
        job.log_metrics({"val/loss": 1.0}, step=0)
    assert logged(job, "val/loss") == [(0, 1.0)]
    assert len(slides(job)) == 1
    job.tracker.flush(force=True)
    assert len(slides(job)) == 2
    assert job.tracker.undelivered is None


def test_files_are_named_as_mlflow_itself_names_a_logged_image(job):
    """MLflow's page finds pictures by these names; a new version may name them otherwise."""
    client, pixels = job.tracker.client, Image.new("RGB", (300, 200), "red")
    client.log_image(job.run_id, pixels, key="theirs/1", step=3, timestamp=5, synchronous=True)
    job.log_pictures([picture("ours/1", 3)])
    patterns = {}
    for path in artifacts(job, "images"):
        whose = "ours" if "ours" in path else "theirs"
        pattern = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", path)
        pattern = re.sub(r"timestamp.\d+", "timestamp+TIME", pattern).replace(whose, "NAME")
        patterns.setdefault(whose, set()).add(pattern)
    assert patterns["ours"] == patterns["theirs"]
    assert len(patterns["ours"]) == 2
    assert data(job).tags["mlflow.loggedImages"] == "True"
