"""An experiment's run: tracked, kept, given again, refused for other settings."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
import pytest

from cluster.config import LocationsConfig
from cluster.job_setup import open_job
from cluster.paper.config import ExperimentConfig
from cluster.paper.measuring_experiment import StudiedModel, run_experiment
from stn_icnn.config import Network
from stn_icnn.reporting.documents import Block, write_markdown
from stn_icnn.studies.experiment_result import ExperimentResult


@dataclass(frozen=True, kw_only=True)
class Config(ExperimentConfig):
    sizes: tuple[int, ...] = (1, 2)


def work(folder: Path, about: Sequence[Block]) -> ExperimentResult:
    (folder / "trial.md").write_text("a table")
    write_markdown(folder / "about.md", "About", *about)
    return ExperimentResult(
        ["| a |", "|---|"], {"answer": 42}, {"trial/answer": 42.0}, headline="the answer is 42"
    )


def undone(folder: Path, about: Sequence[Block]) -> ExperimentResult:
    raise AssertionError("must not be done again")


def run(
    job_locations: LocationsConfig,
    name: str,
    do: Callable[[Path, Sequence[Block]], ExperimentResult],
    sizes: tuple[int, ...] = (1, 2),
    fingerprint: str | None = "abc",
) -> dict[str, object]:
    config = Config(locations=job_locations, sizes=sizes, run_name=name)
    facts = {"data_fingerprint": fingerprint}
    return run_experiment("trial", open_job(job_locations, name, "trial"), config, facts, do)


def test_it_is_tracked_kept_and_printed(
    job_locations: LocationsConfig, client: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    line = run(job_locations, "tracked", work)
    assert (line["run_name"], line["experiment"], line["answer"]) == ("tracked", "trial", 42)
    ending = capsys.readouterr().out.partition("| a |\n|---|\n")[2]
    assert ending.startswith("\nthe answer is 42\n")
    assert "paper/report.html" in ending
    found = client.get_run(str(line["run_id"]))
    assert found.info.status == "FINISHED"
    tags = found.data.tags
    assert (tags["kind"], tags["experiment"]) == ("paper", "trial")
    assert tags["data_fingerprint"] == "abc"
    assert found.data.metrics == {"trial/answer": 42}
    assert found.data.params["sizes"] == "[1, 2]"
    assert tags["mlflow.note.content"] == "**the answer is 42**"
    assert [a.path for a in client.list_artifacts(str(line["run_id"]), "paper")] == [
        "paper/about.md",
        "paper/trial.md",
    ]
    kept = Path(str(job_locations.storage)) / "tracked" / "trial.md"
    assert kept.read_text() == "a table"


def test_the_same_name_gives_the_same_again(
    job_locations: LocationsConfig, client: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(job_locations, "again", work)
    assert run(job_locations, "again", undone) == first
    assert "trial: finished before\n| a |" in capsys.readouterr().out
    assert client.get_run(str(first["run_id"])).info.status == "FINISHED"


def test_it_is_published_anew_where_it_is_tracked_anew(
    job_locations: LocationsConfig, tmp_path: Path, new_store: Callable[[Path], str]
) -> None:
    first = run(job_locations, "moved", work)
    uri = new_store(tmp_path)
    moved = run(replace(job_locations, tracking_uri=uri), "moved", undone)
    assert moved["run_id"] != first["run_id"]
    client = mlflow.MlflowClient(tracking_uri=uri)
    assert client.list_artifacts(str(moved["run_id"]), "paper")[-1].path == "paper/trial.md"


def test_other_settings_or_data_are_refused(job_locations: LocationsConfig) -> None:
    run(job_locations, "other", work)
    with pytest.raises(ValueError, match=r"sizes: \[3\], was \[1, 2\].*another --run-name"):
        run(job_locations, "other", undone, sizes=(3,))
    with pytest.raises(ValueError, match="data_fingerprint: xyz, was abc"):
        run(job_locations, "other", undone, fingerprint="xyz")


def test_what_failed_is_done_again(
    job_locations: LocationsConfig, client: mlflow.MlflowClient
) -> None:
    with pytest.raises(AssertionError, match="must not"):
        run(job_locations, "failed", undone)
    (found,) = client.search_runs(["1"], "tags.`mlflow.runName` = 'failed'")
    assert found.info.status == "FAILED"
    assert run(job_locations, "failed", work)["run_id"] == found.info.run_id
    record = Path(str(job_locations.storage)) / "failed" / "experiment.json"
    assert json.loads(record.read_text())["files"] == ["about.md", "trial.md"]


def test_a_report_ends_with_settings_and_the_command(
    job_locations: LocationsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["jobs/paper.py", "trial", "--sizes", "1", "3"])
    run(job_locations, "ended", work, sizes=(1, 3))
    text = (Path(str(job_locations.storage)) / "ended" / "about.md").read_text()
    assert (
        "| setting | this run | the defaults |\n|---|---|---|\n| sizes | (1, 3) | (1, 2) |" in text
    )
    assert "    python jobs/paper.py trial --sizes 1 3\n" in text


def test_a_result_of_a_version_without_headlines_is_given_again(
    job_locations: LocationsConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(job_locations, "older", work)
    record = Path(str(job_locations.storage)) / "older" / "experiment.json"
    content = json.loads(record.read_text())
    for name in ("headline", "f1", "machine", "best"):
        del content[name]
    record.write_text(json.dumps(content))
    assert run(job_locations, "older", undone) == first
    assert "\nolder is done\n" in capsys.readouterr().out


def test_a_model_must_have_learnt_what_is_needed(
    job_locations: LocationsConfig, model_of: Callable[[str], Path]
) -> None:
    def opened(path: str, needed: tuple[Network, ...]) -> StudiedModel:
        uri = job_locations.tracking_uri
        return StudiedModel.fetch_trained(path, uri, "the experiment", needed)

    assert opened(str(model_of("end_to_end")), ("localizer",)).system == "STN-iCNN"
    assert opened(str(model_of("frozen")), ("localizer",)).system == "STN-iCNN*"
    refused = (
        "of the phase baseline, but the experiment needs localizer trained: give a model of the "
        "phase localizer or frozen or end_to_end"
    )
    with pytest.raises(ValueError, match=refused):
        opened(str(model_of("baseline")), ("localizer",))
    with pytest.raises(ValueError, match="of the phase localizer, but"):
        opened(str(model_of("localizer")), ("localizer", "fine"))
