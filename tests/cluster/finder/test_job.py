"""A model that is given a finder, and then fine-tuned, on real Ray workers and a real MLflow."""

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import pytest

from cluster.config import LocationsConfig, ScalingConfig
from cluster.finder.config import FinderJobConfig, finder_settings
from cluster.finder.job import run_finder
from cluster.hybrid.config import fine_tuning_settings
from cluster.hybrid.job import run_hybrid
from cluster.storage.datasets import ShardedData
from cluster.training.parent import Parent
from stn_icnn.networks.checkpoint import load_checkpoint, save_checkpoint
from stn_icnn.reporting.run_results import RunResults

pytestmark = [pytest.mark.ray, pytest.mark.slow]

METRICS = {"val/f1_overall": 0.25, "val/f1_mean": 0.125, "val/loss": 3.0}


@dataclass(frozen=True)
class Done:
    """A job that has run."""

    settings: FinderJobConfig
    parent: Parent
    result: dict[str, Any]
    client: mlflow.MlflowClient
    printed: str

    @property
    def uri(self) -> str | None:
        return self.settings.locations.tracking_uri

    def model(self) -> Parent:
        """The model as it is registered."""
        return Parent.open(self.result["model"], self.uri)


@pytest.fixture(scope="module")
def done(
    shards: Path,
    sure_parent: Path,
    tmp_path_factory: pytest.TempPathFactory,
    new_store: Callable[[Path], str],
    ray_cluster: str,
) -> Done:
    """A finder of a model that was trained on the same faces."""
    folder = tmp_path_factory.mktemp("job")
    uri = new_store(folder)
    checkpoint = load_checkpoint(sure_parent)
    facts = replace(ShardedData.open(str(shards)).facts, scale_px=96)  # faces larger than most
    save_checkpoint(folder / "model.pt", replace(checkpoint, data=facts, metrics=METRICS))
    parent = Parent.open(str(folder), uri)
    settings = finder_settings(parent.checkpoint.config)
    training = settings.training
    settings = replace(
        settings,
        training=replace(
            training,
            model=replace(training.model, finder_px=64),
            optim=replace(training.optim, epochs_finder=1),
        ),
        data=str(shards),
        run_name="found",
        locations=LocationsConfig(storage=str(folder / "storage"), tracking_uri=uri),
        scaling=ScalingConfig(num_workers=1, cpus_per_worker=1),
    )
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        result = run_finder(settings, parent)
    client = mlflow.MlflowClient(tracking_uri=uri)
    return Done(settings, parent, result, client, printed.getvalue())


def test_the_model_has_a_finder_and_its_other_networks_are_bit_for_bit_the_same(
    done: Done,
) -> None:
    before, after = done.parent.checkpoint, done.model().checkpoint
    assert not before.model.finds_faces
    assert after.model.finds_faces
    assert (after.phase, after.config.model.finder_px) == ("finder", 64)
    assert after.calibration is not None
    assert after.data == before.data, "the scale that these networks need among it"
    weights = after.model.state_dict()
    assert all(value.equal(weights[name]) for name, value in before.model.state_dict().items())


def test_last_line_names_the_model_its_parent_and_what_is_found(done: Done) -> None:
    result = json.loads(json.dumps(done.result))
    assert (result["run_name"], result["model"]) == ("found", "models:/stn-icnn-helen/1")
    assert result["parent"] == done.parent.given
    assert 0 <= result["faces_f1"] <= 1
    assert result["test"]["overall"] == result["systems"]["STN-iCNN"]
    assert "undelivered" not in result


def test_it_is_registered_with_its_parent_s_f1_of_labels_on_the_same_data(done: Done) -> None:
    metrics = done.model().checkpoint.metrics
    assert {name: metrics[name] for name in METRICS} == METRICS
    assert metrics["val/faces_f1"] == done.result["faces_f1"]
    version = done.client.get_model_version("stn-icnn-helen", "1")
    assert version.tags["val/f1_overall"] == "0.25"
    assert version.tags["parent_sha256"] == done.parent.sha256
    assert f"Parent: {done.parent.given}, trained on helen" in version.description
    assert "It finds faces" in version.description


def test_its_run_has_a_phase_a_page_and_a_description(done: Done, tmp_path: Path) -> None:
    run = done.client.get_run(done.result["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.tags["parent_model"] == done.parent.given
    assert run.data.metrics["test/f1_overall"] == done.result["test"]["overall"]
    assert run.data.metrics["finder/val/faces_f1"] == done.result["faces_f1"]
    assert run.data.metrics["train/minutes"] > 0
    (child,) = done.client.search_runs(
        [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    )
    assert child.info.run_name == "found/finder"
    assert {"model.finder_px", "optim.epochs_finder"} == set(child.data.params)
    note = run.data.tags["mlflow.note.content"]
    assert f"A finder for `{done.parent.given}`, trained on 8 images in 0." in note
    assert "stn-icnn parse PHOTO --model models:/stn-icnn-helen/1" in note
    folder = done.client.download_artifacts(run.info.run_id, "report", str(tmp_path))
    results = RunResults.read(Path(folder))
    assert results.kind == "training of a finder"
    assert results.training is not None
    assert list(results.training.history) == ["finder"]
    assert "python jobs/hybrid.py --from models:/stn-icnn-helen/1" in done.printed


def test_same_name_again_trains_nothing_and_ends_alike(done: Done, capsys) -> None:
    assert run_finder(done.settings, done.parent) == done.result
    assert "finder: finished before" in capsys.readouterr().out


def test_fine_tuning_the_model_keeps_its_finder(done: Done, shards: Path) -> None:
    """With the mean face that its votes are about."""
    parent = done.model()
    settings = fine_tuning_settings(parent.checkpoint.config)
    optim = replace(settings.training.optim, epochs_end_to_end=1)
    settings = replace(
        settings,
        data=str(shards),
        run_name="tuned",
        training=replace(settings.training, optim=optim),
        locations=done.settings.locations,
        scaling=done.settings.scaling,
    )
    tuned = Parent.open(run_hybrid(settings, parent)["model"], done.uri).checkpoint
    assert tuned.phase == "end_to_end"
    assert tuned.model.finds_faces
    assert tuned.calibration is not None
    before, after = parent.checkpoint.model.state_dict(), tuned.model.state_dict()
    of_finder = [name for name in before if name.startswith("finder.")]
    assert "finder.mean_face" in of_finder
    assert all(before[name].equal(after[name]) for name in of_finder)
    changed = {name.split(".")[0] for name in before if not before[name].equal(after[name])}
    assert changed == {"coarse", "localizer", "fine"}
