"""The model that a fine-tuning goes on from: fetched, checked, and known again."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from cluster.models import origin_of, resolve_model
from cluster.worker import Start
from stn_icnn.checkpoint import Checkpoint, find_model_file, load_checkpoint, started_from
from stn_icnn.config import TrainConfig
from stn_icnn.phases import TRAINED_BY

NETWORKS = TRAINED_BY["end_to_end"]


@dataclass(frozen=True)
class Parent:
    """A trained model."""

    given: str
    """As it was named."""
    model: bytes
    """Its file's content."""
    checkpoint: Checkpoint
    """The same, read."""
    run_id: str | None
    """Of the MLflow run that left it, where its name tells."""

    @classmethod
    def open(cls, given: str, tracking_uri: str | None = None) -> Self:
        """Fetches a model.

        Args:
            given: a checkpoint file or folder, `runs:/…` or `models:/…`.
            tracking_uri: as `resolve_tracking_uri` takes it.

        Raises:
            ValueError: where there is none, or it lacks a trained network.
            TrackingUnavailableError: where the tracking server does not answer.
        """
        model = find_model_file(resolve_model(given, tracking_uri)).read_bytes()
        checkpoint = load_checkpoint(model)
        missing = [name for name in NETWORKS if name not in TRAINED_BY[checkpoint.phase]]
        if missing:
            raise ValueError(
                f"--from needs a model whose {', '.join(NETWORKS)} networks are trained; {given} "
                f"is one of the phase {checkpoint.phase}, in which {' and '.join(missing)} were "
                "not: give the model of a finished run, or of its phase end_to_end"
            )
        return cls(given, model, checkpoint, origin_of(given, tracking_uri))

    @cached_property
    def sha256(self) -> str:
        """Of its file."""
        return hashlib.sha256(self.model).hexdigest()

    @property
    def tags(self) -> dict[str, str | None]:
        """What runs and models that come from it bear; None where a thing is not known."""
        data = self.checkpoint.data
        return {
            "parent_model": self.given,
            "parent_run_id": self.run_id,
            "parent_dataset": data.dataset,
            "parent_data_fingerprint": data.fingerprint,
            "parent_sha256": self.sha256,
        }

    @property
    def start(self) -> Start:
        """What the end-to-end phase goes on from: all of its networks."""
        return Start(self.model, NETWORKS)

    def require_fit(self, config: TrainConfig) -> None:
        """Refuses settings that its networks can't be taken up with.

        Raises:
            ValueError: naming the network and the settings.
        """
        started_from(self.checkpoint, config, NETWORKS)
