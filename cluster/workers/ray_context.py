"""The context by which training and scoring run in a Ray Train worker."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cluster.workers.ray_internals import is_told_to_go
from cluster.workers.reports import report_to_dict
from cluster.workers.steps_done import note_steps
from stn_icnn.context import TrainReport


class RayContext:
    """The `TrainContext` of a Ray Train worker, which must be made inside one."""

    def __init__(self) -> None:
        context = ray.train.get_context()
        self.rank: int = context.get_world_rank()
        self.world_size: int = context.get_world_size()
        self.device: torch.device = ray.train.torch.get_device()

    @property
    def is_leaving(self) -> bool:
        """Whether a node of the workers is told to go, as Ray Train has told this process."""
        return is_told_to_go()

    def note_steps(self, num_done: int) -> None:
        """Keeps the number where Ray Train's controller asks for it."""
        note_steps(num_done)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Returns the module under DDP where there is more than one worker.

        Each rank has batch norm's statistics of its own, which training averages at times.
        """
        if self.world_size == 1:
            return module
        return DistributedDataParallel(
            module,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            forward_sync_buffers=False,
            gradient_as_bucket_view=True,
        )

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sums a tensor over ranks, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def report(self, report: TrainReport, checkpoint_dir: Path | None) -> None:
        """Reports to Ray; a checkpoint's folder is copied to the storage before this returns."""
        checkpoint = checkpoint_dir and ray.train.Checkpoint.from_directory(str(checkpoint_dir))
        ray.train.report(
            report_to_dict(report),
            checkpoint=checkpoint,
            checkpoint_dir_name=report.checkpoint_name if checkpoint else None,
        )

    @contextmanager
    def latest_checkpoint(self) -> Iterator[Path | None]:
        """Yields the run's last checkpoint; of one in a bucket, a temporary copy."""
        checkpoint = ray.train.get_checkpoint()
        with checkpoint.as_directory() if checkpoint else nullcontext() as folder:
            yield folder and Path(folder)
