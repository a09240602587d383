"""What an experiment of the paper has left, as its tests look at it."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlflow
from PIL import Image

from stn_icnn.training.phases import PhaseName

ModelOf = Callable[[PhaseName], Path]
"""A function that returns the file of a model that says it has come through a phase."""


@dataclass(frozen=True)
class LeftFiles:
    """The files of a run, in storage and in MLflow."""

    folder: Path
    client: mlflow.MlflowClient

    def text(self, name: str) -> str:
        return (self.folder / name).read_text()

    def rows(self, name: str) -> list[dict[str, str]]:
        """The rows of a CSV file."""
        with (self.folder / name).open(newline="") as file:
            return list(csv.DictReader(file))

    def assert_pictures(self, *names: str) -> None:
        """Asserts that there are pictures, large enough to be looked at."""
        for name in names:
            with Image.open(self.folder / name) as image:
                assert min(image.size) > 300

    def assert_published(self, run_id: str) -> None:
        """Asserts that MLflow has the same files, but for the record."""
        kept = {artifact.path for artifact in self.client.list_artifacts(run_id, "paper")}
        files = {path.name for path in self.folder.iterdir()} - {"experiment.json"}
        assert kept == {f"paper/{name}" for name in files}


FilesOf = Callable[[str], LeftFiles]
"""A function that returns the files of a run, by the run's name."""
