"""The model that a training goes on from: fetched, checked, and named in what comes of it."""

from dataclasses import dataclass
from typing import Self

from cluster.tracking.stored_models import FetchedModel
from cluster.training.worker import Start
from stn_icnn.checks import require
from stn_icnn.config import TrainConfig
from stn_icnn.training.initialization import initialize_model, shared_networks
from stn_icnn.training.phases import PHASES

NETWORKS = PHASES["end_to_end"].trained_networks


@dataclass(frozen=True)
class Parent(FetchedModel):
    """A model whose networks are all trained, but for a finder, that a training goes on from."""

    @classmethod
    def open(cls, given: str, tracking_uri: str | None = None) -> Self:
        """Fetches the model, and refuses one that lacks a trained network.

        Args:
            given: a checkpoint file or folder, `runs:/…` or `models:/…`.
            tracking_uri: the tracking store's address, as `resolve_tracking_uri` takes it.

        Raises:
            ValueError: where there is none, or it lacks a trained network.
            TrackingUnavailableError: where the tracking server does not answer.
        """
        return cls.fetch_trained(given, tracking_uri, "--from", NETWORKS)

    @property
    def tags(self) -> dict[str, str | None]:
        """The tags of runs and models that come from it; None for what is not known."""
        data = self.checkpoint.data
        return {
            "parent_model": self.given,
            "parent_run_id": self.run_id,
            "parent_dataset": data.dataset,
            "parent_data_fingerprint": data.fingerprint,
            "parent_sha256": self.sha256,
        }

    def shared(self, config: TrainConfig) -> tuple[str, ...]:
        """Returns the model's networks that a training goes on from, as `shared_networks` does."""
        return shared_networks(self.checkpoint.config.model, config.model)

    def start(self, config: TrainConfig) -> Start:
        """Returns the start of a phase: all of the model's networks, or those that are shared."""
        return Start(self.content, self.shared(config))

    def require_fit(self, config: TrainConfig) -> None:
        """Refuses settings that the model's networks do not fit, or that ask for another finder.

        Networks that label other classes than the settings are not asked to fit.

        Raises:
            ValueError: naming the network and the settings.
        """
        finder_px, own = config.model.finder_px, self.checkpoint.config.model.finder_px
        has = f"{own}, as the model's, or 0" if own else "0, as the model has no finder"
        wanted = f"{has} (jobs/finder.py trains one)"
        require(finder_px in (0, own), "model.finder_px", wanted, finder_px)
        initialize_model(self.checkpoint, config, self.shared(config))
