"""The paper's experiments, a command a table or figure; each goes on under its --run-name.

    ray job submit --working-dir . -- python jobs/paper.py table PRESET --data OUT --seeds 2

table        Tables 2 and 3: iCNN, STN-iCNN* and STN-iCNN over some seeds
coarse-size  Figure 6: 64 px against 128 px for the coarse network
occlusion    Figure 5: both croppers on faces of which parts are covered
parity       Figures 7 and 8: even and odd patches beside integer slicing
timing       section 3.1: milliseconds a face of both pipelines
windows      not in the paper: what better windows would be worth
"""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import tyro

from cluster.config import TrainingJobConfig
from cluster.paper.coarse_size_job import run_coarse_size
from cluster.paper.config import (
    CoarseSizeConfig,
    ExperimentConfig,
    OcclusionConfig,
    ParityConfig,
    TableConfig,
    TimingConfig,
    WindowsConfig,
)
from cluster.paper.occlusion_job import run_occlusion
from cluster.paper.parity_job import run_parity
from cluster.paper.table_job import run_table
from cluster.paper.timing_job import run_timing
from cluster.paper.windows_job import run_windows
from jobs.options import parse_job, run_job

Result = dict[str, Any]
TrainingJob = TypeVar("TrainingJob", bound=TrainingJobConfig)
MeasuringJob = TypeVar("MeasuringJob", bound=ExperimentConfig)


def train(
    run: Callable[[TrainingJob, str], Result], kind: type[TrainingJob], arguments: Sequence[str]
) -> Result:
    """Runs an experiment that has a training job's presets and settings."""
    return run(*parse_job(kind, inspect.getdoc(kind), arguments))


def measure(
    run: Callable[[MeasuringJob], Result], kind: type[MeasuringJob], arguments: Sequence[str]
) -> Result:
    """Runs an experiment that trains nothing."""
    return run(tyro.cli(kind, description=inspect.getdoc(kind), args=arguments))


EXPERIMENTS: Mapping[str, Callable[[Sequence[str]], Result]] = {
    "table": partial(train, run_table, TableConfig),
    "coarse-size": partial(train, run_coarse_size, CoarseSizeConfig),
    "occlusion": partial(measure, run_occlusion, OcclusionConfig),
    "parity": partial(measure, run_parity, ParityConfig),
    "timing": partial(measure, run_timing, TimingConfig),
    "windows": partial(measure, run_windows, WindowsConfig),
}


def job() -> Result:
    """Runs the experiment that the command line names."""
    name, *arguments = sys.argv[1:] or [""]
    if name in ("-h", "--help"):
        print(__doc__)
        sys.exit(0)
    if name not in EXPERIMENTS:
        raise ValueError(f"which experiment? One of {', '.join(EXPERIMENTS)}; got {name!r}")
    sys.argv[0] += f" {name}"  # as --help calls the program
    return EXPERIMENTS[name](arguments)


if __name__ == "__main__":
    sys.exit(run_job(job))
