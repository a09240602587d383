"""The jobs' option names, which users have in their scripts: none may be lost or renamed."""

import re
from typing import Any

import pytest
import tyro

from cluster.config import ParsingJobConfig, ScoringJobConfig, TrainingJobConfig
from cluster.finder.config import FinderJobConfig
from cluster.hybrid.config import HybridJobConfig
from cluster.paper.config import (
    CoarseSizeConfig,
    OcclusionConfig,
    ParityConfig,
    TableConfig,
    TimingConfig,
    WindowsConfig,
)
from cluster.sweep.config import SweepJobConfig

TRAINING = """
--model.coarse-px --model.kernel-size --model.learn-scale --model.no-learn-scale --model.cropper
--model.canvas-px --model.window-px.brow --model.window-px.eye --model.window-px.nose
--model.window-px.mouth --model.patch-px.brow --model.patch-px.eye --model.patch-px.nose
--model.patch-px.mouth --model.finder-px
--augment.copies --augment.operations --augment.no-operations --augment.rotation-deg
--augment.shift --augment.scale-min --augment.scale-max --augment.noise-std --augment.mirror
--augment.colour --augment.exposure --augment.window-shift --augment.window-scale
--optim.lr-coarse --optim.lr-localizer --optim.lr-coarse-end-to-end --optim.lr-localizer-end-to-end
--optim.lr-fine --optim.epochs-coarse --optim.epochs-localizer --optim.epochs-end-to-end
--optim.epochs-fine --optim.global-batch --optim.micro-batch --optim.schedule
--optim.halve-every-epochs --optim.max-grad-norm --optim.freeze-pretrained-stats
--optim.no-freeze-pretrained-stats --optim.freeze-batch-stats --optim.no-freeze-batch-stats
--optim.lr-finder --optim.epochs-finder
--loss.coarse-weight --loss.localizer-weight --fine.networks --fine.window-error
--seed --precision --channels-last --no-channels-last --validate-every-epochs
--checkpoint-every-steps
"""
LOCATIONS = "--storage --tracking-uri --experiment"
SCALING = """
--scaling.num-workers --scaling.cpus-per-worker --scaling.use-gpu --scaling.loader-processes
--scaling.max-failures --scaling.wait-s
"""
SWEEP = """
--num-trials --seeds --space --sweep.phases --sweep.start --sweep.search --sweep.scheduler
--sweep.grace-epochs --sweep.reduction-factor --sweep.random-trials --sweep.search-seed
--sweep.max-concurrent
"""
HYBRID = """
--num-images --compare --no-compare --scratch.optim.lr-coarse --scratch.optim.lr-fine
--scratch.optim.epochs-coarse --scratch.optim.global-batch --scratch.optim.schedule
--scratch.loss.coarse-weight --scratch.loss.localizer-weight
"""
JOB = f"--data --reading --run-name {TRAINING} {LOCATIONS} {SCALING}"
EXPERIMENT = f"--data --split --num-faces --run-name {LOCATIONS}"


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (TrainingJobConfig, JOB),
        (SweepJobConfig, f"{JOB} {SWEEP}"),
        (HybridJobConfig, f"{JOB} {HYBRID}"),
        (FinderJobConfig, JOB),
        (TableConfig, f"{JOB} --seeds --systems"),
        (CoarseSizeConfig, f"{JOB} --sizes"),
        (
            ScoringJobConfig,
            "--model --data --split --reading --framing --precision"
            f" --run-name {LOCATIONS} {SCALING}",
        ),
        (ParsingJobConfig, f"--model --input --out --write --tracking-uri {SCALING}"),
        (OcclusionConfig, f"{EXPERIMENT} --model --num-covered --num-examples --seed"),
        (WindowsConfig, f"{EXPERIMENT} --model --errors"),
        (TimingConfig, f"{EXPERIMENT} --model --rounds"),
        (ParityConfig, f"{EXPERIMENT} --patch-px"),
    ],
)
def test_options_keep_their_names(
    kind: type[Any],
    names: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # so that no name is broken at a line's end
    with pytest.raises(SystemExit):
        tyro.cli(kind, args=["--help"])
    shown = re.findall(r"--[a-z][a-z0-9.-]*", capsys.readouterr().out)
    assert sorted(set(names.split()) - set(shown)) == []
