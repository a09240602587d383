"""The job of Figure 5, the whole of it on a tiny model."""

from pathlib import Path

import mlflow
import pytest

from cluster.config import LocationsConfig
from cluster.paper.config import OcclusionConfig
from cluster.paper.occlusion_job import run_occlusion
from tests.experiments import FilesOf, ModelOf


def settings(
    job_locations: LocationsConfig, model: Path, shards: Path, run_name: str, **others: int
) -> OcclusionConfig:
    return OcclusionConfig(
        locations=job_locations,
        model=str(model),
        data=str(shards),
        run_name=run_name,
        num_examples=2,
        **others,
    )


def test_the_job(
    shards: Path,
    job_locations: LocationsConfig,
    model_of: ModelOf,
    client: mlflow.MlflowClient,
    files_of: FilesOf,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = run_occlusion(settings(job_locations, model_of("frozen"), shards, "occlusion"))
    assert line["num_faces"] == 2
    for group in ("covered", "not_covered"):
        assert set(line[group]) == {"iCNN", "STN-iCNN*", "STN-iCNN*, set size", "average face"}
        assert 0 <= line[group]["iCNN"]["share_inside"] <= 1
        assert line[group]["iCNN"]["error_px"] != line[group]["STN-iCNN*"]["error_px"]
    assert sum(line["covered_whole_by"].values()) == 4
    assert "| covered | 4 | STN-iCNN\\* |" in capsys.readouterr().out
    left = files_of("occlusion")
    rows = left.rows("occlusion.csv")
    assert len(rows) == 3 * 4 * 7
    (row,) = (r for r in rows if (r["parts"], r["cropper"], r["part"]) ==
              ("covered", "iCNN", "all"))  # fmt: skip
    assert float(row["error_px"]) == line["covered"]["iCNN"]["error_px"]
    assert float(row["error_px_low"]) <= float(row["error_px"]) <= float(row["error_px_high"])
    of_faces = [r for r in left.rows("occlusion_per_face.csv") if r["cropper"] == "iCNN"]
    errors = [float(r["error_px"]) for r in of_faces if r["covered"] == "1"]
    assert len(errors) == 4
    assert sum(errors) / 4 == pytest.approx(line["covered"]["iCNN"]["error_px"], abs=1e-3)
    text = left.text("occlusion.md")
    for picture in ("occlusion.png", "occlusion_examples.png"):
        assert f"({picture})" in text
        left.assert_pictures(picture)
    metrics = client.get_run(line["run_id"]).data.metrics
    assert metrics["occlusion/covered_error_px_icnn"] == line["covered"]["iCNN"]["error_px"]
    left.assert_published(line["run_id"])
    note = client.get_run(line["run_id"]).data.tags["mlflow.note.content"]
    assert note.startswith("**share of a covered part's pixels in its window: iCNN ")


@pytest.mark.slow
def test_a_model_that_can_not_parse_yet_is_not_named_to_parse_with(
    shards: Path,
    job_locations: LocationsConfig,
    model_of: ModelOf,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_occlusion(settings(job_locations, model_of("localizer"), shards, "unready", num_faces=1))
    assert "stn-icnn parse" not in capsys.readouterr().out
    run_occlusion(settings(job_locations, model_of("frozen"), shards, "ready", num_faces=1))
    assert f"stn-icnn parse PHOTO --model {model_of('frozen')} " in capsys.readouterr().out


@pytest.mark.slow
def test_only_the_first_faces_are_taken_if_asked_for(
    shards: Path, job_locations: LocationsConfig, model_of: ModelOf
) -> None:
    job = settings(job_locations, model_of("end_to_end"), shards, "one", num_faces=1, num_covered=1)
    assert run_occlusion(job)["num_faces"] == 1


def test_a_model_without_a_trained_localizer_is_refused(
    shards: Path, job_locations: LocationsConfig, model_of: ModelOf
) -> None:
    for phase in ("baseline", "coarse"):
        job = settings(job_locations, model_of(phase), shards, f"no-{phase}")
        message = f"of the phase {phase}, but .* needs localizer .* of the phase localizer or"
        with pytest.raises(ValueError, match=message):
            run_occlusion(job)


def test_bad_settings_are_refused() -> None:
    for num in (0, 6):
        with pytest.raises(ValueError, match=f"num_covered must be 1 to 5, got {num}"):
            OcclusionConfig(model="m", data="d", num_covered=num)
    with pytest.raises(ValueError, match="num_faces must be at least 1, or none for all, got 0"):
        OcclusionConfig(model="m", data="d", num_faces=0)
