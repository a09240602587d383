"""`stn-icnn compare` on a store of MLflow, found as an installed command."""

import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from cluster.tracking.tracker import Tracker, run_tags
from stn_icnn.inference.command import COMMANDS, main
from stn_icnn.reporting.run_results import REPORT_FOLDER, RunResults
from tests.pages import Page
from tests.scored_runs import HISTORY, scored_run, varied

MISSED = varied(20, 2, 12)
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[Path], str]) -> str:
    """A store with the runs `first-try`, `second-try`, `other-faces`, one without counts, and one
    without F1."""
    folder = tmp_path_factory.mktemp("tracking")
    tracker = Tracker.connect(new_store(folder), outbox_folder=folder / "outbox")
    for results in (
        scored_run("first-try", MISSED),
        scored_run("second-try", [n - 2 for n in MISSED]),
        scored_run("other-faces", MISSED[:10]),
    ):
        keep(tracker, results, folder)
    of_before(tracker, scored_run("of-before", [n - 1 for n in MISSED]))
    tracker.start_or_resume_run("just-begun")
    elsewhere = Tracker.connect(tracker.uri, "a team", outbox_folder=folder / "outbox")
    keep(elsewhere, scored_run("first-try", [n - 1 for n in MISSED]), folder)
    return tracker.uri


def keep(tracker: Tracker, results: RunResults, folder: Path) -> None:
    """Makes a run that has kept its results."""
    report = folder / results.run_name
    report.mkdir(exist_ok=True)
    results.write(report)
    tracker.start_or_resume_run(results.run_name).log_artifacts(report, REPORT_FOLDER)


def of_before(tracker: Tracker, results: RunResults) -> None:
    """Makes a run as they were before results were kept, with its phases."""
    tags = run_tags("f00", "helen")
    params = {"optim": {"lr_fine": 0.05}, "no_setting": 1}
    run = tracker.start_or_resume_run(results.run_name, tags=tags, params=params)
    rows = results.f1["systems"][results.model]
    run.log_metrics({f"test/f1_{row}": f1 for row, f1 in rows.items()}, step=0)
    for phase, epochs in HISTORY.items():
        child = tracker.start_or_resume_run(phase, run.run_id, tags={"phase": phase})
        for epoch in epochs:
            values = {name: value for name, value in epoch.items() if name != "epoch"}
            child.log_metrics(values, step=int(epoch["epoch"]))


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This tree's entry points, whatever is installed; and a folder to work in."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [f"{name} = {target}" for name, target in project["entry-points"][COMMANDS].items()]
    metadata = tmp_path / "site" / "stn_icnn-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stn-icnn\nVersion: 0\n")
    (metadata / "entry_points.txt").write_text("\n".join([f"[{COMMANDS}]", *lines]))
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)


def compare(uri: str, *arguments: str) -> int:
    return main(["compare", *arguments, "--tracking-uri", uri])


def refusal(capsys: pytest.CaptureFixture[str], uri: str, arguments: Sequence[str]) -> str:
    assert compare(uri, *arguments) == 2
    return capsys.readouterr().err


def test_two_runs_by_name(uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(uri, "first-try", "second-try") == 0
    lines = capsys.readouterr().out.splitlines()
    answer = lines[0]
    assert answer.startswith("second-try is better than first-try: overall F1 +0.0")
    assert answer.endswith("on the same 20 faces.")
    (nose,) = (line.split() for line in lines if line.startswith("nose"))
    assert nose[-1] == "better"
    page = tmp_path / "compare-first-try-second-try.html"
    assert lines[-1] == f"page: {page}"
    assert answer in Page(page.read_text()).text


def test_runs_by_id_from_any_list(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = Tracker.connect(uri, outbox_folder=tmp_path / "outbox")
    first = tracker.start_or_resume_run("first-try").run_id
    theirs = Tracker.connect(uri, "a team", outbox_folder=tmp_path / "outbox")
    second = theirs.start_or_resume_run("first-try").run_id
    out = tmp_path / "new" / "page.html"
    assert compare(uri, first, second, "--out", str(out)) == 0
    better = f"first-try ({second[:8]}) is better than first-try ({first[:8]})"
    assert better in capsys.readouterr().out
    assert better in Page(out.read_text()).text


def test_a_list_of_ones_own(
    uri: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "a team")
    message = refusal(capsys, uri, ["first-try", "second-try"])
    assert (
        "there is no run 'second-try' in the experiment 'a team'; near ones: first-try" in message
    )
    assert compare(uri, "first-try", "second-try", "--experiment", "stn-icnn") == 0
    capsys.readouterr()
    message = refusal(capsys, uri, ["first-try", "second-try", "--experiment", "nobody's"])
    assert "experiment must be one of" in message
    assert "'a team'" in message


def test_a_wrong_name_lists_near_ones(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(capsys, uri, ["first-try", "secnd-try"])
    assert "stn-icnn compare: error: there is no run 'secnd-try'" in message
    assert "near ones: second-try" in message
    far = refusal(capsys, uri, ["first-try", "xyz"])
    assert "the latest: just-begun, of-before, " in far
    assert "coarse" not in far, "a phase is no job"


def test_other_faces_are_refused(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(capsys, uri, ["first-try", "other-faces"])
    assert "other-faces can't be compared with first-try: the test sets differ" in message
    assert "10 are missing (face_10, face_11, face_12, …)" in message


def test_an_older_run_has_what_mlflow_knows(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(uri, "of-before", "second-try") == 0
    assert "of-before has kept no counts of the faces." in capsys.readouterr().out
    page = Page((tmp_path / "compare-of-before-second-try.html").read_text())
    assert "optim.lr_fine 0.05 0.01" in page.text
    assert "no_setting" not in page.text
    charts = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    assert charts == [
        "coarse: F1 on the validation split",
        "coarse: loss on the validation split",
        "coarse: loss on the training split",
        "end_to_end: loss on the training split",
    ]
    legends = [words for words in page.words if words == "of-before"]
    assert len(legends) >= len(charts)


def test_a_run_without_f1_is_refused(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(capsys, uri, ["first-try", "just-begun"])
    assert "run 'just-begun' must have scored a model, got one (RUNNING) without F1" in message


def test_a_server_that_goes_away_is_named(
    uri: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise MlflowException("API request failed: connection refused")

    monkeypatch.setattr(MlflowClient, "list_artifacts", gone)
    message = refusal(capsys, uri, ["first-try", "second-try"])
    assert f"{uri}: API request failed: connection refused; check" in message


def test_artifacts_that_cannot_be_fetched_are_named(
    uri: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise MlflowException("No such artifact")

    monkeypatch.setattr("mlflow.artifacts.download_artifacts", missing)
    message = refusal(capsys, uri, ["first-try", "second-try"])
    assert "the artifacts of run 'first-try' (runs:/" in message
    assert "/report/results.json) could not be fetched from" in message
    assert "No such artifact; check the path in the MLflow UI" in message


def test_help_lists_the_command_and_imports_no_mlflow(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.path.insert(0, 'site')\n"
        "from stn_icnn.inference.command import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "finally:\n"
        "    print('mlflow' in sys.modules, 'ray' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert "compare runs in MLflow" in " ".join(done.stdout.split())
    assert done.stdout.endswith("False False\n")
