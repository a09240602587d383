"""The jobs' command line: presets, settings, config files, and what is refused."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from cluster.config import LocationsConfig, TrainingJobConfig
from cluster.tracking.tracking_uri import TrackingUnavailableError
from jobs.options import parse_fine_tuning, parse_job
from jobs.running import run_job
from sharding.storage.location import open_location
from stn_icnn.config import TrainConfig
from stn_icnn.config_dict import to_stored
from stn_icnn.presets import PRESETS


def parse(*arguments: str) -> tuple[TrainingJobConfig, str]:
    return parse_job(TrainingJobConfig, "A job.", arguments)


def exit_text(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is printed by a command line that is refused."""
    with pytest.raises(SystemExit) as exit_:
        parse(*arguments)
    assert exit_.value.code not in (0, None)
    printed = capsys.readouterr()
    return printed.out + printed.err


def test_without_arguments_it_is_the_demo():
    config, preset = parse()
    assert preset == "demo"
    assert config.training == PRESETS["demo"]()
    assert config.data is None
    assert config.scaling.num_workers == "auto"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_s_every_setting_arrives(preset: str):
    config, name = parse(preset)
    assert name == preset
    assert config.training == PRESETS[preset]()


def test_settings_replace_the_preset_s():
    config, _ = parse(
        "helen", "--optim.lr-coarse", "5e-3", "--model.patch-px.eye", "65", "--data", "s3://b/x",
        "--scaling.num-workers", "2", "--run-name", "mine",
    )  # fmt: skip
    optim, patch_px = config.training.optim, config.training.model.patch_px
    assert (optim.lr_coarse, optim.lr_fine) == (5e-3, 1e-2)
    assert (patch_px["eye"], patch_px["nose"]) == (65, 81)
    assert (config.data, config.scaling.num_workers, config.run_name) == ("s3://b/x", 2, "mine")


def test_a_config_file_goes_over_the_preset(tmp_path: Path):
    (tmp_path / "mine.json").write_text('{"optim": {"lr_fine": 0.5}, "seed": 3}')
    config, name = parse("demo", "--config", str(tmp_path / "mine.json"))
    demo, training = PRESETS["demo"](), config.training
    assert (name, training.seed, training.optim.lr_fine) == ("demo", 3, 0.5)
    assert (training.model, training.optim.lr_coarse) == (demo.model, demo.optim.lr_coarse)


def test_a_run_s_config_file_gives_its_settings_and_options_go_over_them(tmp_path: Path):
    config, _ = parse("celebamask", "--optim.lr-fine", "0.5", "--seed", "3")
    (tmp_path / "config.json").write_text(json.dumps(asdict(config.training)))
    again, _ = parse("--config", str(tmp_path / "config.json"))
    assert again == config
    over, _ = parse("--config", str(tmp_path / "config.json"), "--seed", "4")
    assert over.training == replace(config.training, seed=4)


def test_a_run_s_config_file_gives_its_label_set_whose_networks_have_their_sizes(tmp_path: Path):
    own = {
        "name": "own",
        "classes": [
            {"name": "background", "colour": [0, 0, 0]},
            {"name": "eyes", "colour": [0, 0, 255]},
        ],
        "parts": [{"name": "eyes", "classes": ["eyes"], "window_px": 99}],
    }
    (tmp_path / "own.json").write_text(json.dumps(own))
    config, _ = parse("celebamask-tuned", "--labels", str(tmp_path / "own.json"))
    assert config.training.model.window_px == {"eyes": 99}
    (tmp_path / "config.json").write_text(json.dumps(to_stored(config.training)))
    again, _ = parse("--config", str(tmp_path / "config.json"))
    assert again.training == config.training
    whole, _ = parse("celebamask-tuned", "--labels", "celebamask19")
    assert whole.training.model.label_set.num_classes == 19


def test_a_config_file_may_hold_any_option_of_the_job(tmp_path: Path):
    (tmp_path / "job.json").write_text(
        '{"seed": 3, "data": "s3://b/x", "run_name": "mine", "storage": "/s",'
        ' "scaling": {"num_workers": 2}}'
    )
    config, _ = parse("--config", str(tmp_path / "job.json"), "--tracking-uri", "sqlite:////y.db")
    assert (config.data, config.run_name, config.training.seed) == ("s3://b/x", "mine", 3)
    assert config.scaling.num_workers == 2
    assert config.locations == LocationsConfig(storage="/s", tracking_uri="sqlite:////y.db")


def test_a_config_file_may_lie_in_a_bucket(bucket: str):
    open_location(f"{bucket}/sweep").write("best.json", b'{"seed": 3}')
    config, name = parse("--config", f"{bucket}/sweep/best.json")
    assert (config.training.seed, name) == (3, "settings of best.json")
    with pytest.raises(ValueError, match=r"--config must be .* got s3://faces/sweep/gone\.json"):
        parse("--config", f"{bucket}/sweep/gone.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["helem"], "no preset 'helem'; there are demo, helen, celebamask"),
        (["--config"], "--config needs a JSON file"),
        (["--config", "{folder}/gone.json"], r"--config must be .* got .*gone\.json"),
        (["--config", "{folder}/text.json"], r"--config must be .* got .*text\.json"),
        (["--config", "{folder}/other.json"], r"^no such setting: optim\.lr_fin; there are"),
        (["--config", "{folder}/type.json"], r"^optim\.lr_fine must be float, got fast"),
        (["--config", "{folder}/list.json"], "settings must be names with values, got"),
        (["--config", "{folder}/nested.json"], "no such setting: training; there are augment, "),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, arguments: list[str], message: str):
    (tmp_path / "text.json").write_text("lr_fine: 1")
    (tmp_path / "other.json").write_text('{"optim": {"lr_fin": 1}}')
    (tmp_path / "list.json").write_text('["seed", 3]')
    (tmp_path / "nested.json").write_text('{"training": {"seed": 3}}')
    (tmp_path / "type.json").write_text('{"optim": {"lr_fine": "fast"}}')
    with pytest.raises(ValueError, match=message):
        parse(*(argument.format(folder=tmp_path) for argument in arguments))


