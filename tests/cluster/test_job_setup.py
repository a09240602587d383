"""How a job begins: the name of its run."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster.config import LocationsConfig
from cluster.job_setup import open_job


@pytest.mark.parametrize("name", ["a/b", "..", "-a", "a b", "models:/a"])
def test_a_run_name_that_can_name_no_folder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"run_name must be letters, digits, .* got"):
        open_job(LocationsConfig(), name, "trial")


@pytest.fixture
def locations(tmp_path: Path) -> LocationsConfig:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    return LocationsConfig(storage=str(tmp_path / "storage"), tracking_uri=uri)


@pytest.mark.slow
def test_a_run_without_a_name_gets_one_of_its_own(locations: LocationsConfig) -> None:
    names = [open_job(locations, None, "trial").run_name for _ in range(2)]
    assert all(name.startswith("trial-") for name in names)
    assert names[0] != names[1]


@pytest.mark.slow
def test_a_run_keeps_the_name_that_it_is_given(locations: LocationsConfig) -> None:
    environment = open_job(locations, "mine", "trial")
    assert environment.run_name == "mine"
    assert environment.run_storage.url == f"{locations.storage}/mine"


@pytest.mark.slow
def test_a_run_without_a_name_may_begin_with_the_words_of_a_config_file(
    locations: LocationsConfig,
) -> None:
    name = open_job(locations, None, "sweep-settings of my best.json").run_name
    assert name.startswith("sweep-settings-of-my-best.json-")


def test_the_password_of_the_tracking_address_is_not_printed(
    locations: LocationsConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = SimpleNamespace(uri="http://u:secret@mlflow:5000")
    monkeypatch.setattr("cluster.job_setup.Tracker.connect", lambda *places: tracker)
    open_job(locations, "mine", "trial")
    assert "tracking http://u:***@mlflow:5000\n" in capsys.readouterr().out
