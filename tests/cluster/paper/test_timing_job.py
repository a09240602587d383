"""The job that times both pipelines."""

from pathlib import Path

import mlflow
import pytest

from cluster.config import LocationsConfig
from cluster.paper.config import TimingConfig
from cluster.paper.timing_job import run_timing
from stn_icnn.training.phases import PhaseName
from tests.experiments import FilesOf, ModelOf


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "system", "metric"),
    [("end_to_end", "STN-iCNN", "STN-iCNN"), ("frozen", "STN-iCNN*", "STN-iCNN")],
)
def test_the_job(
    phase: PhaseName,
    system: str,
    metric: str,
    shards: Path,
    job_locations: LocationsConfig,
    model_of: ModelOf,
    client: mlflow.MlflowClient,
    files_of: FilesOf,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stn_icnn.studies.timing.LEAST_S", 0.0)
    config = TimingConfig(
        locations=job_locations,
        model=str(model_of(phase)),
        data=str(shards),
        num_faces=2,
        rounds=3,
        run_name=f"timing-{phase}",
    )
    line = run_timing(config)
    assert set(line["ms_a_face"]) == {"iCNN", system}
    assert "undelivered" not in line
    assert all(set(of_system) == {"1", "2"} for of_system in line["ms_a_face"].values())
    left = files_of(f"timing-{phase}")
    rows = left.rows("timing.csv")
    alone = sorted(
        float(row["ms_a_face"])
        for row in rows
        if (row["system"], row["faces_at_a_time"]) == (system, "1")
    )
    assert len(rows) == 2 * 2 * 3
    assert line["ms_a_face"][system]["1"] == alone[1] > 0
    text = left.text("timing.md")
    name = system.replace("*", r"\*")
    assert f"| {name} | 1 | {alone[1]:.1f} | {alone[0]:.1f} | {alone[2]:.1f} | 80 |" in text
    left.assert_pictures("timing.png")
    metrics = client.get_run(line["run_id"]).data.metrics
    assert metrics[f"timing/{metric}_1_ms"] == alone[1]
    capsys.readouterr()
    assert run_timing(config) == line
    assert "timing: finished before" in capsys.readouterr().out


def test_a_model_without_a_localizer_is_refused(
    shards: Path, job_locations: LocationsConfig, model_of: ModelOf
) -> None:
    config = TimingConfig(
        locations=job_locations, model=str(model_of("baseline")), data=str(shards)
    )
    message = "of the phase baseline, but .* needs localizer .* of the phase frozen or end_to_end"
    with pytest.raises(ValueError, match=message):
        run_timing(config)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="num_faces must be at least 2, got 1"):
        TimingConfig(model="m", num_faces=1)
    with pytest.raises(ValueError, match="rounds must be at least 1, got 0"):
        TimingConfig(model="m", rounds=0)
