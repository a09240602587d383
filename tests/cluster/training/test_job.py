"""The main job on real Ray workers, tracked in a real MLflow store."""

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import ray

from cluster.config import LocationsConfig, ScalingConfig, ScoringJobConfig, TrainingJobConfig
from cluster.scoring.job import run_evaluation
from cluster.tracking.stored_models import FetchedModel, resolve_model
from cluster.training.job import run_end_to_end
from cluster.training.run_record import RunRecord
from cluster.workers.ray_cluster import join_cluster
from stn_icnn.config import TrainConfig
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.checkpoint import load_checkpoint
from stn_icnn.reporting.run_results import RunResults
from stn_icnn.storage import Folder
from stn_icnn.training.phases import phases_up_to
from tests.phase_runs import with_finder

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

PHASES = phases_up_to("finder")


@dataclass(frozen=True)
class Done:
    """A job that has run."""

    settings: TrainingJobConfig
    result: dict[str, Any]
    client: mlflow.MlflowClient
    printed: str


@pytest.fixture(scope="module")
def done(
    shards: Path,
    tiny_config: TrainConfig,
    tmp_path_factory: pytest.TempPathFactory,
    new_store: Callable[[Path], str],
    ray_cluster: str,
) -> Done:
    folder = tmp_path_factory.mktemp("job")
    uri = new_store(folder)
    config = replace(with_finder(tiny_config), checkpoint_every_steps=1)
    settings = TrainingJobConfig(
        training=config,
        data=str(shards),
        run_name="tiny",
        locations=LocationsConfig(storage=str(folder / "storage"), tracking_uri=uri),
        scaling=ScalingConfig(num_workers=2, cpus_per_worker=1),
    )
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        result = run_end_to_end(settings, "demo")
    return Done(settings, result, mlflow.MlflowClient(tracking_uri=uri), printed.getvalue())


def test_last_line_says_what_came_of_it(done: Done) -> None:
    result = json.loads(json.dumps(done.result))
    assert result["run_name"] == "tiny"
    assert result["model"] == "models:/stn-icnn-helen/1"
    assert set(result["systems"]) == {"STN-iCNN", "coarse network", "mean label map"}
    assert result["test"]["skin"] is None
    assert "undelivered" not in result


