"""The paper's experiments, a command a table or figure.

    python jobs/paper.py table celebamask-tuned --data SHARDS --seeds 2
    ray job submit --working-dir . -- python jobs/paper.py …  # on a cluster

table        Tables 2 and 3: iCNN, STN-iCNN* and STN-iCNN over some seeds
coarse-size  Figure 6: 64 px against 128 px for the coarse network
occlusion    Figure 5: both croppers on faces of which parts are covered
parity       Figures 7 and 8: even and odd patches beside integer slicing
timing       section 3.1: milliseconds a face of both pipelines
windows      not in the paper: what better windows would be worth

The same command goes on after a stop. --help after a name shows its options.
"""

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from jobs.running import run_job


@dataclass(frozen=True)
class Experiment:
    """An experiment's settings and the function that runs it, each loaded when it is needed."""

    settings: str
    """The name of their class in `cluster.paper.config`."""
    function: str
    """Its module and name, `MODULE:NAME`."""


EXPERIMENTS: Mapping[str, Experiment] = {
    "table": Experiment("TableConfig", "cluster.paper.table_job:run_table"),
    "coarse-size": Experiment("CoarseSizeConfig", "cluster.paper.coarse_size_job:run_coarse_size"),
    "occlusion": Experiment("OcclusionConfig", "cluster.paper.occlusion_job:run_occlusion"),
    "parity": Experiment("ParityConfig", "cluster.paper.parity_job:run_parity"),
    "timing": Experiment("TimingConfig", "cluster.paper.timing_job:run_timing"),
    "windows": Experiment("WindowsConfig", "cluster.paper.windows_job:run_windows"),
}


def job() -> dict[str, Any]:
    """Runs the experiment that the command line names."""
    from cluster.config import TrainingJobConfig
    from jobs.command_line import asks_for_help, parse_settings
    from jobs.options import parse_job

    name, *arguments = sys.argv[1:] or [""]
    if asks_for_help([name]):
        print(__doc__)
        sys.exit(0)
    if name not in EXPERIMENTS:
        raise ValueError(f"which experiment? One of {', '.join(EXPERIMENTS)}; got {name!r}")
    experiment = EXPERIMENTS[name]
    kind = resolve_name(f"cluster.paper.config:{experiment.settings}")
    description = inspect.getdoc(kind)
    program = f"{sys.argv[0]} {name}"
    if issubclass(kind, TrainingJobConfig):
        settings: tuple[Any, ...] = parse_job(kind, description, arguments, program)
    else:
        settings = (parse_settings(kind, description, arguments, program=program),)
    result: dict[str, Any] = resolve_name(experiment.function)(*settings)
    return result


if __name__ == "__main__":
    sys.exit(run_job(job))
