"""What people see in a browser: MLflow's pages of a job on a real server, and reports from disk."""

import io
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Frame, Locator, Page, expect, sync_playwright

from cluster.job_ending import REPORT, steps_with
from cluster.run_notes import BEST_SCORE, log_weakest_class, result_note, weakest_class
from cluster.storage.datasets import ShardedData
from cluster.sweep.sweep_record import SweepRecord, Trial
from cluster.sweep.trial_progress import TrialProgress
from cluster.sweep.trial_training import TrialPlan, TrialReport
from cluster.sweep.tune_callback import SweepCallback
from cluster.tracking import run_list
from cluster.tracking.mlflow_model import MODEL_ARTIFACT, log_mlflow_model
from cluster.tracking.model_card import model_card
from cluster.tracking.run_pages import run_page
from cluster.tracking.tracker import Run, Tracker
from cluster.tracking.tracking_uri import EXPERIMENT_ENV, TRACKING_ENV
from stn_icnn.config import TrainConfig
from stn_icnn.context import Picture
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.checkpoint import Checkpoint, DataFacts, save_checkpoint
from stn_icnn.networks.model import STNiCNN
from stn_icnn.reporting.comparison import ComparedRun, compare_runs
from stn_icnn.reporting.comparison_report import write_comparison_report
from stn_icnn.reporting.documents import PAGE
from stn_icnn.reporting.run_report import write_run_report
from stn_icnn.reporting.run_results import REPORT_FOLDER, RunResults
from stn_icnn.reporting.tables import f1_headline
from stn_icnn.scoring.examples import ScoredFace
from stn_icnn.storage import Folder
from tests.mlflow_server import MlflowServer
from tests.scored_runs import HISTORY, scored_run, varied

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

PATIENCE_MS = 60_000
"""The longest that an element may take to appear, also on a machine with other work."""
MODEL = "stn-icnn-helen"
PICTURE = "faces/1"
COLOURS = {0: "red", 2: "blue"}
"""The colour of the picture by epoch."""
EXPAND = "button[data-component-id*=runnamecellrenderer]"
"""The button that unfolds a run of the list."""
LOSSES = {"trial-0000": 0.25, "trial-0001": 0.125}
"""The validation loss of the trials of a sweep."""
COLOUR_OF = """
image => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
    canvas.drawImage(image, 0, 0, 1, 1);
    const [red, , blue] = canvas.getImageData(0, 0, 1, 1).data;
    return red > blue ? "red" : "blue";
}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory, new_store, wait_until) -> Iterator[MlflowServer]:
    server = MlflowServer.prepare(tmp_path_factory.mktemp("server"), new_store, wait_until)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def results() -> RunResults:
    return scored_run("a-job", varied(20, 2, 12))


@pytest.fixture(scope="module")
def reports(results: RunResults, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the report of a run and its comparison with a better one."""
    folder = tmp_path_factory.mktemp("report")
    truth = np.zeros((48, 40), dtype=np.uint8)
    truth[20:30, 10:30] = PAPER9.class_id["nose"]
    photo = np.full((48, 40, 3), 90, dtype=np.uint8)
    windows = np.tile(np.float32([20, 25, 24, 16]), (PAPER9.num_parts, 1))
    worst = ScoredFace(results.keys[0], photo, truth, np.zeros_like(truth), windows)
    write_run_report(folder, results, {"worst": [worst]})
    better = scored_run("a-better-job", [0] * len(results.keys))
    runs = [ComparedRun.of_results(one, f"id of {one.run_name}") for one in (results, better)]
    write_comparison_report(folder / "comparison.html", compare_runs(runs))
    return folder


@dataclass(frozen=True)
class TrackedJob:
    """A job in MLflow, as the project's own jobs leave it, and the addresses of its pages."""

    run: Run
    phases: list[Run]
    version_page: str
    headline: str


