"""A tracking store and models that the experiments' tests share."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import torch

from cluster.config import LocationsConfig
from stn_icnn.config import TrainConfig
from stn_icnn.networks.checkpoint import Checkpoint, DataFacts, save_checkpoint
from stn_icnn.networks.model import build_model
from stn_icnn.training.phases import PHASES, PhaseName
from tests.experiments import FilesOf, LeftFiles, ModelOf


@pytest.fixture(scope="session")
def job_locations(
    tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[Path], str]
) -> LocationsConfig:
    """Storage and a tracking store for the jobs."""
    folder = tmp_path_factory.mktemp("paper")
    return LocationsConfig(storage=str(folder / "storage"), tracking_uri=new_store(folder))


@pytest.fixture(scope="session")
def client(job_locations: LocationsConfig) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(tracking_uri=job_locations.tracking_uri)


@pytest.fixture(scope="session")
def files_of(job_locations: LocationsConfig, client: mlflow.MlflowClient) -> FilesOf:
    """files_of(run_name): what a run has left."""
    return lambda name: LeftFiles(Path(str(job_locations.storage)) / name, client)


@pytest.fixture(scope="session")
def model_of(tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> ModelOf:
    """model_of(phase): the file of a model that says it has come through that phase."""
    folder = tmp_path_factory.mktemp("models")

    def model(phase: PhaseName) -> Path:
        torch.manual_seed(7)  # not the config's: a model that is built anew differs
        config = PHASES[phase].settings(replace(tiny_config, precision="fp32"))
        data = DataFacts(dataset="helen", fingerprint="abc", scale_px=1024, scale_fit="at_most")
        path = folder / f"{phase}.pt"
        save_checkpoint(path, Checkpoint(build_model(config.model), config, data, phase))
        return path

    return model
