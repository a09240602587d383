"""The command line of sweeps: options of before are refused with what to type instead."""

import sys

import pytest

from jobs import tune
from jobs.running import run_job


@pytest.mark.parametrize(
    ("typed", "instead"),
    [
        (
            ["--space.optim.lr-fine", "log", "1e-4", "1e-1", "--num-trials", "3"],
            "--space 'optim.lr_fine=log 1e-4 1e-1'",
        ),
        (["--space.model.patch_px.eye", "33", "49"], "--space 'model.patch_px.eye=33 49'"),
        (["--space.augment.shift=uniform", "-1", "1"], "--space 'augment.shift=uniform -1 1'"),
        (
            ["--space.other", "loss.localizer_weight=log 1 100", "model.patch_px=49 65"],
            "--space 'loss.localizer_weight=log 1 100' --space 'model.patch_px=49 65'",
        ),
        (
            ["--space.default", "optim.lr_fine=1 2", "--space.optim.global-batch", "8", "16"],
            "--space 'optim.lr_fine=1 2' --space 'optim.global_batch=8 16'",
        ),
    ],
)
def test_an_option_of_before_is_refused_with_the_new_form(
    typed: list[str],
    instead: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["tune.py", "helen", "--data", "shards", *typed])
    assert run_job(tune.job) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {typed[0].partition('=')[0]}")
    assert error.endswith(f"a space is given as --space NAME=SPACE now: {instead}\n")


def test_the_new_option_and_its_values_are_not_taken_for_old_ones() -> None:
    tune.require_no_old_spaces(["helen", "--space", "optim.lr-fine=log 1e-4 1e-1", "--seeds", "2"])
