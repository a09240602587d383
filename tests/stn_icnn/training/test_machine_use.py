"""What the workers use of their machines."""

import math
from pathlib import Path

import pytest
import torch

from stn_icnn.context import LocalContext
from stn_icnn.training.machine_use import MachineUse, gpu_use, node_memory_gib


def test_a_process_uses_memory_of_its_node_and_time_of_its_processors() -> None:
    machine_use = MachineUse(LocalContext())
    use = machine_use.measure()
    assert use["system/cpu_cores"] >= 0
    assert use["system/memory_gib"] > 0.05
    assert not any("gpu" in name for name in use)


def test_a_node_s_memory_in_use_is_what_is_not_available(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  8388608 kB\nMemFree:  1 kB\nMemAvailable:  6291456 kB\n")
    assert node_memory_gib(meminfo) == 2.0


def test_a_node_that_does_not_tell_its_memory_has_none_among_the_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert math.isnan(node_memory_gib(tmp_path / "gone"))
    (tmp_path / "other").write_text("Memory: 5\n")
    assert math.isnan(node_memory_gib(tmp_path / "other"))
    monkeypatch.setattr("stn_icnn.training.machine_use.node_memory_gib", lambda: math.nan)
    assert "system/node_memory_gib" not in MachineUse(LocalContext()).measure()


def test_without_nvidia_ml_py_it_is_not_known_how_busy_a_gpu_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lacking(device: torch.device) -> int:
        raise ModuleNotFoundError("nvidia-ml-py")

    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**30)
    monkeypatch.setattr(torch.cuda, "utilization", lacking)
    use = gpu_use(torch.device("cuda"))
    assert use["system/gpu_memory_gib"] == 3.0
    assert math.isnan(use["system/gpu_busy_percent"])
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: 87)
    assert gpu_use(torch.device("cuda"))["system/gpu_busy_percent"] == 87.0
