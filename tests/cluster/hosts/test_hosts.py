"""A job on two hosts whose own names loop back, with a worker killed and a link cut on its way."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from cluster.config import LocationsConfig, ScalingConfig, TrainingJobConfig
from cluster.training.job import run_end_to_end
from tests.cluster.hosts.rig import Rig, reason_against, wait_for
from tests.cluster.hosts.services import (
    start_driver,
    start_head,
    start_nodes,
    start_s3,
    train_workers,
)
from tests.cluster.hosts.small_job import figures, logged_twice, prepare, result, small_config

REASON = reason_against()
CUT_S = 8.0

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]


def test_the_figures_are_those_of_an_undisturbed_run_on_one_machine(
    tmp_path: Path, new_store: Callable[[Path], str], ray_cluster: str
) -> None:
    config = small_config(epochs=2, checkpoint_every_steps=4)
    shared = tmp_path / "hosts"
    shared.mkdir()
    command = prepare(shared, config, num_faces=40)
    with Rig(shared, own_names_loop=True) as rig:
        head, first, second = (rig.add(name) for name in ("head", "first", "second"))
        start_s3(head, "runs")
        start_head(head)
        start_nodes(first, second)
        options = {
            "--storage": "s3://runs",
            "--tracking-uri": "sqlite:////tmp/mlflow.db",
            "--run-name": "disturbed",
            "--scaling.num-workers": "2",
        }
        words = [word for option in options.items() for word in option]
        job = start_driver(head, *command, *words)
        log = head.folder / "job.log"
        wait_for(lambda: "coarse: epoch 1, checkpoint after step 4" in log.read_text(), "a step")
        assert second.kill("ray::RayTrainWorker") == 1
        wait_for(lambda: "end_to_end: epoch 1, checkpoint" in log.read_text(), "the last phase")
        first.cut()
        time.sleep(CUT_S)
        first.mend()
        assert job.wait(timeout=600) == 0, log.read_text()
        assert "2 workers go on after" in log.read_text()
        wait_for(lambda: not train_workers(rig), "all workers are gone")
    of_hosts = MlflowClient(f"sqlite:///{shared}/head/tmp/mlflow.db")
    disturbed = figures(of_hosts, result(log.read_text())["run_id"])

    uri = new_store(tmp_path)
    settings = TrainingJobConfig(
        training=config,
        data=str(shared / "shards"),
        run_name="undisturbed",
        locations=LocationsConfig(storage=str(tmp_path / "storage"), tracking_uri=uri),
        scaling=ScalingConfig(num_workers=2, cpus_per_worker=1),
    )
    run_id = run_end_to_end(settings, "demo")["run_id"]
    assert disturbed == figures(MlflowClient(uri), run_id)
    assert not logged_twice(disturbed)
    assert json.dumps(disturbed).count("val/f1_overall") > 1
