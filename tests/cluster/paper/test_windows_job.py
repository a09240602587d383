"""The job that measures what better windows would be worth, on a tiny model."""

from pathlib import Path

import mlflow
import pytest

from cluster.config import LocationsConfig
from cluster.paper.config import WindowsConfig
from cluster.paper.windows_job import run_windows
from tests.experiments import FilesOf, ModelOf
from tests.pages import Page

CROPPERS = ["iCNN", "STN-iCNN", "STN-iCNN, set size", "average face", "true centres"]


def test_the_job(
    shards: Path,
    job_locations: LocationsConfig,
    model_of: ModelOf,
    client: mlflow.MlflowClient,
    files_of: FilesOf,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = WindowsConfig(
        locations=job_locations,
        model=str(model_of("frozen")),
        data=str(shards),
        run_name="windows",
        errors=(0.1,),
    )
    line = run_windows(settings)
    own = "STN-iCNN*"
    names = [name.replace("STN-iCNN", own) for name in CROPPERS] + ["true centres ± 0.1"]
    assert list(line["overall"]) == list(line["error_px"]) == names
    assert set(line["difference"]) == set(names) - {own}
    for name, (mean, low, high) in line["difference"].items():
        assert mean == pytest.approx(line["overall"][name] - line["overall"][own])
        assert low <= mean <= high
    printed = capsys.readouterr().out
    assert "| STN-iCNN\\* |" in printed
    assert "| true centres | 0.0 |" in printed
    left = files_of("windows")
    rows = {row["cropper"]: row for row in left.rows("windows.csv")}
    assert float(rows["iCNN"]["overall"]) == line["overall"]["iCNN"]
    left.assert_pictures("windows.png")
    left.assert_published(line["run_id"])
    assert {path.name for path in left.folder.iterdir()} == {
        "report.html",
        "experiment.json",
        *(f"windows.{end}" for end in ("csv", "md", "png")),
    }
    run = client.get_run(line["run_id"])
    assert run.data.metrics["test/f1_overall"] == line["overall"][own]
    assert (run.data.params["data"], len(run.inputs.dataset_inputs)) == ("helen", 1)
    assert run.data.tags["device"].endswith("fp32")
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith("**STN-iCNN* in its own windows: F1 ")
    assert f"stn-icnn parse PHOTO --model {settings.model} " in note
    page = Page(left.text("report.html"))
    assert (
        "Settings These differ from the defaults: setting this run the defaults errors" in page.text
    )
    assert "Run it again python " in page.text


def test_a_model_that_is_not_whole_is_refused(
    shards: Path, job_locations: LocationsConfig, model_of: ModelOf
) -> None:
    settings = WindowsConfig(
        locations=job_locations, model=str(model_of("localizer")), data=str(shards)
    )
    with pytest.raises(ValueError, match=r"of the phase localizer, but .* needs fine trained"):
        run_windows(settings)


@pytest.mark.parametrize(
    ("field", "value"),
    [("errors", (0.0,)), ("errors", (0.1, 0.1)), ("errors", (1.0,)), ("num_faces", 0)],
)
def test_bad_settings_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        WindowsConfig(model="m", data="d", **{field: value})
