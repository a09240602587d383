"""The weights that a training begins with."""

from collections.abc import Sequence

import torch

from stn_icnn.config import ModelConfig, TrainConfig
from stn_icnn.labels import LabelSet
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
        networks: those that are taken from the other, one of the fine networks as `fine.NAME`;
            None: all that it has trained. Its finder is taken in any case, where both have one of
            the same classes.

    Raises:
        ValueError: naming the network that these settings do not fit.
    """
    torch.manual_seed(config.seed)
    model = build_model(config.model)
    if start is None:
        return model
    names = list(PHASES[start.phase].trained_networks if networks is None else networks)
    if start.model.finds_faces and "finder" in shared_networks(start.config.model, config.model):
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


def shared_networks(one: ModelConfig, other: ModelConfig) -> tuple[str, ...]:
    """Returns the networks that two models have in common as far as their classes are concerned.

    Args:
        one: the settings of a model.
        other: those of the other.

    Returns:
        `coarse`, where both label the same classes; `localizer` and `finder`, where both have the
        same parts of the same classes; and as `fine.NAME` each fine network that labels the same.
    """
    ours, theirs = one.label_set, other.label_set
    same_parts = _located(ours) == _located(theirs)
    shared = {
        "coarse": _names(ours, ours.model_classes) == _names(theirs, theirs.model_classes),
        "localizer": same_parts,
        **{f"fine.{name}": _fine(ours, name) == _fine(theirs, name) for name in ours.fine_networks},
        "finder": same_parts and one.finder_px > 0 and other.finder_px > 0,
    }
    return tuple(name for name, is_shared in shared.items() if is_shared)


def _names(label_set: LabelSet, classes: Sequence[int]) -> list[str]:
    return [label_set.class_names[i] for i in classes]


def _located(label_set: LabelSet) -> list[object]:
    """Returns the names of the classes and parts that a localizer has to do with."""
    parts = [(part.name, part.classes) for part in label_set.parts]
    return [*_names(label_set, label_set.located_classes), *parts]


def _fine(label_set: LabelSet, network: str) -> list[tuple[tuple[str, ...], bool]]:
    """Returns the classes of the parts that a fine network labels, and whether it mirrors them."""
    parts = (label_set.parts[i] for i in label_set.parts_of_network.get(network, ()))
    return [(part.classes, part.mirrored) for part in parts]
