"""Search spaces: what they read as, and what is refused, by the setting's name."""

from dataclasses import replace

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from cluster.sweep.config import DEFAULT_SPACES, SweepConfig, SweepJobConfig
from cluster.sweep.searched_settings import current_value, read_search_space, replace_settings
from cluster.sweep.spaces import (
    SearchSpace,
    all_values,
    contains,
    format_space,
    parse_space,
    split_spaces,
    stands_for,
)
from jobs.options import parse_job
from stn_icnn.config import AugmentConfig, FineConfig, TrainConfig, same_size
from stn_icnn.label_sets import PAPER9
from stn_icnn.presets import PRESETS

CONFIG = TrainConfig(augment=AugmentConfig(window_shift=0.05))


def read(
    phases: tuple[str, ...] = ("fine",), config: TrainConfig = CONFIG, **words: str
) -> SearchSpace:
    texts = [f"{name.replace('__', '.')}={text}" for name, text in words.items()]
    return read_search_space(texts, (), config, phases)


def default_space(config: TrainConfig, phases: tuple[str, ...]) -> SearchSpace:
    return read_search_space((), DEFAULT_SPACES, config, phases)


def parse(text: str, current: object):
    return parse_space("a", text.split(), current)


def test_words_become_values_of_the_settings_type() -> None:
    assert parse("log 1e-4 1e-1", 0.01) == FloatDistribution(1e-4, 0.1, log=True)
    assert parse("log 4 64", 8) == IntDistribution(4, 64, log=True)
    assert parse("uniform 0 1", 0.5) == FloatDistribution(0.0, 1.0)
    assert parse("uniform 4 64", 8) == IntDistribution(4, 64)
    assert parse("steps 33 99 16", 81) == IntDistribution(33, 97, step=16)
    assert parse("steps 0 0.35 0.1", 0.5) == FloatDistribution(0.0, 0.3, step=0.1)
    assert all_values(parse("steps 0 0.3 0.1", 0.5)) == [0, 0.1, 0.2, 0.3]
    assert list(all_values(parse("steps 33 99 16", 81))) == [33, 49, 65, 81, 97]
    assert parse("33 9", 81).choices == (33, 9)
    assert parse("1e-3 2", 0.1).choices == (0.001, 2.0)
    assert parse("true false", True).choices == (True, False)
    assert parse("halving one_cycle", "halving") == CategoricalDistribution(
        ("halving", "one_cycle")
    )


@pytest.mark.parametrize(
    ("text", "current", "stored"),
    [
        ("log 1e-4 0.1", 0.01, ["log 0.0001 0.1"]),
        ("log 1.2345678e-4 0.1", 0.01, ["log 0.00012345678 0.1"]),
        ("uniform 8 10", 8, ["uniform 8 10", "8 9 10"]),
        ("steps 33 99 16", 81, ["steps 33 97 16", "33 49 65 81 97"]),
        ("steps 0 0.3 0.1", 0.5, ["steps 0 0.3 0.1", "0 0.1 0.2 0.3"]),
        ("33 9", 81, ["33 9"]),
        ("1e-3 2", 0.1, ["0.001 2"]),
        ("true false", True, ["True False"]),
    ],
)
def test_a_space_is_written_as_it_is_read_and_stored_ones_of_before_are_known(
    text: str, current: object, stored: list[str]
) -> None:
    space = parse(text, current)
    assert format_space(space) == stored[0]
    if current is not True:
        assert parse(stored[0], current) == space
    assert all(stands_for(old, space) for old in stored)
    for other in ("", "log 1e-5 0.1", "8 9", "33 49 65 81", "9 33"):
        assert not stands_for(other, space)