def test_a_setting_that_does_not_exist_is_named(capsys):
    assert "--optim.lr-fin" in exit_text(capsys, "helen", "--optim.lr-fin", "1")


def test_a_value_of_another_kind_is_refused_by_name(capsys):
    assert "--optim.lr-fine" in exit_text(capsys, "--optim.lr-fine", "fast")


def test_a_refused_value_is_refused_in_the_config_s_words(capsys):
    try:
        parse("--model.patch-px.eye", "64")
    except (ValueError, SystemExit) as error:
        printed = capsys.readouterr()
        said = f"{error} {printed.out} {printed.err}"
    assert "model.patch_px.eye must be odd" in said
    assert "got 64" in said


def test_help_explains_every_setting(capsys):
    with pytest.raises(SystemExit) as exit_:
        parse("--help-all")
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    for setting in ("--optim.lr-coarse", "--model.window-px.eye", "--scaling.wait-s", "--data"):
        assert setting in shown
    assert "Learning rate of the coarse network" in shown


def test_fine_tuning_starts_from_the_model_s_settings_at_lower_rates(
    tiny_parent: Path, tiny_config: TrainConfig
):
    settings, parent = parse_fine_tuning("A job.", ["--data", "x", "--from", str(tiny_parent)])
    assert (parent.given, settings.data, settings.num_images) == (str(tiny_parent), "x", None)
    training, optim = settings.training, settings.training.optim
    assert (training.model, training.augment) == (tiny_config.model, tiny_config.augment)
    assert optim.lr_fine == 3e-3
    assert optim.lr_coarse_end_to_end == optim.lr_localizer_end_to_end == 3e-5
    assert optim.epochs_end_to_end == tiny_config.optim.epochs_end_to_end
    assert settings.scratch.optim == tiny_config.optim
    assert not settings.compare


def test_a_file_and_options_go_over_the_model_s_settings(tiny_parent: Path, tmp_path: Path):
    (tmp_path / "mine.json").write_text(
        '{"optim": {"lr_fine": 0.5, "global_batch": 2}, "scratch": {"optim": {"lr_coarse": 0.25}}}'
    )
    settings, _ = parse_fine_tuning(
        "A job.",
        ["--config", str(tmp_path / "mine.json"), f"--from={tiny_parent}", "--compare",
         "--num-images", "4", "--model.window-px.eye", "25", "--optim.global-batch", "3",
         "--scratch.optim.lr-fine", "0.125", "--tracking_uri", "sqlite:////x/y.db"],
    )  # fmt: skip
    training = settings.training
    assert (training.optim.lr_fine, training.optim.global_batch) == (0.5, 3)
    assert (settings.scratch.optim.lr_coarse, settings.scratch.optim.lr_fine) == (0.25, 0.125)
    assert (settings.compare, settings.num_images) == (True, 4)
    assert (training.model.window_px["eye"], training.model.window_px["nose"]) == (25, 41)
    assert settings.locations.tracking_uri == "sqlite:////x/y.db"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--from needs a model"),
        (["--from"], "--from needs a model"),
        (["--from", "{folder}/gone.pt"], r"there is no .*gone\.pt"),
        (["celebamask", "--from", "{model}"], "no presets here.* got 'celebamask'"),
        (["--from", "{model}", "--config"], "--config needs a JSON file"),
        (["--from", "{untrained}"], "phase coarse, but --from needs localizer and fine trained"),
    ],
)
def test_fine_tuning_from_nothing_is_refused(
    tiny_parent: Path, tiny_model: Path, tmp_path: Path, arguments: list[str], message: str
):
    names = {"folder": tmp_path, "model": tiny_parent, "untrained": tiny_model}
    with pytest.raises(ValueError, match=message):
        parse_fine_tuning("A job.", [argument.format(**names) for argument in arguments])


def test_help_of_fine_tuning_needs_no_model(capsys):
    with pytest.raises(SystemExit) as exit_:
        parse_fine_tuning("A job.", ["--help-all"])
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    for words in ("--from MODEL", "--num-images", "--compare", "--scratch.optim.lr-coarse"):
        assert words in shown


def test_help_of_fine_tuning_a_model_shows_its_settings(tiny_parent: Path, capsys):
    with pytest.raises(SystemExit) as exit_:
        parse_fine_tuning("A job.", ["--from", str(tiny_parent), "--help-all"])
    assert exit_.value.code == 0
    assert re.search(
        r"--optim\.lr-fine FLOAT\W+Learning [^(]*\(default: 0\.003\)", capsys.readouterr().out
    )


def test_the_result_is_the_last_line(capsys):
    def job() -> dict:
        print("working")
        return {"run_id": "1", "test": {"overall": 0.5}}

    assert run_job(job) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last) == {"run_id": "1", "test": {"overall": 0.5}}


@pytest.mark.parametrize("error", [ValueError("no such data"), TrackingUnavailableError("away")])
def test_what_the_user_can_mend_exits_with_2(error: Exception, capsys):
    def job() -> dict:
        raise error

    assert run_job(job) == 2
    assert capsys.readouterr().err == f"error: {error}\n"