@pytest.fixture(scope="module")
def job(
    server: MlflowServer,
    shards: Path,
    results: RunResults,
    reports: Path,
    sure_model: STNiCNN,
    tiny_config: TrainConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> TrackedJob:
    tracker = Tracker.connect(server.uri, outbox_folder=tmp_path_factory.mktemp("outbox"))
    data = ShardedData.open(str(shards))
    run = tracker.start_or_resume_run("a-job", params={"data": data.name, "train_images": 8})
    run.log_data(data, ["train", "test"])
    phases = [_track_phase(run, phase) for phase in HISTORY]
    run.log_artifacts(reports, REPORT_FOLDER)

    rows = results.f1["systems"][results.model]
    run.log_metrics({f"test/f1_{row}": f1 for row, f1 in rows.items()}, step=0)
    log_weakest_class(run, rows, PAPER9)
    headline = f1_headline(results.model, rows, "test", data.name, PAPER9)
    content = io.BytesIO()
    facts = DataFacts(dataset="helen", fingerprint="f00", scale_px=96, scale_fit="at_most")
    save_checkpoint(content, Checkpoint(sure_model, tiny_config, facts, "end_to_end"))
    log_mlflow_model(run, content.getvalue())
    card = model_card(
        name=MODEL,
        dataset="helen",
        data_fingerprint="f00",
        num_images=8,
        started_from="the preset helen",
        config=tiny_config,
        tracking_uri=server.uri,
        val_f1={"overall": 0.7},
        test_f1=rows,
    )
    version = run.register_model(
        MODEL, MODEL_ARTIFACT, card=card, metrics={}, data_fingerprint="f00", tags={}
    )
    run.describe(result_note(headline, "", steps_with(run, f"models:/{MODEL}/{version}")))
    run.finish("FINISHED")
    return TrackedJob(
        run,
        phases,
        version_page=f"{server.uri}/#/models/{MODEL}/versions/{version}",
        headline=headline,
    )


def _track_phase(job: Run, phase: str) -> Run:
    """Tracks a phase with its curves, also on the job's run, and with pictures of two epochs."""
    run = job.tracker.start_or_resume_run(f"{job.name}/{phase}", job.run_id, {"phase": phase})
    for epoch in HISTORY[phase]:
        values = {name: value for name, value in epoch.items() if name != "epoch"}
        run.log_metrics(values, step=int(epoch["epoch"]))
        own = {f"{phase}/{name}": value for name, value in values.items()}
        job.log_metrics(own, step=int(epoch["epoch"]))
    run.log_pictures([_picture(epoch, colour) for epoch, colour in COLOURS.items()])
    run.finish("FINISHED")
    return run


def _picture(epoch: int, colour: str) -> Picture:
    """Returns a picture of one colour, as large as one of four panels."""
    content = io.BytesIO()
    Image.new("RGB", (390, 422), colour).save(content, "WEBP", lossless=True)
    return Picture(PICTURE, epoch, content.getvalue())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.set_default_timeout(PATIENCE_MS)
    yield page
    page.close()


def test_list_of_runs_has_its_columns_and_folds_phases(
    page: Page,
    job: TrackedJob,
    results: RunResults,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At the address that `make ui` prints."""
    monkeypatch.setenv(TRACKING_ENV, job.run.tracker.uri)
    monkeypatch.delenv(EXPERIMENT_ENV, raising=False)
    run_list.main()
    page.goto(capsys.readouterr().out.split()[-1])
    rows, grid = results.f1["systems"][results.model], page.get_by_role("grid")
    expect(grid.get_by_text(job.run.name, exact=True)).to_be_visible()
    values = {
        "metrics.`test/f1_overall`": str(rows["overall"]),
        "metrics.`test/f1_mean`": str(rows["mean"]),
        "params.`data`": "helen",
        "params.`train_images`": "8",
        "tags.`weakest_class`": weakest_class(rows, PAPER9),
    }
    for column, value in values.items():
        of_column = page.locator(f'[col-id="{column}"]')
        name = column.partition("`")[2].strip("`")
        expect(of_column.and_(page.get_by_role("columnheader"))).to_have_text(name)
        expect(of_column.and_(page.get_by_role("gridcell"))).to_contain_text(value)

    phases = [grid.get_by_text(phase.name, exact=True) for phase in job.phases]
    for phase in phases:
        expect(phase).to_have_count(0)
    grid.locator(EXPAND).click()
    for phase in phases:
        expect(phase).to_be_visible()


@pytest.fixture(scope="module")
def sweep(
    server: MlflowServer,
    shards: Path,
    tiny_config: TrainConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """A sweep of localizers, which have a loss and no F1, in a list of its own."""
    folder = tmp_path_factory.mktemp("sweep")
    tracker = Tracker.connect(server.uri, "sweeps", outbox_folder=folder / "outbox")
    run, data = tracker.start_or_resume_run("a-sweep"), ShardedData.open(str(shards))
    plan = TrialPlan(tiny_config, ("coarse", "localizer"), data, None, Folder(folder), None)
    record = SweepRecord.open(plan.storage, {}, {})
    progress = TrialProgress(record.trials, plan.epochs, len(LOSSES), seeds=1, concurrent=1)
    callback = SweepCallback(record, plan, run, progress)
    for i, (name, loss) in enumerate(LOSSES.items()):
        trial = Trial(name, i, 0, 0, {})
        record.add(trial)
        callback.start(trial)
        metrics = {"val/loss": loss, "train/seconds": 6.0}
        report = asdict(TrialReport("localizer", 1, 1, metrics, score=-loss))
        reporter = SimpleNamespace(config={"trial": name})
        callback.on_trial_result(0, [], reporter, {**report, "done": True})
    run.log_metrics({BEST_SCORE: -min(LOSSES.values())}, step=len(LOSSES))
    run.finish("FINISHED")
    return run


def test_list_of_runs_folds_trials_under_their_sweep_and_has_their_scores(
    page: Page, sweep: Run
) -> None:
    page.goto(run_list.list_url(sweep.tracker.uri, sweep.tracker.experiment_id))
    grid = page.get_by_role("grid")
    scores = page.locator(f'[col-id="metrics.`{BEST_SCORE}`"]').and_(page.get_by_role("gridcell"))
    expect(scores).to_contain_text(str(-min(LOSSES.values())))
    trials = {name: grid.get_by_text(f"{sweep.name}/{name}", exact=True) for name in LOSSES}
    for trial in trials.values():
        expect(trial).to_have_count(0)
    grid.locator(EXPAND).click()
    for name, trial in trials.items():
        expect(trial).to_be_visible()
        expect(scores.filter(has_text=str(-LOSSES[name]))).not_to_have_count(0)
    minutes = page.locator('[col-id="metrics.`train/minutes`"]').filter(has_text="0.1")
    expect(minutes).to_have_count(len(LOSSES))


def test_page_of_a_job_begins_with_its_result_and_has_the_curves_of_its_phases(
    page: Page, job: TrackedJob
) -> None:
    page.goto(run_page(job.run))
    expect(page.get_by_text(job.headline)).to_be_in_viewport()
    expect(page.get_by_text("helen train")).to_be_visible()
    page.get_by_role("tab", name="Model metrics").click()
    chart = page.get_by_test_id("experiment-view-compare-runs-card")
    curve = chart.filter(has_text="(coarse/val/loss)").locator(".scatterlayer .point")
    expect(curve).to_have_count(len(HISTORY["coarse"]))


def test_slider_of_a_phase_moves_from_picture_to_picture(page: Page, job: TrackedJob) -> None:
    page.goto(run_page(job.phases[0]))
    page.get_by_role("tab", name="Model metrics").click()
    chart = page.get_by_test_id("experiment-view-compare-runs-card").filter(has_text=PICTURE)
    slider = chart.get_by_role("slider")
    for key, epoch in (("Home", 0), ("ArrowRight", 2)):
        slider.press(key)
        expect(slider).to_have_attribute("aria-valuenow", str(epoch))
        picture = chart.locator(f'img[src*="step%2B{epoch}%2B"]')
        expect(picture).to_be_visible()
        page.wait_for_function("image => image.naturalWidth > 0", arg=picture.element_handle())
        assert picture.evaluate(COLOUR_OF) == COLOURS[epoch]
    shown, below = picture.bounding_box(), slider.bounding_box()
    assert shown
    assert below
    assert shown["y"] + shown["height"] <= below["y"], "the slider hides a part of the picture"


def test_report_opens_in_mlflow_and_sends_no_request(page: Page, job: TrackedJob) -> None:
    asked: list[tuple[Frame, str]] = []
    page.on("request", lambda request: asked.append((request.frame, request.url)))
    page.goto(run_page(job.run).replace("?", f"/artifacts/{REPORT}?"))
    frame = page.frame_locator("iframe.mlflow-html-iframe")
    expect(frame.get_by_text("Weakest class", exact=True)).to_be_visible()
    _see_pictures(frame.locator("img"))
    of_report = [url for asker, url in asked if asker != page.main_frame]
    assert [url for url in of_report if not url.startswith(("blob:", "data:"))] == []
    server = job.run.tracker.uri
    assert [url for _, url in asked if not url.startswith((server, "blob:", "data:"))] == []


def test_registered_model_has_its_card_and_signature(page: Page, job: TrackedJob) -> None:
    page.goto(job.version_page)
    expect(page.get_by_role("heading", name="Intended use")).to_be_visible()
    expect(page.get_by_text("Inputs (1)")).to_be_visible()
    page.get_by_text("Inputs (1)").click()
    expect(page.get_by_role("cell", name="image (required)")).to_be_visible()
    expect(page.get_by_text("Outputs (4)")).to_be_visible()


@pytest.mark.parametrize("file", [PAGE, "comparison.html"])
def test_page_opens_from_disk_and_sends_no_request(page: Page, reports: Path, file: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    address = (reports / file).as_uri()
    page.goto(address)
    expect(page.get_by_role("heading", name="F1 by class")).to_be_visible()
    _see_pictures(page.locator("img"))
    page.get_by_role("link", name="Settings", exact=True).click()
    expect(page.get_by_role("heading", name="Settings")).to_be_in_viewport()
    assert [url for url in asked if not url.startswith("data:")] == [address]


def _see_pictures(pictures: Locator) -> None:
    """Asserts that there are pictures, and that all of them can be decoded."""
    expect(pictures).not_to_have_count(0)
    sizes = pictures.evaluate_all(
        "all => Promise.all(all.map(image => image.decode().then(() => image.naturalWidth)))"
    )
    assert all(sizes)
