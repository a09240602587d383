"""The time of an epoch from some of its steps."""

from dataclasses import replace

import pytest

from stn_icnn.config import TrainConfig
from stn_icnn.context import LocalContext
from stn_icnn.networks.checkpoint import DataFacts
from stn_icnn.networks.model import build_model
from stn_icnn.training.epoch_time import TIMED_STEPS, WARM_UP_STEPS, seconds_per_epoch
from stn_icnn.training.loop import PhaseRun, train_until
from stn_icnn.training.phases import MODEL_PHASES, PHASES, PhaseName

FACTS = DataFacts(dataset="helen", fingerprint="f", scale_px=1024, scale_fit="at_most")


@pytest.mark.slow
@pytest.mark.parametrize("phase", MODEL_PHASES)
def test_an_epoch_s_seconds_are_those_of_the_timed_steps_scaled(
    phase: PhaseName, tiny_config: TrainConfig, tiny_faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight faces in batches of 3, 3 and 2: 23 steps are seven epochs and two steps."""
    stops = []

    def timed(run, state, epoch, stop) -> None:
        num_images = sum(epoch.sizes[state.progress.step : stop])
        train_until(run, state, epoch, stop)
        stops.append(stop)
        state.progress.train_s = num_images * (0.5 if stop > WARM_UP_STEPS else 1000.0)

    monkeypatch.setattr("stn_icnn.training.epoch_time.train_until", timed)
    config = replace(tiny_config, optim=replace(tiny_config.optim, global_batch=3))
    run = PhaseRun(
        phase=PHASES[phase],
        config=config,
        train_faces=tiny_faces("train", augmented=True),
        val_faces=tiny_faces("val", augmented=False),
        data=FACTS,
        context=LocalContext(),
        log=lambda line: None,
    )
    assert seconds_per_epoch(run, build_model(config.model)) == pytest.approx(4.0)
    assert stops == [WARM_UP_STEPS, WARM_UP_STEPS + TIMED_STEPS]
