"""The phases that the paper compares its model with, and what a phase goes on from."""

from dataclasses import replace
from typing import get_args

import pytest
import torch

from stn_icnn.config import LossConfig, OptimConfig, TrainConfig, same_size
from stn_icnn.context import LocalContext
from stn_icnn.networks.centroid_cropper import CentroidCropper
from stn_icnn.networks.checkpoint import Checkpoint
from stn_icnn.networks.model import STNiCNN, build_model
from stn_icnn.training.initialization import initialize_model
from stn_icnn.training.loop import run_phase
from stn_icnn.training.phases import (
    PHASES,
    SYSTEMS,
    PhaseName,
    System,
    phases_up_to,
    require_usable,
)
from tests.phase_runs import FACTS, phase_run, with_finder


def trained_model(config: TrainConfig, phase: PhaseName) -> Checkpoint:
    """A model with weights that no seed of 0 draws."""
    torch.manual_seed(7)
    return Checkpoint(build_model(config.model), config, FACTS, phase)


def drawn(model: STNiCNN) -> dict[str, torch.Tensor]:
    """Weights that are drawn at random, so that those of two models tell which is which."""
    weights = {name: p for name, p in model.state_dict().items() if p.dim() > 1}
    return {name: p for name, p in weights.items() if name != "finder.mean_face"}


def shared_networks(a: STNiCNN, b: STNiCNN) -> set[str]:
    theirs = drawn(b)
    return {
        name.split(".")[0]
        for name, weights in drawn(a).items()
        if name in theirs and weights.equal(theirs[name])
    }


def test_every_phase_has_a_row_and_settings_that_there_are() -> None:
    assert set(PHASES) == set(get_args(PhaseName))
    assert tuple(SYSTEMS) == get_args(System)
    optim = OptimConfig()
    for phase in PHASES.values():
        assert phase.num_epochs(optim) > 0
        assert set(phase.learning_rates(optim)) == set(phase.rates)


@pytest.mark.parametrize(
    ("phase", "chain", "trained"),
    [
        ("coarse", "coarse", "coarse"),
        ("localizer", "coarse localizer", "coarse localizer"),
        ("fine", "fine", "fine"),
        ("baseline", "coarse baseline", "coarse fine"),
        ("frozen", "coarse localizer frozen", "coarse localizer fine"),
        ("end_to_end", "coarse localizer end_to_end", "coarse localizer fine"),
        ("finder", "coarse localizer end_to_end finder", "coarse localizer fine finder"),
    ],
)
def test_what_leads_to_a_phase_and_is_trained_by_its_end(
    phase: PhaseName, chain: str, trained: str
) -> None:
    assert phases_up_to(phase) == tuple(chain.split())
    assert PHASES[phase].trained_networks == tuple(trained.split())


@pytest.mark.parametrize(
    ("setting", "phases"),
    [
        ("model.coarse_px", "coarse localizer baseline frozen end_to_end"),
        ("model.learn_scale", "localizer frozen end_to_end"),
        ("model.patch_px.eye", "fine baseline frozen end_to_end"),
        ("augment.window_shift", "fine baseline frozen end_to_end"),
        ("optim.lr_coarse", "coarse"),
        ("optim.lr_coarse_end_to_end", "end_to_end"),
        ("optim.lr_fine", "fine baseline frozen end_to_end"),
        ("optim.freeze_pretrained_stats", "end_to_end"),
        ("loss.coarse_weight", "end_to_end"),
        ("optim.lr_finder", "finder"),
        ("model.finder_px", "finder"),
        ("optim.global_batch", "coarse localizer fine baseline frozen end_to_end finder"),
    ],
)
def test_phases_in_which_a_setting_has_an_effect(setting: str, phases: str) -> None:
    assert [row.name for row in PHASES.values() if row.uses(setting)] == phases.split()


def test_a_better_epoch_has_a_higher_score() -> None:
    assert PHASES["coarse"].score({"val/loss": 9.0, "val/f1_overall": 0.5}) == 0.5
    assert PHASES["coarse"].score({"val/loss": 9.0}) == 0
    assert PHASES["localizer"].score({"val/loss": 0.5}) == -0.5


