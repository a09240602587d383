"""The job of Figures 7 and 8, on small faces and small patches."""

from pathlib import Path

import mlflow
import pytest

from cluster.config import LocationsConfig
from cluster.paper.config import ParityConfig
from cluster.paper.face_samples import load_face_samples
from cluster.paper.parity_job import run_parity
from tests.experiments import FilesOf


def test_odd_sizes_are_exact_and_even_ones_are_not(
    shards: Path,
    job_locations: LocationsConfig,
    client: mlflow.MlflowClient,
    files_of: FilesOf,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = ParityConfig(
        locations=job_locations,
        data=str(shards),
        num_faces=2,
        patch_px=(16, 17, 33),
        run_name="parity",
    )
    line = run_parity(config)
    largest = line["largest_difference"]
    assert largest["17"] == largest["33"] == 0
    assert largest["16"] > 5
    printed = capsys.readouterr().out
    assert f"| 16 | pixel | {largest['16']} |" in printed
    assert "| 17 | pixel | 0 | 0.0% |" in printed
    left = files_of("parity")
    rows = {(row["patch_px"], row["centred_on"]): row for row in left.rows("parity.csv")}
    assert int(rows["16", "pixel"]["largest"]) == largest["16"]
    assert int(rows["16", "corner"]["largest"]) == 0
    assert int(rows["17", "corner"]["largest"]) > 5
    assert float(rows["17", "pixel"]["largest_unrounded"]) < 2e-4 * 255
    assert "| 17 | pixel | 0 |" in left.text("parity.md")
    left.assert_pictures("parity.png", "parity_grid.png")
    run_id = line["run_id"]
    assert client.get_run(run_id).data.metrics["parity/largest_16"] == largest["16"]
    left.assert_published(run_id)


def test_faces_are_drawn_where_none_are_given() -> None:
    faces = load_face_samples(None, "test", 1)
    assert (faces.dataset, faces.fingerprint) == ("procedural", None)
    assert [sample.images.shape for sample in faces.samples] == [(1, 3, 512, 512)]
    assert faces.samples[0].present is not None
    assert bool(faces.samples[0].present.any())


def test_no_more_faces_than_asked_for_and_no_fewer_than_there_are(shards: Path) -> None:
    assert len(load_face_samples(str(shards), "train", 5).samples) == 5
    assert len(load_face_samples(str(shards), "test", 5).samples) == 2


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="patch_px must be one or more sides of at least 1 px"):
        ParityConfig(patch_px=())
    with pytest.raises(ValueError, match="patch_px must be"):
        ParityConfig(patch_px=(0, 5))
    with pytest.raises(ValueError, match="num_faces must be at least 1, got 0"):
        ParityConfig(num_faces=0)