def test_run_is_in_mlflow(done: Done) -> None:
    run = done.client.get_run(done.result["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.tags["data_fingerprint"] == done.result["data_fingerprint"]
    assert run.data.params["optim.lr_fine"] == str(done.settings.training.optim.lr_fine)
    assert run.data.metrics["test/f1_overall"] == done.result["test"]["overall"]
    children = done.client.search_runs(
        [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    )
    assert {child.data.tags["phase"] for child in children} == set(PHASES)
    for child in children:
        assert child.info.status == "FINISHED"
        steps = [m.step for m in done.client.get_metric_history(child.info.run_id, "train/loss")]
        assert steps == [1, 2]
        assert child.info.run_name == f"tiny/{child.data.tags['phase']}"
        assert 0 <= child.data.metrics["train/data_wait_fraction"] <= 1


def history(done: Done, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(one.step, one.value) for one in done.client.get_metric_history(run_id, key)]


def phase_run_id(done: Done, phase: str) -> str:
    run = done.client.get_run(done.result["run_id"])
    (child,) = done.client.search_runs(
        [run.info.experiment_id], f"attributes.run_name = '{run.info.run_name}/{phase}'"
    )
    return child.info.run_id


def test_the_job_s_run_has_the_curves_of_its_phases(done: Done) -> None:
    for phase in PHASES:
        own = history(done, done.result["run_id"], f"{phase}/val/loss")
        assert own == history(done, phase_run_id(done, phase), "val/loss")
        assert [step for step, _ in own] == [1, 2]
    metrics = done.client.get_run(done.result["run_id"]).data.metrics
    assert "end_to_end/val/f1_overall" in metrics
    assert "finder/val/faces_f1" in metrics
    assert "finder/val/f1_overall" not in metrics, "it labels no face"
    assert not any("system/" in name for name in metrics)


def test_a_phase_has_losses_by_step_and_what_its_workers_used(done: Done) -> None:
    run_id = phase_run_id(done, "coarse")
    epochs = history(done, run_id, "train/loss")
    steps = history(done, run_id, "train/step_loss")
    assert [step for step, _ in steps] == list(range(1, 2 * len(epochs) + 1))
    assert [step for step, _ in history(done, run_id, "system/cpu_cores")] == [1, 2]
    assert [step for step, _ in history(done, run_id, "val/seconds")] == [1, 2]
    assert history(done, run_id, "train/workers") == [(1, 2), (2, 2)]
    assert done.client.get_run(run_id).data.tags["workers"] == "2"
    assert done.client.get_run(run_id).data.metrics["system/memory_gib"] > 0.05


def test_a_phase_has_only_the_settings_that_differ_from_the_preset_s(done: Done) -> None:
    params = done.client.get_run(phase_run_id(done, "coarse")).data.params
    assert params["optim.global_batch"] == "4"
    assert "channels_last" not in params


def test_pictures_show_windows_and_labels_before_the_first_step_and_over_epochs(
    done: Done,
) -> None:
    for phase in PHASES:
        names = [
            Path(file.path).name
            for file in done.client.list_artifacts(phase_run_id(done, phase), "images")
        ]
        steps = {name.split("+")[2] for name in names if name.startswith("faces~1+")}
        assert steps == {"0", "1", "2"}
        assert all(name.endswith((".png", "+compressed.webp")) for name in names)


def test_the_list_of_runs_says_how_good_a_run_is_and_on_what(done: Done) -> None:
    run = done.client.get_run(done.result["run_id"])
    assert run.data.params["data"] == "helen"
    assert int(run.data.params["train_images"]) > 0
    assert run.data.metrics["train/minutes"] > 0
    assert run.data.tags["device"].endswith("fp32")
    assert run.data.tags["weakest_class"].rpartition(" ")[2][:2] in ("0.", "1.")
    splits = {one.tags[0].value for one in run.inputs.dataset_inputs}
    assert splits == {"train", "val", "test"}
    note = run.data.tags["mlflow.note.content"]
    f1 = done.result["test"]["overall"]
    assert note.startswith(f"**STN-iCNN on the test split of helen: F1 {f1:.3f}, weakest ")
    assert f"stn-icnn parse PHOTO --model {done.result['model']}" in note


def test_the_model_has_a_finder_and_is_compared_by_the_f1_of_its_labels(done: Done) -> None:
    """A champion is chosen by what the phase before has reached; the finder changes none of it."""
    record = RunRecord(Folder(Path(done.result["storage"])), {})
    before, last = (load_checkpoint(record.model(phase)) for phase in PHASES[-2:])
    registered = FetchedModel.fetch(done.result["model"], done.settings.locations.tracking_uri)
    model = registered.checkpoint.model
    assert model.finds_faces
    assert not before.model.finds_faces
    weights = model.state_dict()
    for name, value in before.model.state_dict().items():
        assert name.startswith("finder.") or value.equal(weights[name])
    run = done.client.get_run(done.result["run_id"])
    version = done.client.get_model_version("stn-icnn-helen", "1")
    assert version.tags["champion"] == "the first"
    assert run.data.metrics["val/f1_overall"] == before.metrics["val/f1_overall"]
    assert run.data.metrics["val/faces_f1"] == last.metrics["val/faces_f1"]
    assert registered.checkpoint.metrics["val/f1_overall"] == before.metrics["val/f1_overall"]
    f1 = last.metrics["val/faces_f1"]
    assert f"faces found in scenes made of the validation images: F1 {f1:.4f}" in (
        version.description
    )
    assert "It finds faces and tells" in version.description


def test_the_model_is_calibrated_once_and_the_same_everywhere(done: Done, capsys) -> None:
    """What is stored is what is registered; the command again does not calibrate again."""
    stored = Path(done.result["storage"]) / "calibrated" / "model.pt"
    registered = FetchedModel.fetch(done.result["model"], done.settings.locations.tracking_uri)
    assert registered.content == stored.read_bytes()
    calibration = registered.checkpoint.calibration
    assert calibration is not None
    assert {part.name for part in PAPER9.parts} < set(calibration)
    said = "calibrating confidence on scenes of 2 validation faces"
    assert said in done.printed
    run_end_to_end(done.settings, "demo")
    assert said not in capsys.readouterr().out


def test_a_checkpoint_in_an_epoch_is_told_as_one(done: Done) -> None:
    lines = [line for line in done.printed.splitlines() if line.startswith("coarse: epoch")]
    assert [line.partition(": loss")[0] for line in lines] == [
        "coarse: epoch 1, checkpoint after step 1",
        "coarse: epoch 1 of 2",
        "coarse: epoch 2, checkpoint after step 1",
        "coarse: epoch 2 of 2",
    ]


def test_report_config_and_model_are_artifacts(done: Done, tmp_path: Path) -> None:
    run_id = done.result["run_id"]
    names = {a.path for a in done.client.list_artifacts(run_id, "report")}
    assert {"report/f1.json", "report/f1.md", "report/f1.csv", "report/f1.png"} <= names
    assert "report/report.html" in names
    config = done.client.download_artifacts(run_id, "config.json", str(tmp_path))
    assert json.loads(Path(config).read_text())["optim"]["global_batch"] == 4
    champion = resolve_model(
        "models:/stn-icnn-helen@champion", done.settings.locations.tracking_uri
    )
    parser = FaceParser.load(champion)
    photo = np.full((90, 80, 3), 128, dtype=np.uint8)
    labels = parser.parse(photo).labels
    assert labels.shape == (90, 80)
    served = mlflow.pyfunc.load_model(str(champion))
    (answer,) = served.predict({"image": photo[None]}, {"label_ids": True}).to_dict("records")
    assert np.array_equal(answer["label_ids"], labels)


def test_run_keeps_what_its_page_and_comparisons_are_made_of(done: Done, tmp_path: Path) -> None:
    run_id = done.result["run_id"]
    folder = done.client.download_artifacts(run_id, "report", str(tmp_path))
    results = RunResults.read(Path(folder))
    assert (results.run_id, results.run_name, results.kind) == (run_id, "tiny", "training")
    assert results.f1["systems"]["STN-iCNN"] == done.result["test"]
    assert results.data.num_images == {"train": 8, "val": 2, "test": 2}
    assert (results.data.location, results.data.split) == (done.settings.data, "test")
    training = results.training
    assert training is not None
    assert {phase: len(epochs) for phase, epochs in training.history.items()} == dict.fromkeys(
        PHASES, 2
    )
    assert min(training.minutes.values()) > 0
    assert all(training.machines[phase] for phase in PHASES)
    assert training.base == "the preset demo"
    assert training.changed["optim.global_batch"] == [4, 8]
    assert "seed" not in training.changed
    assert len(results.keys) == len(results.faces) == 2
    page = (Path(folder) / "report.html").read_text()
    assert "The worst faces" in page
    assert "faces found in scenes" in page
    assert "the preset demo" in page


def test_an_evaluation_is_in_the_list_of_runs_with_what_it_was_scored_on(
    done: Done, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ScoringJobConfig(
        model=done.result["model"],
        data=str(done.settings.data),
        split="val",
        locations=done.settings.locations,
        scaling=done.settings.scaling,
    )
    result = run_evaluation(settings)
    run = done.client.get_run(result["run_id"])
    assert run.data.metrics["val/f1_overall"] == result["val"]["overall"]
    assert run.data.metrics["val/images"] == 2
    assert run.data.metrics["val/minutes"] > 0
    assert run.data.tags["device"].endswith("fp32")
    assert run.data.tags["weakest_class"]
    assert [one.dataset.name for one in run.inputs.dataset_inputs] == ["helen val"]
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith("**STN-iCNN on the val split of helen: F1 ")
    assert f"`{settings.model}`, scored on 2 images in 0." in note
    assert "STN-iCNN on the val split of helen: F1 " in capsys.readouterr().out
    folder = done.client.download_artifacts(result["run_id"], "report", str(tmp_path))
    scoring = RunResults.read(Path(folder)).scoring
    assert scoring is not None
    assert scoring.machine == run.data.tags["device"]


def test_an_evaluation_on_scenes_says_that_it_is_one(done: Done, tmp_path: Path) -> None:
    settings = ScoringJobConfig(
        model=done.result["model"],
        data=str(done.settings.data),
        split="val",
        framing="found",
        locations=done.settings.locations,
        scaling=done.settings.scaling,
    )
    result = run_evaluation(settings)
    assert list(result["systems"]) == ["STN-iCNN"]
    assert result["run_name"].startswith("evaluate-found")
    run = done.client.get_run(result["run_id"])
    assert run.data.tags["framing"] == "found"
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith("**STN-iCNN on the val split of scenes of helen: ")
    folder = done.client.download_artifacts(result["run_id"], "report", str(tmp_path))
    results = RunResults.read(Path(folder))
    assert results.data.name == "scenes of helen"
    assert results.f1["paper"] is None, "the paper has no such figures"
    assert len(results.faces) == 2


def test_same_name_again_trains_nothing_and_ends_alike(done: Done, capsys) -> None:
    again = run_end_to_end(done.settings, "demo")
    assert again == done.result
    out = capsys.readouterr().out
    for phase in PHASES:
        assert f"{phase}: finished before" in out


def test_same_name_with_other_settings_is_refused(done: Done) -> None:
    training = done.settings.training
    other = replace(training, optim=replace(training.optim, lr_fine=0.5))
    with pytest.raises(ValueError, match=r"optim\.lr_fine: 0\.5, was 0\.01"):
        run_end_to_end(replace(done.settings, training=other), "demo")


def test_joining_does_not_start_a_second_cluster() -> None:
    before = ray.get_runtime_context().gcs_address
    join_cluster()
    assert ray.get_runtime_context().gcs_address == before
