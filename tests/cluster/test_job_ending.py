"""The end of a job for people: what came of it, where it is to be seen, what to type next."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.deliver import main
from cluster.job_ending import print_ending, steps_with
from cluster.tracking import tracking_uri
from cluster.tracking.run_pages import list_options, run_page, ui_command
from cluster.tracking.tracker import Run, Tracker
from stn_icnn.label_sets import PAPER9
from stn_icnn.reporting.tables import f1_headline
from tests.tracked_runs import logged

F1 = {
    "eyes": 0.873, "brows": 0.745, "nose": 0.929, "inner_mouth": 0.569, "upper_lip": 0.775,
    "lower_lip": 0.759, "mouth": 0.4, "skin": None, "overall": 0.889, "mean": 0.3,
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(tmp_path: Path, new_store: Callable[[Path], str]) -> Run:
    tracker = Tracker.connect(new_store(tmp_path), outbox_folder=tmp_path / "outbox")
    run = tracker.start_or_resume_run("mine")
    (tmp_path / "report.html").write_text("a report")
    run.log_artifacts(tmp_path / "report.html", "report")
    return run


def test_the_headline_names_the_part_that_is_labelled_worst() -> None:
    headline = f1_headline("STN-iCNN", F1, "test", "helen", PAPER9)
    assert headline == "STN-iCNN on the test split of helen: F1 0.889, weakest inner mouth 0.569"


def test_a_headline_of_faces_without_parts() -> None:
    headline = f1_headline("STN-iCNN", dict.fromkeys(F1), "val", "helen", PAPER9)
    assert headline.endswith("no part of a face")


def test_the_report_is_named_where_it_lies_and_the_commands_hold_the_model(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    print_ending(run, "F1 0.889", steps_with(run, "models:/stn-icnn-helen/3"))
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) <= 10
    assert lines[0] == "F1 0.889"
    (report,) = [line.split()[-1] for line in lines if line.strip().startswith("report")]
    assert Path(report).read_text() == "a report"
    said = "\n".join(lines)
    assert "stn-icnn parse PHOTO --model models:/stn-icnn-helen/3 --out" in said
    assert "python jobs/hybrid.py --from models:/stn-icnn-helen/3 --data" in said
    assert f"stn-icnn compare OTHER_RUN mine --tracking-uri {run.tracker.uri}" in said
    assert f"/runs/{run.run_id}?workflowType=machine_learning" in said


def test_the_commands_name_the_experiment_that_was_given(
    tmp_path: Path, new_store: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker.connect(new_store(tmp_path), "our eyes", outbox_folder=tmp_path / "outbox")
    run = tracker.start_or_resume_run("mine")
    steps = steps_with(run, "models:/stn-icnn-helen/3")
    assert steps["compare"].endswith(f"--tracking-uri {tracker.uri} --experiment 'our eyes'")
    assert steps["fine-tune"].endswith("--experiment 'our eyes'")
    assert "--experiment" not in steps["parse"]  # which knows none
    assert ui_command(run) == (
        f"make ui MLFLOW_TRACKING_URI={tracker.uri} MLFLOW_EXPERIMENT_NAME='our eyes'"
    )
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "our eyes")
    assert "--experiment" not in steps_with(run, None)["compare"]
    assert "EXPERIMENT" not in ui_command(run)


def test_a_store_with_a_password_is_named_by_the_variable(run: Run) -> None:
    run.tracker.uri = "postgresql://u:secret@db/mlflow"
    assert ui_command(run) == 'make ui MLFLOW_TRACKING_URI="$MLFLOW_TRACKING_URI"'
    compare = steps_with(run, None)["compare"]
    assert compare.endswith('OTHER_RUN mine --tracking-uri "$MLFLOW_TRACKING_URI"')


def test_a_model_that_waits_for_the_server_is_not_named(run: Run) -> None:
    assert list(steps_with(run, None)) == ["compare"]


def test_a_server_s_pages_are_on_it_and_a_file_s_where_make_ui_shows_them(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = run.tracker.uri
    assert run_page(run).startswith("http://127.0.0.1:5000/#/experiments/")
    assert ui_command(run) == f"make ui MLFLOW_TRACKING_URI={uri}"
    monkeypatch.setattr(tracking_uri, "default_tracking_uri", lambda: uri)
    assert ui_command(run) == "make ui"
    run.tracker.uri = "https://mlflow.example/tracking"
    assert run_page(run).startswith("https://mlflow.example/tracking/#/experiments/")
    assert ui_command(run) is None


def test_the_report_of_a_server_that_is_away_is_named_by_its_place(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(run_id: str) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(run.tracker.client, "get_run", away)
    print_ending(run, "F1 0.889", {})
    assert "report/report.html, among the run's artifacts" in capsys.readouterr().out


@pytest.mark.parametrize(
    "unusable",
    [
        *("databricks", "file:///mlruns", "http://[mlflow", "mysql://u:secret@db/mlflow"),
        *("sqlite:///~nobody-of-this-name/mlflow.db", "sqlite:////proc/none/mlflow.db"),
    ],
)
def test_a_variable_that_holds_another_address_is_neither_checked_nor_used(
    run: Run, unusable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished job must not fail of an address that it has not used."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", unusable)
    assert list_options(run) == f" --tracking-uri {run.tracker.uri}"
    assert ui_command(run) == f"make ui MLFLOW_TRACKING_URI={run.tracker.uri}"


def test_an_address_is_found_by_the_variable_and_no_folder_is_made_for_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert list_options(run) == ""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///new/mlflow.db")
    assert list_options(run) == f" --tracking-uri {run.tracker.uri}"
    assert not (tmp_path / "new").exists()


def tracked(run: Run, name: str, status: str = "FINISHED", **tags: str) -> Run:
    job = run.tracker.start_or_resume_run(name, tags={"data_fingerprint": "d", **tags})
    run.tracker.start_or_resume_run(f"{name}/coarse", job.run_id).finish("FINISHED")
    job.finish(status)
    return job


def test_a_run_is_compared_with_the_last_finished_one_of_its_kind(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked(run, "older")
    tracked(run, "my first")
    tracked(run, "other-data", data_fingerprint="e")
    tracked(run, "a-sweep", kind="sweep")
    tracked(run, "failed", "FAILED")
    latest = tracked(run, "latest")
    asked = []
    search = latest.tracker.client.search_runs

    def noted(*arguments, **options):
        asked.append(arguments)
        return search(*arguments, **options)

    monkeypatch.setattr(latest.tracker.client, "search_runs", noted)
    assert "compare 'my first' latest" in steps_with(latest, None)["compare"]
    assert len(asked) == 1


def test_a_run_is_compared_with_one_that_the_user_names_where_the_server_is_away(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked(run, "first")
    latest = tracked(run, "latest")

    def away(*arguments, **options):
        raise ConnectionError("away")

    monkeypatch.setattr(latest.tracker.client, "search_runs", away)
    assert "compare OTHER_RUN latest" in steps_with(latest, None)["compare"]


def test_a_model_s_path_is_quoted(run: Run) -> None:
    steps = steps_with(run, "my models/a.pt")
    assert "--model 'my models/a.pt' --out" in steps["parse"]
    assert "--from 'my models/a.pt' --data" in steps["fine-tune"]


def test_what_mlflow_lacks_is_told_with_the_command_that_delivers_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(*arguments, **options):
        raise ConnectionError("away")

    with monkeypatch.context() as patched:
        for call in ("log_batch", "get_run"):
            patched.setattr(run.tracker.client, call, away)
        run.log_metrics({"test/f1_overall": 0.889}, step=0)
        print_ending(run, "F1 0.889", {})
    said = capsys.readouterr().out
    file = run.tracker.undelivered
    assert f"  not in MLflow yet  {file}\n" in said
    assert "report" not in said
    assert "http" not in said
    (command,) = [line for line in said.splitlines() if "deliver it" in line]
    words = shlex.split(command.partition(" -m ")[2])
    assert words == ["cluster.deliver", str(file), "--tracking-uri", run.tracker.uri]

    assert main(words[1:]) == 0
    assert not file.exists()
    assert logged(run, "test/f1_overall") == [(0, 0.889)]
    assert capsys.readouterr().out == f"delivered: {run_page(run)}\n"
    assert main(words[1:]) == 2
    assert "has been delivered" in capsys.readouterr().err
