"""What tests ask MLflow and the storage about a sweep."""

from pathlib import Path

import mlflow

from cluster.sweep.config import SweepJobConfig
from cluster.sweep.sweep_record import Trial, load_trials
from stn_icnn.storage import Folder

NUM_EPOCHS = 3
"""The epochs of a trial."""


def children(settings: SweepJobConfig, run_id: str) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(tracking_uri=settings.locations.tracking_uri)
    run = client.get_run(run_id)
    found = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    return sorted(found, key=lambda child: child.info.run_name)


def trials_of(settings: SweepJobConfig, run_name: str) -> list[Trial]:
    return load_trials(Folder(Path(str(settings.locations.storage), run_name)))
