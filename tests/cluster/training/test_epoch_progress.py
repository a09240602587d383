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
    """A job of two phases, whose epochs take 1 and 6 times as long."""
    progress = EpochProgress()
    progress.expect("mine", [("coarse", 4), ("end_to_end", 2)])
    return progress


def test_a_log_has_a_line_an_epoch_with_the_time_left_of_all_phases(
    progress: EpochProgress, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.showing("coarse", 4):
        progress.count(("mine", "coarse"), 1, 4, 10.0, "loss 0.5")
        progress.count(("mine", "coarse"), 4, 4, 40.0, "loss 0.25")
    with progress.showing("end_to_end", 2):
        progress.count(("mine", "end_to_end"), 1, 2, 90.0, "loss 0.1")
    assert capsys.readouterr().out.splitlines() == [
        "coarse: epoch 1 of 4: loss 0.5; 1 of 6 epochs, 02:30 left",  # 3 x 10 s + 2 x 60 s
        "coarse: epoch 4 of 4: loss 0.25; 4 of 6 epochs, 02:00 left",
        "end_to_end: epoch 1 of 2: loss 0.1; 5 of 6 epochs, 01:30 left",
    ]


def test_a_phase_that_goes_on_counts_what_was_done_before(
    progress: EpochProgress, capsys: pytest.CaptureFixture[str]
) -> None:
    progress.count(("mine", "coarse"), 3, 4, 30.0, "loss 0.5")
    assert "; 3 of 6 epochs, 02:10 left" in capsys.readouterr().out


def test_planning_a_phase_again_does_not_count_it_twice(
    progress: EpochProgress, capsys: pytest.CaptureFixture[str]
) -> None:
    progress.expect("mine", [("coarse", 4)])
    progress.expect("other", [("coarse", 4)])
    progress.count(("mine", "coarse"), 1, 4, 1.0, "loss 0.5")
    assert "; 1 of 10 epochs, " in capsys.readouterr().out


def test_a_terminal_has_a_bar_a_phase_and_lines_above_it(
    progress: EpochProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with progress.showing("coarse", 4):
        progress.show_machine("coarse", "a machine")
        progress.count(("mine", "coarse"), 4, 4, 40.0, "loss 0.25")
    shown = terminal.getvalue()
    assert "coarse: on a machine\n" in shown
    last = shown.strip().split("\r")[-1]
    assert last.startswith("coarse: 4 of 4 |")
    assert last.endswith("loss 0.25; 4 of 6 epochs, 02:00 left")


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