def test_frozen_and_baseline_have_no_loss_but_the_fine_networks(tiny_config: TrainConfig) -> None:
    config = replace(tiny_config, loss=LossConfig(coarse_weight=1, localizer_weight=10))
    assert PHASES["end_to_end"].settings(config) == config
    assert PHASES["frozen"].settings(config) == replace(config, loss=LossConfig())
    baseline = PHASES["baseline"].settings(config)
    assert baseline.loss == LossConfig()
    assert baseline.model == replace(config.model, cropper="centroid")


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["frozen", "baseline"])
def test_only_the_fine_networks_change(
    phase: PhaseName, tiny_config: TrainConfig, tiny_faces
) -> None:
    config = PHASES[phase].settings(tiny_config)
    torch.manual_seed(0)
    model = build_model(config.model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    context = LocalContext()
    run_phase(phase_run(phase, config, tiny_faces, context), model)
    changed = {
        name.split(".")[0]
        for name, value in model.state_dict().items()
        if not value.equal(before[name])
    }
    assert changed == {"fine"}, "weights and batch norm's statistics of the others stay"
    assert len(context.reports) == tiny_config.optim.epochs_end_to_end
    assert "val/f1_overall" in context.reports[-1].metrics


def test_networks_are_resumed_into_other_settings(tiny_config: TrainConfig) -> None:
    """Windows of other sizes fit the same networks; they are those of the new settings."""
    start = trained_model(tiny_config, "end_to_end")
    model = replace(tiny_config.model, window_px=same_size(61))
    ours = initialize_model(start, replace(tiny_config, model=model))
    assert ours.config.window_px == same_size(61)
    assert shared_networks(ours, start.model) == {"coarse", "localizer", "fine"}


def test_a_trained_finder_is_taken_along_with_its_mean_face_whatever_the_phase(
    tiny_config: TrainConfig,
) -> None:
    config = with_finder(tiny_config)
    start = trained_model(config, "end_to_end")
    assert shared_networks(initialize_model(start, config), start.model) == {
        "coarse", "localizer", "fine"
    }  # fmt: skip
    assert start.model.finder is not None
    start.model.finder.average(torch.rand(2, 6, 2), torch.ones(2, 6, dtype=torch.bool))
    ours = initialize_model(start, config, ["coarse"])
    assert shared_networks(ours, start.model) == {"coarse", "finder"}
    assert ours.finder is not None
    assert ours.finder.mean_face.equal(start.model.finder.mean_face)
    assert ours.finds_faces
    assert initialize_model(start, tiny_config).finder is None, "where it is not asked for"


def test_networks_that_a_phase_has_not_trained_begin_by_the_seed(tiny_config: TrainConfig) -> None:
    start = trained_model(tiny_config, "localizer")
    ours = initialize_model(start, tiny_config)
    assert shared_networks(ours, start.model) == {"coarse", "localizer"}
    assert shared_networks(ours, initialize_model(None, tiny_config)) == {"fine"}
    assert shared_networks(initialize_model(start, tiny_config, ["coarse"]), start.model) == {
        "coarse"
    }


def test_the_systems_of_a_seed_begin_with_the_same_fine_networks(tiny_config: TrainConfig) -> None:
    start = trained_model(tiny_config, "coarse")
    baseline = initialize_model(start, PHASES["baseline"].settings(tiny_config))
    assert isinstance(baseline.localizer, CentroidCropper)
    ours = initialize_model(start, tiny_config)
    assert shared_networks(baseline, ours) == {"coarse", "fine"}


@pytest.mark.parametrize(
    ("phase", "change", "network"),
    [
        ("localizer", {"coarse_px": 48}, "localizer"),
        ("coarse", {"kernel_size": 5}, "coarse"),
        ("end_to_end", {"cropper": "centroid"}, "localizer"),
    ],
)
def test_a_network_that_does_not_fit_is_named(
    phase: PhaseName, change: dict, network: str, tiny_config: TrainConfig
) -> None:
    start = trained_model(tiny_config, phase)
    config = replace(tiny_config, model=replace(tiny_config.model, **change))
    with pytest.raises(ValueError, match=f"the {network} network to start from was made for other"):
        initialize_model(start, config)


@pytest.mark.parametrize("phase", PHASES)
def test_a_model_is_usable_where_all_networks_that_it_uses_are_trained(
    phase: str, tiny_config: TrainConfig
) -> None:
    """The baseline cuts its windows around centroids, and has no localizer to train."""
    model = PHASES[phase].settings(tiny_config).model
    if PHASES[phase].system or phase == "finder":
        require_usable("it", "parsing", phase, model)
        return
    with pytest.raises(ValueError, match=f"it is a model of the phase {phase}, but parsing needs"):
        require_usable("it", "parsing", phase, model)
