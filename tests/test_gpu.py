"""On a GPU: the same labels as on a CPU, training in bf16, NCCL. Skipped where there is none."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from cluster.workers.allocation import WorkerAllocation
from cluster.workers.launch import run_on_workers
from cluster.workers.ray_context import RayContext
from stn_icnn.config import TrainConfig
from stn_icnn.context import LocalContext
from stn_icnn.data.plan import Request
from stn_icnn.networks.checkpoint import MODEL_FILE, DataFacts, load_checkpoint
from stn_icnn.networks.execution import prepare_model
from stn_icnn.networks.model import STNiCNN, build_model
from stn_icnn.networks.pasting import label_maps
from stn_icnn.storage import Folder
from stn_icnn.training.loop import PhaseRun, run_phase
from stn_icnn.training.phases import PHASES

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]
GPU = torch.device("cuda")


def test_a_gpu_labels_as_a_cpu_does(
    tiny_config: TrainConfig, sure_model: STNiCNN, tiny_faces
) -> None:
    faces = tiny_faces("val")
    batch = faces.__getitems__([Request(i) for i in range(2)])
    maps = []
    for device in (torch.device("cpu"), GPU):
        model = prepare_model(copy.deepcopy(sure_model), tiny_config, device)
        with torch.inference_mode():
            of_device = label_maps(model(batch.to(device)), batch.host_sizes)
        maps.append(torch.cat([labels.cpu().flatten() for labels in of_device]))
    assert maps[0].unique().numel() > 3
    assert (maps[0] == maps[1]).float().mean() > 0.99  # tf32 may move a border


@pytest.mark.parametrize("phase", ["coarse", "localizer", "end_to_end", "frozen", "baseline"])
def test_a_phase_trains_in_bf16_and_leaves_a_model_that_needs_no_gpu(
    phase, tiny_config: TrainConfig, tiny_faces, tmp_path: Path
) -> None:
    config = PHASES[phase].settings(replace(tiny_config, precision="bf16"))
    context = LocalContext(tmp_path, GPU)
    run = PhaseRun(
        phase=PHASES[phase],
        config=config,
        train_faces=tiny_faces("train", augmented=True),
        val_faces=tiny_faces("val"),
        data=DataFacts(dataset="helen", fingerprint="f", scale_px=1024, scale_fit="at_most"),
        context=context,
        loader_processes=1,
    )
    run_phase(run, build_model(config.model))
    first, last = context.reports
    assert last.metrics["train/loss"] < first.metrics["train/loss"]
    weights = torch.load(tmp_path / MODEL_FILE, weights_only=True)["weights"]
    assert {value.device.type for value in weights.values()} == {"cpu"}
    assert load_checkpoint(tmp_path).phase == phase


def _in_worker(task: Any) -> tuple[str, str]:
    context = RayContext()
    dist.all_reduce(torch.ones(3, device=context.device))  # raises where NCCL does not work
    return context.device.type, dist.get_backend()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_workers_with_gpus_are_joined_by_nccl(tmp_path: Path) -> None:
    result = run_on_workers(
        _in_worker,
        None,
        name="nccl",
        storage=Folder(tmp_path),
        allocation=WorkerAllocation(
            num_workers=1, cpus_per_worker=1, use_gpu=True, loader_processes=1, max_failures=0
        ),
        on_report=lambda report: None,
    )
    assert result.return_value == ("cuda", "nccl")
