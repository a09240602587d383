"""Settings: the paper's, what is refused, and the way to JSON and back."""

import json
from dataclasses import asdict, replace

import pytest

from stn_icnn.config import AugmentConfig, ModelConfig, OptimConfig, TrainConfig, same_size
from stn_icnn.config_dict import differences, from_dict
from stn_icnn.presets import PRESETS
from stn_icnn.training.phases import MODEL_PHASES, PHASES

# Table 1: Lr1, Lr2 of the pre-training; Lr1, Lr2, Lr3 of end-to-end; batch; patch of section 3.
TABLE_1 = {
    "helen": (0.0023, 0.0017, 1e-4, 1e-4, 1e-2, 32, 81),
    "celebamask": (1e-3, 1e-3, 1e-6, 1e-6, 1e-3, 64, 127),
}

SIZES = {"brow": 81, "eye": 81, "nose": 81, "mouth": 81}


@pytest.mark.parametrize("preset", TABLE_1)
def test_presets_hold_the_paper_s_table_1(preset: str):
    coarse, localizer, coarse_e2e, localizer_e2e, fine, batch, px = TABLE_1[preset]
    config = PRESETS[preset]()
    rates = {phase: PHASES[phase].learning_rates(config.optim) for phase in MODEL_PHASES}
    assert rates["coarse"] == {"coarse": coarse}
    assert rates["localizer"] == {"localizer": localizer}
    assert rates["end_to_end"] == {"coarse": coarse_e2e, "localizer": localizer_e2e, "fine": fine}
    assert [PHASES[phase].num_epochs(config.optim) for phase in MODEL_PHASES] == [25, 25, 25]
    assert config.optim.global_batch == batch
    assert (config.optim.schedule, config.optim.halve_every_epochs) == ("halving", 5)
    assert config.model.window_px == config.model.patch_px == same_size(px)
    assert config.model.coarse_px == 128


@pytest.mark.parametrize("preset", ["helen", "celebamask"])
def test_the_paper_s_presets_add_nothing_of_our_own(preset: str):
    config = PRESETS[preset]()
    ours = ("mirror", "colour", "window_shift", "window_scale")
    assert [getattr(config.augment, name) for name in ours] == [0, 0, 0, 0]
    assert (config.loss.coarse_weight, config.loss.localizer_weight) == (0, 0)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_config_survives_json(preset: str):
    config = PRESETS[preset]()
    assert from_dict(TrainConfig, json.loads(json.dumps(asdict(config)))) == config


