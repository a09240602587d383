"""The weights that a training begins with."""

from collections.abc import Sequence

import torch

from stn_icnn.config import TrainConfig
from stn_icnn.networks.checkpoint import Checkpoint
from stn_icnn.networks.model import STNiCNN, build_model
from stn_icnn.training.phases import PHASES


def initialize_model(
    start: Checkpoint | None, config: TrainConfig, networks: Sequence[str] | None = None
) -> STNiCNN:
    """Builds a model, with the weights of networks that another has trained.

    Args:
        start: the other model; None: all networks are freshly initialized.
        config: the settings of the new model. Its seed initializes the networks that are not taken
            from the other.
        networks: those that are taken from the other; None: all that it has trained. Its finder
            is taken in any case, where both have one.

    Raises:
        ValueError: naming the network that these settings do not fit.
    """
    torch.manual_seed(config.seed)
    model = build_model(config.model)
    if start is None:
        return model
    names = list(PHASES[start.phase].trained_networks if networks is None else networks)
    if start.model.finds_faces and model.finder is not None:
        names.append("finder")  # whatever the phase: a finished model may be trained further
    for name in dict.fromkeys(names):
        taken = start.model.get_submodule(name).state_dict()
        try:
            model.get_submodule(name).load_state_dict(taken)
        except RuntimeError as error:
            raise ValueError(
                f"the {name} network to start from was made for other settings (model.coarse_px, "
                "model.kernel_size, model.learn_scale, model.cropper): keep its, or train that "
                f"network anew: {error}"
            ) from error
    return model
