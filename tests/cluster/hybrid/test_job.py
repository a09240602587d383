"""The hybrid job on real Ray workers, tracked in a real MLflow store."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import pytest

from cluster.config import LocationsConfig, ScalingConfig
from cluster.hybrid.config import HybridJobConfig, fine_tuning_settings
from cluster.hybrid.job import run_hybrid
from cluster.hybrid.report import HYBRID, PARENT, SCRATCH
from cluster.training.parent import Parent
from cluster.training.run_record import FILE, RunRecord
from stn_icnn.storage import Folder
from stn_icnn.training.phases import MODEL_PHASES, PhaseName
from tests.pages import Page, assert_self_contained

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@dataclass(frozen=True)
class Done:
    """A job that has run."""

    settings: HybridJobConfig
    parent: Parent
    result: dict[str, Any]
    client: mlflow.MlflowClient

    @property
    def storage(self) -> Path:
        return Path(self.result["storage"])

    def children(self, run_id: str) -> dict[str, Any]:
        """By name."""
        experiment = self.client.get_run(run_id).info.experiment_id
        query = f"tags.`mlflow.parentRunId` = '{run_id}'"
        return {run.info.run_name: run for run in self.client.search_runs([experiment], query)}


@pytest.fixture(scope="module")
def done(
    shards: Path,
    tiny_parent: Path,
    tmp_path_factory: pytest.TempPathFactory,
    new_store: Callable[[Path], str],
    ray_cluster: str,
) -> Done:
    """Fine-tuned on 6 of 8 images, with other windows, from a model in MLflow, and compared."""
    folder = tmp_path_factory.mktemp("job")
    uri = new_store(folder)
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("before", artifact_location=str(folder / "before"))
    before = client.create_run(experiment).info.run_id
    client.log_artifact(before, str(tiny_parent), "model")
    parent = Parent.open(f"runs:/{before}/model", uri)
    settings = fine_tuning_settings(parent.checkpoint.config)
    model = settings.training.model
    model = replace(model, window_px={**model.window_px, "eye": 25})
    settings = replace(
        settings,
        data=str(shards),
        num_images=6,
        compare=True,
        training=replace(settings.training, model=model),
        run_name="tiny",
        locations=LocationsConfig(storage=str(folder / "storage"), tracking_uri=uri),
        scaling=ScalingConfig(num_workers=1, cpus_per_worker=1),
    )
    return Done(settings, parent, run_hybrid(settings, parent), client)


def test_last_line_names_both_systems_and_their_seconds(done: Done) -> None:
    result = json.loads(json.dumps(done.result))
    assert (result["run_name"], result["num_images"]) == ("tiny", 6)
    assert result["model"] == "models:/stn-icnn-helen/1"
    assert result["parent"] == done.parent.given
    assert list(result["systems"])[:3] == [HYBRID, SCRATCH, PARENT]
    assert result["test"]["overall"] == result["systems"][HYBRID]
    assert set(result["seconds"]) == {HYBRID, SCRATCH}
    assert "undelivered" not in result


def test_run_and_registered_model_bear_their_parent(done: Done) -> None:
    run = done.client.get_run(done.result["run_id"])
    version = done.client.get_model_version("stn-icnn-helen", "1")
    for tags in (run.data.tags, version.tags):
        assert tags["parent_model"] == done.parent.given
        assert f"runs:/{tags['parent_run_id']}/model" == done.parent.given
        assert (tags["parent_dataset"], tags["parent_data_fingerprint"]) == ("elsewhere", "xyz")
        assert tags["parent_sha256"] == done.parent.sha256
    assert run.data.params["num_images"] == "6"
    assert "6 training images" in version.description
    assert done.parent.given in version.description


def test_phases_keep_their_names_and_scratch_has_a_run_of_its_own(done: Done) -> None:
    children = done.children(done.result["run_id"])
    assert set(children) == {"tiny/end_to_end", "tiny/scratch"}
    scratch = children["tiny/scratch"]
    assert scratch.info.status == "FINISHED"
    assert scratch.data.metrics["test/f1_overall"] == done.result["systems"][SCRATCH]
    assert (scratch.data.params["data"], scratch.data.params["train_images"]) == ("helen", "6")
    assert scratch.data.metrics["train/minutes"] == pytest.approx(
        done.result["seconds"][SCRATCH] / 60, abs=0.001
    )
    assert scratch.data.tags["device"].endswith("1 thread, fp32")
    phases = done.children(scratch.info.run_id)
    assert set(phases) == {f"tiny/scratch/{phase}" for phase in MODEL_PHASES}
    for phase in (children["tiny/end_to_end"], *phases.values()):
        assert phase.data.tags["computed_on"].endswith("1 thread, fp32")
        assert phase.data.tags["device"] == phase.data.tags["computed_on"]
    report = (done.storage / "hybrid.md").read_text()
    assert "1 thread, fp32 |" in report
    assert "Faces that" not in report, "Markdown shows none"


def test_a_phase_has_only_the_settings_that_differ_from_the_parent_s(done: Done) -> None:
    params = done.children(done.result["run_id"])["tiny/end_to_end"].data.params
    theirs = done.parent.checkpoint.config
    assert params["optim.lr_fine"] != str(theirs.optim.lr_fine)
    assert params["model.window_px.eye"] == "25"
    assert "optim.global_batch" not in params  # its parent's, which is not the default


def test_the_page_of_the_comparison_has_faces_settings_and_the_command(done: Done, capsys) -> None:
    page = (done.storage / "report.html").read_text()
    assert_self_contained(page)
    read = Page(page)
    assert f"Faces that {HYBRID} labels Sorted by" in read.text
    assert "The worst faces" in read.text
    assert f"These differ from the model {done.parent.given}:" in read.text
    assert "model.window_px.eye 25" in read.text
    assert "Run it again python " in read.text
    shown = [value for tag, name, value in read.attributes if (tag, name) == ("img", "alt")]
    assert sum(alt.endswith(": wrong pixels") for alt in shown) >= 2


def test_both_curves_are_there(done: Done) -> None:
    with (done.storage / "hybrid_curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = {a.path for a in done.client.list_artifacts(done.result["run_id"], "paper")}
    assert names == {
        f"paper/{name}" for name in ("hybrid.md", "hybrid.csv", "hybrid_curves.csv")
    } | {"paper/hybrid_curves.png", "paper/report.html"}
    for system, phases in ((HYBRID, ["end_to_end"]), (SCRATCH, list(MODEL_PHASES))):
        own = [row for row in rows if row["system"] == system]
        assert list(dict.fromkeys(row["phase"] for row in own)) == phases
        seconds = [float(row["seconds"]) for row in own]
        assert seconds == sorted(seconds)
        assert seconds[-1] == pytest.approx(done.result["seconds"][system], abs=0.051)
        assert all(row["val/f1_overall"] for row in own if row["phase"] != "localizer")


def test_scratch_has_the_epochs_that_were_recorded_before_it_began(done: Done) -> None:
    noted = json.loads((done.storage / FILE).read_text())["scratch"]
    record = json.loads((done.storage / "scratch" / FILE).read_text())
    assert record["finished"] == list(MODEL_PHASES)
    assert record["num_images"] == 6
    asked, optim = done.settings.scratch.optim, record["config"]["optim"]
    assert {p: optim[f"epochs_{p}"] for p in MODEL_PHASES} == noted["epochs"]
    assert (optim["lr_fine"], optim["lr_coarse"]) == (asked.lr_fine, asked.lr_coarse)
    assert record["config"]["model"]["window_px"]["eye"] == 25
    own = RunRecord(Folder(done.storage), {}).history("end_to_end")
    assert noted["budget_s"] == own[-1]["train/seconds"]


def seconds_of(done: Done) -> dict[PhaseName, float]:
    record = RunRecord(Folder(done.storage / "scratch"), {})
    return {phase: record.history(phase)[-1]["train/seconds"] for phase in MODEL_PHASES}


def test_same_name_again_trains_nothing_and_ends_alike(done: Done, capsys) -> None:
    before = seconds_of(done)
    assert run_hybrid(done.settings, done.parent) == done.result
    assert seconds_of(done) == before
    lines = capsys.readouterr().out.splitlines()
    finished = [line for line in lines if line.endswith(": finished before")]
    assert len(finished) == 4
    named = [line.split()[0] for line in lines if line.endswith("/report.html")]
    assert named == ["report", "comparison"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_images": 5}, r"\(num_images: 5, was 6\)"),
        ({"num_images": None}, r"\(num_images: None, was 6\)"),
        ({"num_images": 9}, r"at most the 8 of the training split of .*, got 9"),
    ],
)
def test_same_name_with_other_images_is_refused(
    done: Done, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run_hybrid(replace(done.settings, **change), done.parent)


def test_same_name_with_another_seed_is_refused(done: Done) -> None:
    other = replace(done.settings, training=replace(done.settings.training, seed=3))
    with pytest.raises(ValueError, match=r"\(config\.seed: 3, was 0\)"):
        run_hybrid(other, done.parent)


def test_same_name_from_another_model_is_refused(done: Done) -> None:
    other = replace(done.parent, content=done.parent.content + b" ")
    with pytest.raises(ValueError, match=r"parent_sha256: \w+, was \w+"):
        run_hybrid(done.settings, other)


def test_other_settings_for_scratch_are_refused_before_anything_else(done: Done) -> None:
    optim = replace(done.settings.scratch.optim, lr_fine=0.5)
    scratch = replace(done.settings.scratch, optim=optim)
    with pytest.raises(ValueError, match=r"\(scratch\.optim\.lr_fine: 0\.5, was 0\.01\)"):
        run_hybrid(replace(done.settings, scratch=scratch), done.parent)
    assert done.client.get_run(done.result["run_id"]).info.status == "FINISHED"