def test_fields_that_are_not_given_keep_their_defaults():
    config = from_dict(TrainConfig, {"optim": {"lr_fine": 1}, "model": {"coarse_px": 64}})
    assert config.optim == OptimConfig(lr_fine=1)
    assert config.model == ModelConfig(coarse_px=64)
    assert config.augment == AugmentConfig()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optm": {}}, r"no such setting: optm; there are .*optim"),
        ({"optim": {"lr_fin": 1}}, r"no such setting: optim\.lr_fin; there are .*lr_fine"),
        (
            {"model": {"patch_px": SIZES | {"ear": 9}}},
            r"model\.patch_px must be .*no other, got .*ear",
        ),
        ({"model": {"patch_px": {"eye": 9}}}, r"model\.patch_px must be .* of brow, eye.*'eye': 9"),
        ({"model": {"patch_px": SIZES | {"eye": "9"}}}, r"model\.patch_px\.eye must be int, got 9"),
        ({"model": {"patch_px": SIZES | {"eye": True}}}, r"model\.patch_px\.eye must be int"),
        ({"model": {"window_px": 81}}, r"model\.window_px must be names with values, got 81"),
        ({"fine": {"networks": ["ear"]}}, r"fine\.networks must be .* of brow, eye.*, got ear"),
        ({"optim": {"lr_fine": "fast"}}, r"optim\.lr_fine must be float, got fast"),
        ({"optim": {"epochs_coarse": 2.5}}, r"optim\.epochs_coarse must be int, got 2.5"),
        ({"optim": {"schedule": "cosine"}}, r"optim\.schedule must be .*one_cycle.*, got cosine"),
        ({"precision": "fp64"}, r"precision must be .*bf16.*, got fp64"),
        ({"channels_last": "no"}, r"channels_last must be bool, got no"),
        ({"model": 3}, r"model must be .*, got 3"),
        ([1], r"settings must be .*, got \[1\]"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(values: dict, message: str):
    with pytest.raises(ValueError, match=message):
        from_dict(TrainConfig, values)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (
            ModelConfig,
            {"patch_px": SIZES | {"eye": 80}},
            r"model\.patch_px\.eye must be odd .*, got 80",
        ),
        (
            ModelConfig,
            {"window_px": SIZES | {"mouth": 513}, "canvas_px": 512},
            r"model\.window_px\.mouth must be .*canvas_px = 512, got 513",
        ),
        (ModelConfig, {"coarse_px": 65}, r"model\.coarse_px must be even .*, got 65"),
        (ModelConfig, {"kernel_size": 4}, r"model\.kernel_size must be odd, got 4"),
        (AugmentConfig, {"mirror": 1.5}, r"augment\.mirror must be a probability, got 1.5"),
        (AugmentConfig, {"copies": 2}, r"augment\.copies must be 1 or 5, got 2"),
        (AugmentConfig, {"scale_min": 1.3}, r"augment\.scale_min.* in order, got \(1\.3, 1\.2\)"),
        (OptimConfig, {"lr_fine": -1.0}, r"optim\.lr_fine must be 0 or more, and finite, got -1"),
        (
            OptimConfig,
            {"lr_fine": float("nan")},
            r"optim\.lr_fine must be 0 or more, and finite, got nan",
        ),
        (OptimConfig, {"epochs_coarse": 0}, r"optim\.epochs_coarse must be more than 0, got 0"),
        (TrainConfig, {"seed": -1}, r"seed must be 0 or more, got -1"),
        (OptimConfig, {"global_batch": 0}, r"optim\.global_batch must be at least 1, got 0"),
        (TrainConfig, {"validate_every_epochs": 0}, r"validate_every_epochs must be at least 1"),
        (TrainConfig, {"checkpoint_every_steps": -1}, r"checkpoint_every_steps must be 0 or more"),
    ],
)
def test_values_out_of_range_are_refused_by_name(kind: type, values: dict, message: str):
    with pytest.raises(ValueError, match=message):
        kind(**values)


def test_a_network_at_rate_0_is_not_trained():
    optim = OptimConfig(lr_coarse_end_to_end=0, lr_localizer_end_to_end=0, lr_fine=0.5)
    assert PHASES["end_to_end"].learning_rates(optim) == {"fine": 0.5}
    with pytest.raises(ValueError, match=r"optim\.lr_coarse must be more than 0, got 0"):
        OptimConfig(lr_coarse=0)


def test_sizes_per_part_follow_the_part_s_network():
    sizes = {"mouth": 15, "brow": 9, "eye": 11, "nose": 13}
    assert ModelConfig().label_set.per_part(sizes) == (9, 9, 11, 11, 13, 15)


def test_differences_name_the_settings_and_both_values():
    ours = TrainConfig(optim=OptimConfig(lr_fine=0.5), seed=1)
    theirs = replace(ours, optim=OptimConfig(lr_fine=0.25), seed=2)
    found = differences(asdict(ours), asdict(theirs))
    assert found == ["optim.lr_fine: 0.5, was 0.25", "seed: 1, was 2"]
    assert differences(asdict(ours), asdict(ours)) == []


def test_differences_show_a_setting_that_only_one_has():
    assert differences({"a": {"b": 1}}, {"a": {}}) == ["a.b: 1, was None"]
    assert differences({"a": {}}, {"a": {"b": 1}}) == ["a.b: None, was 1"]
