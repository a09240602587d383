"""Collects what a figure depends on beside the code: machine, versions, commits."""

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import DEVICE
from cluster.tracking.provenance import git_commit

PACKAGES = ("torch", "numpy", "pillow", "simplejpeg", "ray", "onnxruntime")


def facts(rounds: int, reference: Path | None, data: str) -> dict[str, Any]:
    """Returns the facts of this run, as plain types.

    Args:
        rounds: number of rounds of each figure.
        reference: the authors' checkout.
        data: describes the faces that are read.
    """
    gpu = torch.cuda.get_device_name() if DEVICE.type == "cuda" else None
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "commit": git_commit(),
        "reference": _commit_of(reference) if reference else None,
        "faces": data,
        "rounds": rounds,
        "cpu": torch.cpu.get_capabilities().get("cpu_name") or platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2),
        "gpu": gpu,
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit_of(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "not a git checkout"
