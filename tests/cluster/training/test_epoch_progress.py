"""The progress of a job: lines in a log, a bar on a terminal, the time that is left."""

import io
import sys

import pytest

from cluster.training.epoch_progress import EpochProgress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def progress() -> EpochProgress:
    """A job of two phases, whose epochs take 1 and 6 times as long; validation takes no time."""
    progress = EpochProgress(clock=lambda: 0.0)
    progress.expect("mine", [("coarse", 4), ("end_to_end", 2)], images_validated=0)
    return progress


def test_a_log_has_a_line_an_epoch_with_the_time_left_of_all_phases(
    progress: EpochProgress, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.showing("coarse", 4):
        progress.count(("mine", "coarse"), 1, 10.0, "loss 0.5", 0.0)
        progress.count(("mine", "coarse"), 4, 40.0, "loss 0.25", 0.0)
    with progress.showing("end_to_end", 2):
        progress.count(("mine", "end_to_end"), 1, 90.0, "loss 0.1", 0.0)
    assert capsys.readouterr().out.splitlines() == [
        "coarse: epoch 1 of 4: loss 0.5; 1 of 6 epochs, about 02:30 left",  # 3 x 10 s + 2 x 60 s
        "coarse: epoch 4 of 4: loss 0.25; 4 of 6 epochs, about 02:00 left",
        "end_to_end: epoch 1 of 2: loss 0.1; 5 of 6 epochs, 01:30 left",
    ]


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def test_validations_are_part_of_the_time_left_as_often_as_they_come(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = EpochProgress(clock=lambda: 0.0)
    progress.expect("mine", [("coarse", 5)], validate_every=2, images_validated=0.6)
    progress.count(("mine", "coarse"), 1, 10.0, "")
    # After 2, 4 and 5 epochs, each estimated as 0.6 / 3 of an epoch's 10 s.
    assert last_line(capsys).endswith(" 1 of 5 epochs, about 00:46 left")
    progress.count(("mine", "coarse"), 2, 20.0, "", 5.0)
    assert last_line(capsys).endswith(" 2 of 5 epochs, 00:40 left")  # 3 x 10 s + 2 x 5 s


def test_phases_to_come_are_reckoned_by_the_measured_validation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = EpochProgress(clock=lambda: 0.0)
    progress.expect("mine", [("coarse", 1), ("end_to_end", 1)])
    progress.count(("mine", "coarse"), 1, 10.0, "", 5.0)
    assert last_line(capsys).endswith("about 01:30 left")  # 60 s, and half of it


def test_scoring_and_the_start_of_workers_are_part_of_the_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 100.0
    progress = EpochProgress(clock=lambda: now)
    progress.expect("mine", [("coarse", 1), ("end_to_end", 1)])
    progress.expect_scoring("mine", images_scored=2.0)
    with progress.showing("coarse", 1):
        now += 30.0  # an epoch, its validation, and so 15 s before them
        progress.count(("mine", "coarse"), 1, 10.0, "", 5.0)
    # The next phase and the scoring start workers; that scores as two validations of the phase do.
    assert last_line(capsys).endswith("about 03:00 left")  # 15 + 60 + 30, 15 + 2 x 30
    with progress.showing("end_to_end", 1):
        now += 60.0
        progress.count(("mine", "end_to_end"), 1, 40.0, "", 10.0)
    assert last_line(capsys).endswith("2 of 2 epochs, 00:30 left")  # 10 + 2 x 10


def test_each_training_of_an_experiment_is_scored_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = EpochProgress(clock=lambda: 0.0)
    for seed in ("seed-0", "seed-1"):
        progress.expect(seed, [("coarse", 1)])
        progress.expect_scoring(seed, images_scored=2.0)
    progress.count(("seed-0", "coarse"), 1, 10.0, "", 5.0)
    assert last_line(capsys).endswith("00:35 left")  # 15 s of the other, twice 2 x 5 s of scoring
    progress.count_scoring("seed-0")
    progress.count(("seed-1", "coarse"), 1, 10.0, "", 5.0)
    assert last_line(capsys).endswith("2 of 2 epochs, 00:10 left")


def test_a_training_that_takes_as_long_as_another_counts_before_its_epochs_are_chosen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = EpochProgress(clock=lambda: 0.0)
    progress.expect("mine", [("end_to_end", 2)])
    progress.expect_as_long("scratch", "mine")
    progress.count(("mine", "end_to_end"), 2, 60.0, "", 0.0)
    assert last_line(capsys).endswith("about 01:00 left")
    progress.expect("scratch", [("end_to_end", 1)])
    progress.count(("scratch", "end_to_end"), 1, 30.0, "", 0.0)
    assert last_line(capsys).endswith("00:00 left")


def test_a_phase_that_goes_on_counts_what_was_done_before(
    progress: EpochProgress, capsys: pytest.CaptureFixture[str]
) -> None:
    progress.count(("mine", "coarse"), 3, 30.0, "loss 0.5")
    assert "; 3 of 6 epochs, about 02:10 left" in capsys.readouterr().out


def test_planning_a_phase_again_does_not_count_it_twice(
    progress: EpochProgress, capsys: pytest.CaptureFixture[str]
) -> None:
    progress.expect("mine", [("coarse", 4)])
    progress.expect("other", [("coarse", 4)])
    progress.count(("mine", "coarse"), 1, 1.0, "loss 0.5")
    assert "; 1 of 10 epochs, " in capsys.readouterr().out


def test_a_terminal_has_a_bar_a_phase_and_lines_above_it(
    progress: EpochProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with progress.showing("coarse", 4):
        progress.show_machine("coarse", "a machine")
        progress.count(("mine", "coarse"), 4, 40.0, "loss 0.25", 0.0)
    shown = terminal.getvalue()
    assert "coarse: on a machine\n" in shown
    last = shown.strip().split("\r")[-1]
    assert last.startswith("coarse: 4 of 4 |")
    assert last.endswith("loss 0.25; 4 of 6 epochs, about 02:00 left")


def test_a_machine_is_shown_once(
    progress: EpochProgress, capsys: pytest.CaptureFixture[str]
) -> None:
    progress.show_machine("coarse", "a machine")
    progress.show_machine("localizer", "a machine")
    progress.show_machine("end_to_end", "another")
    assert capsys.readouterr().out.splitlines() == [
        "coarse: on a machine",
        "end_to_end: on another",
    ]
