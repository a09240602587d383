"""The progress of a sweep: what is done of what is expected, and the most time left."""

from cluster.sweep.sweep_record import State, Trial, trial_name
from cluster.sweep.trial_progress import TrialProgress


def trial(combination: int, repeat: int = 0, state: State = "running", epochs: int = 0) -> Trial:
    name = trial_name(combination, repeat)
    curve = dict.fromkeys(range(1, epochs + 1), 0.5)
    return Trial(name, combination, repeat, repeat, {}, state, curve)


def test_trials_and_epochs_are_counted_with_the_time_of_all_that_may_come() -> None:
    trials = [trial(0), trial(1)]
    progress = TrialProgress(trials, {"fine": 4}, num_combinations=5, seeds=1, concurrent=2)
    assert str(progress) == "0 of 5 trials, 0 of 20 epochs"
    trials[0].curve[1] = 0.5
    progress.count("trial-0000", "fine", 1, 10.0)
    # One at a time has 3 + 4 epochs, the other 4 + 4; the last trial comes after the first.
    assert str(progress) == "0 of 5 trials, 1 of 20 epochs, at most 01:50 left"


def test_a_trial_that_is_stopped_leaves_no_epochs_and_has_no_repeats() -> None:
    trials = [trial(0, state="finished", epochs=4), trial(1, epochs=1)]
    progress = TrialProgress(trials, {"fine": 4}, num_combinations=2, seeds=3, concurrent=1)
    progress.count("trial-0001", "fine", 1, 60.0)
    assert str(progress) == "1 of 6 trials, 5 of 24 epochs, at most 19:00 left"
    trials[1].state = "pruned"
    assert str(progress) == "2 of 4 trials, 5 of 13 epochs, at most 08:00 left"
    trials += [trial(0, repeat, state="finished", epochs=4) for repeat in (1, 2)]
    assert str(progress) == "4 of 4 trials, 13 of 13 epochs, at most 00:00 left"


def test_phases_to_come_are_reckoned_by_those_that_were_trained() -> None:
    epochs = {"coarse": 2, "localizer": 1, "end_to_end": 1}
    trials = [trial(0)]
    progress = TrialProgress(trials, epochs, num_combinations=1, seeds=1, concurrent=2)
    progress.count("trial-0000", "coarse", 1, 10.0)
    assert str(progress) == "0 of 1 trials, 1 of 4 epochs, at most about 01:17 left"  # 10 + 7 + 60
    progress.count("trial-0000", "coarse", 2, 10.0)
    progress.count("trial-0000", "localizer", 1, 5.0)
    trials[0].curve[1] = 0.5
    progress.count("trial-0000", "end_to_end", 1, 20.0)
    assert str(progress) == "0 of 1 trials, 4 of 4 epochs, at most 00:00 left"


def test_the_longest_epoch_of_a_phase_is_what_others_are_reckoned_by() -> None:
    trials = [trial(0, epochs=1), trial(1, epochs=1)]
    progress = TrialProgress(trials, {"fine": 2}, num_combinations=2, seeds=1, concurrent=2)
    progress.count("trial-0000", "fine", 1, 30.0)
    progress.count("trial-0001", "fine", 1, 10.0)
    assert str(progress).endswith("2 of 4 epochs, at most 00:30 left")


def test_a_trial_that_an_earlier_driver_saw_end_was_trained_in_all_phases() -> None:
    trials = [trial(0, state="pruned", epochs=1), trial(1)]
    epochs = {"coarse": 2, "end_to_end": 3}
    progress = TrialProgress(trials, epochs, num_combinations=2, seeds=1, concurrent=1)
    assert str(progress) == "1 of 2 trials, 3 of 8 epochs"