@pytest.mark.parametrize(
    ("words", "current", "message"),
    [
        ("", 0.1, r"space\.a must be log LOW HIGH, .* got nothing"),
        ("0.1", 0.1, r"or two or more values, got 0\.1"),
        ("1 1", 1, "given once"),
        ("log 1", 0.1, r"must be log LOW HIGH"),
        ("log 1 0.1", 0.1, "LOW under HIGH"),
        ("log 0 1", 0.1, "LOW over 0"),
        ("uniform 0 fast", 0.1, r"of numbers .*, got fast"),
        ("uniform 0 nan", 0.1, "of numbers"),
        ("steps 1 9 0", 1, "STEP over 0"),
        ("steps 1 9 20", 1, "of 2 to 1000 steps, got 1"),
        ("steps 1 9 0.5", 1, r"whole numbers, got 0\.5"),
        ("uniform 1 2", True, "not a number"),
        ("log 1 2", "halving", "not a number"),
        ("yes no", True, "true and false"),
    ],
)
def test_words_that_are_no_space_are_refused(words: str, current: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_space("a", tuple(words.split()), current)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"model__patch_px__eye": "33 64"}, r"model\.patch_px\.eye = 64 .* must be odd"),
        ({"model__patch_px__eye": "steps 33 97 8"}, None),
        ({"model__patch_px__eye": "steps 33 97 5"}, r"must be odd .* got 38"),
        ({"model__window_px__eye": "steps 33 2049 32"}, r"canvas_px = 1024, got 1025"),
        ({"optim__lr_fine": "uniform 0 1"}, r"optim\.lr_fine must be more than 0"),
        ({"optim__lr_fin": "log 1 2"}, r"space must be of a setting, got optim\.lr_fin"),
        ({"optim": "log 1 2"}, r"space\.optim must be of one setting, got a group: lr_coarse"),
        ({"optim__schedule": "halving cosine"}, r"optim\.schedule must be 'halving' or"),
        ({"optim__lr_coarse": "log 1e-3 1"}, r"lr_coarse has no effect: sweep\.phases is fine"),
        ({"model__coarse_px": "64 128"}, r"it has one in coarse, localizer, frozen, end_to_end"),
        ({"model__finder_px": "64 128"}, "has no effect: no phase of a sweep uses it"),
        ({"optim__lr_finder": "log 1e-4 1e-2"}, "has no effect: no phase of a sweep uses it"),
        ({"loss__coarse_weight": "0 1"}, "no effect"),
        ({"model__patch_px__nose": "33 65"}, None),
        ({"optim__epochs_fine": "5 10"}, "what a trial costs"),
        ({"fine__window_error": "0 0.1"}, "what is scored"),
        ({"seed": "1 2"}, r"--seeds repeats"),
        ({"model__patch_px__eye": "uniform 33 97"}, r"eye = 34 can't .* got 34; .* or steps LOW"),
        ({"model__kernel_size": "log 3 5"}, r"kernel_size = 4 can't be tried"),
        ({"augment__copies": "uniform 1 5"}, r"copies = 2 can't be tried"),
        ({"optim__global_batch": "log 8 64"}, None),
        (
            {"model__patch_px": "33 65", "model__patch_px__eye": "33 65"},
            r"space\.model\.patch_px must be given without model\.patch_px\.eye",
        ),
        (
            {"augment__scale_min": "uniform 0.5 1.5", "augment__scale_max": "uniform 1 2"},
            r"scale_min = 1\.5.* must be positive and in order",
        ),
    ],
)
def test_spaces_are_checked_against_the_settings(words: dict, message: str | None) -> None:
    if message is None:
        read(**words)
        return
    with pytest.raises(ValueError, match=message):
        read(**words)


def test_sizes_of_parts_that_are_not_trained_and_operations_that_are_off_are_refused() -> None:
    eyes = replace(CONFIG, fine=FineConfig(networks=("eye",)))
    read(config=eyes, model__patch_px__eye="33 65")
    with pytest.raises(ValueError, match=r"patch_px\.nose has no effect: fine\.networks is eye"):
        read(config=eyes, model__patch_px__nose="33 65")
    off = replace(CONFIG, augment=AugmentConfig(operations=False))
    with pytest.raises(ValueError, match=r"noise_std has no effect: augment\.operations is off"):
        read(config=off, augment__noise_std="uniform 0 0.1")


