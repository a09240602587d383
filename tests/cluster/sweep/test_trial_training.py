"""What a trial starts from: without Ray's cluster."""

import io

import pytest
import torch

from cluster.sweep.trial_training import require_trained_start
from stn_icnn.config import TrainConfig
from stn_icnn.networks.checkpoint import Checkpoint, DataFacts, load_checkpoint, save_checkpoint
from stn_icnn.networks.model import build_model
from stn_icnn.training.initialization import initialize_model
from stn_icnn.training.phases import PhaseName

FACTS = DataFacts(dataset="helen", fingerprint="f", scale_px=1024, scale_fit="at_most")


def model_of(phase: PhaseName, config: TrainConfig) -> bytes:
    torch.manual_seed(1)
    content = io.BytesIO()
    save_checkpoint(content, Checkpoint(build_model(config.model), config, FACTS, phase, {}))
    return content.getvalue()


@pytest.mark.parametrize(
    ("start", "phases"),
    [
        (None, "fine"),
        (None, "coarse localizer end_to_end"),
        (None, "coarse localizer fine end_to_end"),
        ("coarse", "localizer end_to_end"),
        ("localizer", "end_to_end"),
        ("localizer", "fine end_to_end"),
        ("end_to_end", "end_to_end"),
        ("fine", "fine"),
        ("fine", "coarse localizer end_to_end"),
    ],
)
def test_phases_whose_networks_are_trained_by_then_are_taken(
    start: PhaseName | None, phases: str, tiny_config: TrainConfig
) -> None:
    require_trained_start(phases.split(), start and model_of(start, tiny_config))


@pytest.mark.parametrize(
    ("start", "phases", "missing"),
    [
        (None, "localizer", "localizer needs coarse trained"),
        (None, "coarse end_to_end", "end_to_end needs localizer trained"),
        (None, "fine end_to_end", "needs coarse and localizer trained"),
        ("coarse", "end_to_end", "end_to_end needs localizer trained"),
        ("fine", "end_to_end", "needs coarse and localizer trained"),
    ],
)
def test_phases_that_would_go_on_from_nothing_are_refused(
    start: PhaseName | None, phases: str, missing: str, tiny_config: TrainConfig
) -> None:
    with pytest.raises(ValueError, match=missing):
        require_trained_start(phases.split(), start and model_of(start, tiny_config))


def test_of_a_model_of_the_phase_fine_the_fine_networks_are_taken(tiny_config: TrainConfig) -> None:
    start = model_of("fine", tiny_config)
    theirs = load_checkpoint(start).model.state_dict()
    ours = initialize_model(load_checkpoint(start), tiny_config).state_dict()
    drawn = [name for name, value in ours.items() if value.dim() > 1]
    same = {name.split(".")[0] for name in drawn if ours[name].equal(theirs[name])}
    assert same == {"fine"}
