"""The settings of the finder's job: the model's own, and nothing that would change more of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.finder.config import FINDER_PX, finder_settings, require_own_networks
from cluster.training.parent import Parent
from jobs.options import parse_finder_training
from stn_icnn.config import TrainConfig, same_size
from stn_icnn.networks.checkpoint import load_checkpoint, save_checkpoint
from stn_icnn.networks.model import build_model
from stn_icnn.presets import PRESETS


def test_settings_are_the_model_s_with_a_finder(tiny_config: TrainConfig) -> None:
    training = finder_settings(tiny_config).training
    assert training == replace(tiny_config, model=replace(tiny_config.model, finder_px=FINDER_PX))
    tuned = PRESETS["celebamask-tuned"]()
    assert tuned.model.finder_px == FINDER_PX, "as the shipped model's"
    small = replace(tuned, model=replace(tuned.model, finder_px=96))
    assert finder_settings(small).training == small, "one that it has keeps its size"


def test_options_go_over_the_model_s_settings(tiny_parent: Path) -> None:
    settings, parent = parse_finder_training(
        "A job.",
        [
            *("--from", str(tiny_parent), "--data", "x", "--model.finder-px", "64"),
            *("--optim.epochs-finder", "3", "--optim.lr-finder", "1e-3"),
        ],
    )
    assert (parent.given, settings.data) == (str(tiny_parent), "x")
    training = settings.training
    assert (training.model.finder_px, training.optim.epochs_finder) == (64, 3)
    assert training.optim.lr_finder == 1e-3
    assert training.model.window_px == parent.checkpoint.config.model.window_px


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"finder_px": 0}, r"model\.finder_px must be at least 64, got 0"),
        ({"kernel_size": 5}, r"model\.kernel_size must be 3, as the model's: its finder alone"),
        ({"window_px": same_size(61)}, r"model\.window_px\.\w+ must be \d+, as the model's"),
    ],
)
def test_what_would_change_its_other_networks_is_refused(
    change: dict, message: str, tiny_config: TrainConfig
) -> None:
    model = finder_settings(tiny_config).training.model
    require_own_networks(replace(model, canvas_px=2048), tiny_config.model)
    with pytest.raises(ValueError, match=message):
        require_own_networks(replace(model, **change), tiny_config.model)


def test_an_unfinished_model_gets_no_finder(tiny_model: Path) -> None:
    with pytest.raises(ValueError, match="phase coarse, but --from needs localizer and fine"):
        parse_finder_training("A job.", ["--from", str(tiny_model)])


def test_fine_tuning_adds_no_finder(tiny_parent: Path, tmp_path: Path) -> None:
    """It would be one that has learnt nothing; without one, or with one's own, it may be."""
    parent = Parent.open(str(tiny_parent))
    config = parent.checkpoint.config
    parent.require_fit(config)
    asked = replace(config, model=replace(config.model, finder_px=64))
    with pytest.raises(ValueError, match=r"must be 0, as the model has no finder \(jobs/finder"):
        parent.require_fit(asked)

    given = replace(load_checkpoint(tiny_parent), config=finder_settings(config).training)
    given = replace(given, model=build_model(given.config.model))
    save_checkpoint(tmp_path / "model.pt", given)
    own = Parent.open(str(tmp_path))
    own.require_fit(own.checkpoint.config)
    own.require_fit(config)
    with pytest.raises(ValueError, match=r"must be 128, as the model's, or 0 .*, got 64"):
        own.require_fit(asked)