def test_combinations_are_checked_too() -> None:
    """Each end alone goes with the preset's other end; both together do not."""
    with pytest.raises(ValueError, match=r"scale_min = 1\.1, .*scale_max = 1\.0"):
        read(augment__scale_min="uniform 0.8 1.1", augment__scale_max="uniform 1.0 1.3")


def test_one_size_for_all_parts() -> None:
    (name,) = read(model__patch_px="33 65")
    sizes = replace_settings(CONFIG, {name: 33}).model.patch_px
    assert sizes == same_size(33)


@pytest.mark.parametrize("preset", PRESETS)
def test_without_a_space_it_is_rates_and_sizes_around_the_preset_s(preset: str) -> None:
    config = PRESETS[preset]()
    for phases, rates in [
        (("fine",), ["fine"]),
        (
            ("coarse", "localizer", "end_to_end"),
            ["coarse", "localizer", "fine", "coarse_end_to_end", "localizer_end_to_end"],
        ),
    ]:
        space = default_space(config, phases)
        assert list(space) == [
            *(f"optim.lr_{name}" for name in rates),
            *(f"model.{size}_px.{n}" for size in ("patch", "window") for n in PAPER9.fine_networks),
        ]
        assert all(contains(one, current_value(config, name)) for name, one in space.items())


def test_of_the_default_spaces_those_that_change_nothing_are_left_out() -> None:
    eyes = replace(CONFIG, fine=FineConfig(networks=("eye",)))
    names = ["optim.lr_fine", "model.patch_px.eye", "model.window_px.eye"]
    assert list(default_space(eyes, ("fine",))) == names
    frozen = replace(CONFIG, optim=replace(CONFIG.optim, lr_coarse_end_to_end=0))
    assert "optim.lr_coarse_end_to_end" not in default_space(frozen, ("end_to_end",))
    with pytest.raises(ValueError, match="space must be given for one setting or more, got none"):
        read()


def test_a_space_is_one_option_for_any_setting_and_explained_in_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [
        "helen",
        "--space",
        "optim.lr-fine=log 1e-4 1e-1",
        "--space",
        "model.patch_px.eye=33 49 65",
        "--num-trials",
        "7",
        "--sweep.phases",
        "coarse",
        "localizer",
        "--space",
        "loss.localizer-weight = log 1 100",
        "--space=optim.max_grad_norm=0 1",
    ]
    job, _ = parse_job(SweepJobConfig, "A sweep.", arguments)
    assert split_spaces(job.space) == {
        "optim.lr_fine": ["log", "1e-4", "1e-1"],
        "model.patch_px.eye": ["33", "49", "65"],
        "loss.localizer_weight": ["log", "1", "100"],
        "optim.max_grad_norm": ["0", "1"],
    }
    assert (job.num_trials, job.sweep.phases) == (7, ("coarse", "localizer"))
    with pytest.raises(SystemExit):
        parse_job(SweepJobConfig, "A sweep.", ["--help-all"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for text in (
        "steps LOW HIGH STEP",
        "--space NAME=SPACE",
        "--model.window-px.mouth",
        "in pixels of the image",
        "degrees",
        "optim.lr_fine=log 1e-4 1e-1",
        "model.window_px.eye=steps 33 177 2",
        "--seeds",
    ):
        assert text in shown


@pytest.mark.parametrize(
    "phases",
    [(), ("coarse", "coarse"), ("end_to_end", "coarse"), ("end_to_end", "fine"), ("fine", "fine")],
)
def test_phases_come_in_their_order_and_once(phases: tuple) -> None:
    with pytest.raises(ValueError, match=r"sweep\.phases must be one or more of coarse, local"):
        SweepConfig(phases=phases)


def test_a_space_given_twice_or_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"given once, got optim\.lr_fine"):
        split_spaces(("optim.lr_fine=1 2", "optim.lr-fine=1 2"))
    with pytest.raises(ValueError, match=r"NAME=SPACE, got 'lr 1 2'"):
        split_spaces(("lr 1 2",))
    assert split_spaces(("model.patch_px.eye=9 11",)) == {"model.patch_px.eye": ["9", "11"]}
