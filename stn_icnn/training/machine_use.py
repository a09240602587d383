"""The use that a training makes of its workers' machines: processors, memory, GPUs."""

import math
import resource
import sys
import time
from pathlib import Path
from typing import Final

import torch

from stn_icnn.context import TrainContext

_GIB: Final = 2**30
_MEMINFO: Final = Path("/proc/meminfo")
_MAXRSS_BYTES: Final = 1 if sys.platform == "darwin" else 1024
"""The unit of `ru_maxrss`, bytes."""


class MachineUse:
    """Measures what the processes of a training use, from one call of `measure` to the next.

    A reading of counters that the system keeps anyway: it costs about a thousandth of a second.
    """

    def __init__(self, context: TrainContext) -> None:
        self._context = context
        self._wall_s, self._cpu_s = time.monotonic(), _cpu_seconds()

    def measure(self) -> dict[str, float]:
        """Returns the metrics, which are the same on all ranks; each rank must call it.

        Returns:
            `system/cpu_cores`: cores that a worker kept busy since the last call, the mean over the
            ranks, with the loader processes that have ended. `system/memory_gib`: the most memory
            that one worker's process has had so far. On Linux, `system/node_memory_gib`: the
            memory in use on its node now, by all processes, on the node that has most in use. On a
            GPU: `system/gpu_memory_gib`, the most that one worker's tensors have had so far, and,
            where the package nvidia-ml-py can be imported, `system/gpu_busy_percent` of the last
            second, the mean over the ranks.
        """
        wall_s, cpu_s = time.monotonic(), _cpu_seconds()
        cores = (cpu_s - self._cpu_s) / max(wall_s - self._wall_s, 1e-9)
        self._wall_s, self._cpu_s = wall_s, cpu_s
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES
        own = {
            "system/cpu_cores": cores,
            "system/memory_gib": memory / _GIB,
            "system/node_memory_gib": node_memory_gib(),
        }
        if self._context.device.type == "cuda":
            own |= gpu_use(self._context.device)
        return self._over_ranks(own)

    def _over_ranks(self, own: dict[str, float]) -> dict[str, float]:
        """Joins the ranks' values: the largest of memory, the mean of what is busy."""
        context = self._context
        values = torch.zeros(context.world_size, len(own), dtype=torch.float64)
        values[context.rank] = torch.tensor(list(own.values()), dtype=torch.float64)
        values = context.sum_(values.to(context.device)).cpu()
        peaks, means = values.amax(dim=0).tolist(), values.mean(dim=0).tolist()
        joined = {
            name: peak if name.endswith("_gib") else mean
            for name, peak, mean in zip(own, peaks, means, strict=True)
        }
        return {name: value for name, value in joined.items() if not math.isnan(value)}


def _cpu_seconds() -> float:
    """Returns the processor time of this process, and of those that it has started and seen end."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def node_memory_gib(meminfo: Path = _MEMINFO) -> float:
    """Returns the memory in use on this node, GiB; NaN where the system does not tell as Linux.

    Args:
        meminfo: the file in which the system tells its memory, kB.
    """
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
        told = {name: int(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines)}
        return (told["MemTotal"] - told["MemAvailable"]) * 1024 / _GIB
    except (OSError, LookupError, ValueError):
        return math.nan


def gpu_use(device: torch.device) -> dict[str, float]:
    """Returns a rank's use of its GPU; NaN where it is not known how busy it is."""
    try:
        busy = float(torch.cuda.utilization(device))
    except Exception:  # nvidia-ml-py's own errors too: none is a reason to lose a training
        busy = math.nan
    memory = torch.cuda.max_memory_allocated(device) / _GIB
    return {"system/gpu_memory_gib": memory, "system/gpu_busy_percent": busy}
