"""A training of seconds on procedural faces, as a rig's driver runs it, and what it has left."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from sharding.packing.building import Recipe, build
from sharding.procedural.raw_faces import write_faces
from stn_icnn.config import AugmentConfig, ModelConfig, OptimConfig, TrainConfig

Figures = dict[str, list[list[float]]]
"""Steps and values of metrics by their names."""
PHASES = ("coarse", "localizer", "end_to_end")


def small_config(epochs: int, checkpoint_every_steps: int) -> TrainConfig:
    """Settings of a small model."""
    return TrainConfig(
        model=ModelConfig(
            coarse_px=32,
            window_px={"brow": 33, "eye": 33, "nose": 41, "mouth": 49},
            patch_px={"brow": 17, "eye": 17, "nose": 21, "mouth": 25},
        ),
        augment=AugmentConfig(rotation_deg=5, shift=0.05, scale_min=0.95, scale_max=1.05),
        optim=OptimConfig(
            lr_coarse=5e-3,
            lr_localizer=2e-3,
            lr_fine=1e-2,
            global_batch=4,
            epochs_coarse=epochs,
            epochs_localizer=1,
            epochs_end_to_end=epochs,
        ),
        checkpoint_every_steps=checkpoint_every_steps,
        precision="fp32",
    )


def prepare(folder: Path, config: TrainConfig, num_faces: int = 60) -> list[str]:
    """Draws faces, shards them, and writes the settings; returns the command line up to options."""
    write_faces("helen", num_faces, folder / "raw", size_px=96, workers=1)
    build(folder / "raw", folder / "shards", Recipe(layout="helen"))
    file = write_config(folder / "config.json", config)
    given = {"--config": file, "--data": folder / "shards"}
    return ["jobs/e2e.py", *(str(word) for option in given.items() for word in option)]


def write_config(file: Path, config: TrainConfig) -> Path:
    """Writes settings as a file for `--config`, and returns it."""
    file.write_text(json.dumps(asdict(config)))
    return file


def result(log: str) -> dict[str, Any]:
    """The last line of a job that has come to its end."""
    lines = [line for line in log.splitlines() if line.startswith('{"run_id"')]
    return json.loads(lines[-1])


def figures(client: MlflowClient, run_id: str) -> Figures:
    """All that a run and its phases have logged but times and machines: values with their steps."""
    job = client.get_run(run_id)
    children = client.search_runs(
        [job.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'"
    )
    found: Figures = {}
    for run in [job, *children]:
        name = str(run.info.run_name).removeprefix(str(job.info.run_name))
        for metric in run.data.metrics:
            if not _is_of_the_machine(metric):
                history = client.get_metric_history(run.info.run_id, metric)
                found[f"{name}:{metric}"] = [[one.step, one.value] for one in history]
    return found


def _is_of_the_machine(metric: str) -> bool:
    words = ("seconds", "images_per_second", "data_wait", "system/", "minutes", "train/workers")
    return any(word in metric for word in words)


def logged_twice(found: Figures) -> list[str]:
    """The names of those that have a step more than once."""
    steps = {name: [step for step, _ in values] for name, values in found.items()}
    return [name for name, ones in steps.items() if len(ones) != len(set(ones))]


if __name__ == "__main__":
    print(json.dumps(figures(MlflowClient(sys.argv[1]), sys.argv[2])))
