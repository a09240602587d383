"""Runs the authors' released code, imported from a checkout, as its scripts run it.

None of that code is part of this project. Its scripts need a data set and more libraries at import,
so its networks and its warping are called here, in the scripts' order.
"""

import importlib.util
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.measure import DEVICE
from stn_icnn.studies.timing import Work

FILES = ("icnnmodel", "model", "helper_funcs")
COARSE_PX, CANVAS_PX, WINDOW_PX = 128, 1024, 81
NUM_CLASSES = 9
LR_COARSE, LR_FINE = 0.0009, 0.0025
"""The learning rates of the commands in its README. In the last phase those of the other networks
are 0, though they are computed, differentiated and stepped."""


def load(checkout: Path) -> SimpleNamespace:
    """Imports its modules, by name, so that they find each other and no other code finds them.

    One imports torchvision for a variant that is not used here: a stub will do.

    Raises:
        FileNotFoundError: the checkout lacks a module.
    """
    before = dict(sys.modules)
    if importlib.util.find_spec("torchvision") is None:
        sys.modules["torchvision"] = ModuleType("torchvision")
    try:
        return SimpleNamespace(**{name: _imported(name, checkout) for name in FILES})
    finally:
        for name in (*FILES, "torchvision"):
            sys.modules.pop(name, None)
            if name in before:
                sys.modules[name] = before[name]


def _imported(name: str, checkout: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, checkout / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Reference:
    """The authors' pipeline with random weights, and their training steps on batches in memory."""

    def __init__(self, checkout: Path) -> None:
        self.code = load(checkout)
        torch.manual_seed(0)
        self.coarse: nn.Module = self.code.icnnmodel.FaceModel().to(DEVICE)
        self.select: nn.Module = self.code.model.SelectNet().to(DEVICE)
        self.fine: nn.Module = self.code.model.Stage2Model().to(DEVICE)
        self._aim_cropper()

    def _aim_cropper(self) -> None:
        """Sets theta to windows of 81 px near the middle of the canvas, as a trained cropper's."""
        last = [m for m in self.select.modules() if isinstance(m, nn.Conv2d)][-1]
        assert last.bias is not None
        with torch.no_grad():
            last.weight.mul_(1e-2)
            last.bias.fill_(math.atanh((WINDOW_PX - 1) / (CANVAS_PX - 1)))

    def networks(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        """Returns the coarse, the selecting and the fine network."""
        return self.coarse, self.select, self.fine

    @torch.no_grad()
    def parse(self, photos: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Parses photographs of one size, uint8 `[H, W, 3]`, in one batch: uint8 `[N, H, W]`."""
        for network in self.networks():
            network.eval()
        image, canvas = _prepared(photos)
        coarse = F.softmax(self.coarse(image), dim=1)
        theta = self.select(coarse)
        helpers = self.code.helper_funcs
        patches, _ = helpers.affine_crop(
            img=canvas, label=None, theta_in=theta, map_location=DEVICE
        )
        probs = helpers.stage2_pred_softmax(self.fine(patches))
        whole = helpers.affine_mapback(probs, theta, DEVICE).argmax(dim=1, keepdim=False)
        height, width = photos[0].shape[:2]
        top, left = (CANVAS_PX - height) // 2, (CANVAS_PX - width) // 2
        labels = whole[:, top : top + height, left : left + width].to(torch.uint8)
        return np.asarray(labels.cpu().numpy())

    def coarse_step(self, photos: Sequence[NDArray[np.uint8]]) -> Work:
        """Returns a step of `train_stage1.py`, its first stage, without reading or augmenting."""
        image, _ = _prepared(photos)
        one_hot = _one_hot(len(photos), COARSE_PX)
        optimizer = torch.optim.Adam(self.coarse.parameters(), LR_COARSE)
        criterion: Any = nn.CrossEntropyLoss()

        def step() -> None:
            self.coarse.train()
            optimizer.zero_grad()
            logits = self.coarse(image)
            criterion(logits, one_hot.argmax(dim=1, keepdim=False)).backward()
            optimizer.step()

        return step

    def end_to_end_step(self, photos: Sequence[NDArray[np.uint8]]) -> Work:
        """Returns a step of `3_end2end_tunning_all.py`, its last stage, without reading images."""
        image, canvas = _prepared(photos)
        one_hot = _one_hot(len(photos), CANVAS_PX)
        rates = zip(self.networks(), (0.0, 0.0, LR_FINE), strict=True)
        optimizers = [torch.optim.Adam(network.parameters(), lr) for network, lr in rates]
        criterion, ones = nn.CrossEntropyLoss(), torch.ones(6, device=DEVICE)

        def step() -> None:
            for network, optimizer in zip(self.networks(), optimizers, strict=True):
                network.train()
                optimizer.zero_grad()
            theta = self.select(F.softmax(self.coarse(image), dim=1))
            patches, truth, _ = self.code.helper_funcs.affine_crop(
                img=canvas, label=one_hot, theta_in=theta, map_location=DEVICE
            )
            pairs = zip(self.fine(patches), truth, strict=True)
            losses = [criterion(logits, t.argmax(dim=1, keepdim=False)) for logits, t in pairs]
            torch.stack(losses).backward(ones)  # type: ignore[no-untyped-call]
            for optimizer in optimizers:
                optimizer.step()

        return step


def _prepared(photos: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, Tensor]:
    """Makes its input `[N, 3, 128, 128]` and canvas `[N, 3, 1024, 1024]`, float32 in [0, 1].

    It does what the authors' transforms do through Pillow, in fewer operations.
    """
    pixels = torch.from_numpy(np.stack(photos)).to(DEVICE).permute(0, 3, 1, 2).float() / 255
    side = (COARSE_PX, COARSE_PX)
    small = F.interpolate(pixels, side, mode="bilinear", align_corners=True)
    height, width = pixels.shape[2:]
    right, below = CANVAS_PX - width, CANVAS_PX - height
    margins = (right // 2, right - right // 2, below // 2, below - below // 2)
    return small, F.pad(pixels, margins)


def _one_hot(num: int, px: int) -> Tensor:
    """Makes a truth of rectangles, one for each class: float32 `[num, 9, px, px]`."""
    labels = torch.arange(px, device=DEVICE) * NUM_CLASSES // px
    one_hot = F.one_hot(labels, NUM_CLASSES).T.float()[None, :, None]
    return one_hot.expand(num, NUM_CLASSES, px, px).contiguous()
