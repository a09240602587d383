"""What the job that scores a model refuses before it starts anything."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.config import LocationsConfig, ScoringJobConfig
from cluster.scoring.job import run_evaluation


def test_a_model_that_is_not_trained_to_its_end_is_refused(
    tiny_model: Path, shards: Path, tmp_path: Path, new_store: Callable[[Path], str]
) -> None:
    locations = LocationsConfig(storage=str(tmp_path / "runs"), tracking_uri=new_store(tmp_path))
    job = ScoringJobConfig(model=str(tiny_model), data=str(shards), locations=locations)
    with pytest.raises(ValueError, match="phase coarse, but scoring needs localizer and fine"):
        run_evaluation(job)
    assert not any((tmp_path / "runs").iterdir())


def test_faces_are_found_by_models_alone_that_have_a_finder(
    tiny_parent: Path, shards: Path, tmp_path: Path, new_store: Callable[[Path], str]
) -> None:
    locations = LocationsConfig(storage=str(tmp_path / "runs"), tracking_uri=new_store(tmp_path))
    job = ScoringJobConfig(
        model=str(tiny_parent), data=str(shards), framing="found", locations=locations
    )
    with pytest.raises(ValueError, match=r"framing must be whole for .*, which has no finder .*"):
        run_evaluation(job)
    assert not any((tmp_path / "runs").iterdir())
