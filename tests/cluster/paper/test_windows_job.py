"""The job that measures what better windows would be worth, on a tiny model."""

import csv
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from PIL import Image

from cluster.config import LocationsConfig
from cluster.paper.config import WindowsConfig
from cluster.paper.windows_job import run_windows

ModelOf = Callable[[str], Path]
CROPPERS = ["iCNN", "STN-iCNN", "STN-iCNN, set size", "average face", "true centres"]


def test_the_job(
    shards: Path,
    job_locations: LocationsConfig,
    model_of: ModelOf,
    client: mlflow.MlflowClient,
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
    folder = Path(str(job_locations.storage)) / "windows"
    with (folder / "windows.csv").open() as file:
        rows = {row["cropper"]: row for row in csv.DictReader(file)}
    assert float(rows["iCNN"]["overall"]) == line["overall"]["iCNN"]
    with Image.open(folder / "windows.png") as image:
        assert min(image.size) > 300
    kept = {a.path for a in client.list_artifacts(line["run_id"], "paper")}
    assert kept == {"paper/report.html", *(f"paper/windows.{end}" for end in ("csv", "md", "png"))}


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
