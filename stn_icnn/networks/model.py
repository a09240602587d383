"""The whole parser (paper Figure 1b): coarse -> localizer -> crop -> fine -> paste."""

import platform
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from stn_icnn.config import ModelConfig, TrainConfig
from stn_icnn.data.batch import Batch
from stn_icnn.geometry import crop, theta_from_windows, whole_image
from stn_icnn.labels import (
    FINE_NETWORKS,
    MODEL_CLASSES,
    PARTS,
    PARTS_OF_NETWORK,
)
from stn_icnn.networks.centroid_cropper import CentroidCropper
from stn_icnn.networks.icnn import ICNN
from stn_icnn.networks.localizer import Localizer
from stn_icnn.networks.threads import Crew, is_alone

MAX_LOG_FACTOR = 1.5
"""A window is at most e^1.5 = 4.5 times as large as set, and at least 1 / 4.5."""


CUT_AT_ONCE = 4
"""Images that patches are cut from on a CPU: whole batches as floats outgrow its caches."""


@dataclass(frozen=True)
class Parsing:
    """What the parser makes of a batch of N faces."""

    coarse_logits: Tensor
    """`[N, 9, coarse_px, coarse_px]` float32."""
    locations: Tensor
    """`[N, 6, 3]` float32: centre as a share of width and height, log factor on the window."""
    windows: Tensor
    """`[N, 6, 4]` float32: centre, width, height, px of the (augmented) frame."""
    theta: Mapping[str, Tensor]
    """A fine network's windows on the canvas, `[N, P, 2, 3]` float32; P parts share it."""
    part_logits: Mapping[str, Tensor]
    """A fine network's labels, `[N, P, 1 + classes, px, px]` float32; channel 0 is background."""


class STNiCNN(nn.Module):
    """Coarse network, localizer and fine networks, wired as in Figure 1b.

    Args:
        coarse: labels the squared copy with nine classes (K).
        localizer: finds the parts in the rough labelling (L), or the baseline's cropper.
        fine: the networks that label patches, by name of `labels.FINE_NETWORKS` (K_i).
        config: the sizes they were built for.

    Attributes:
        bf16: whether the networks' convolutions run under bf16 autocast.
        channels_last: the memory layout of their inputs.
        crew: threads that compute the fine networks side by side; none in training.
    """

    def __init__(
        self,
        coarse: ICNN,
        localizer: Localizer | CentroidCropper,
        fine: Mapping[str, ICNN],
        config: ModelConfig,
    ) -> None:
        super().__init__()
        self.coarse = coarse
        self.localizer = localizer
        self.fine = nn.ModuleDict(fine)
        self.config = config
        self.bf16 = False
        self.channels_last = False
        self.crew: Crew | None = None

    def forward(self, batch: Batch) -> Parsing:
        """Parses a batch, up to the labels of the patches; `pasting.label_maps` pastes them."""
        coarse_logits = self.label_coarsely(batch)
        locations = self.locate(coarse_logits)
        windows = self.windows(locations, batch)
        theta, part_logits = self.label_parts(batch, windows)
        return Parsing(coarse_logits, locations, windows, theta, part_logits)

    def label_coarsely(self, batch: Batch) -> Tensor:
        """The coarse network's logits (equation 1), `[N, 9, coarse_px, coarse_px]` float32."""
        theta = theta_from_windows(whole_image(batch.sizes), batch.sizes, batch.affine)
        coarse_px = self.config.coarse_px
        squared = crop(batch.reduced(coarse_px).float(), theta, coarse_px) / 255
        if batch.augmentation is not None:
            squared = batch.augmentation.appearance(squared, stream=0)
        return self._run(self.coarse, squared[:, 0])

    def locate(self, coarse_logits: Tensor) -> Tensor:
        """Where the parts are (equation 2), `[N, 6, 3]` float32."""
        return self._run(self.localizer, coarse_logits.softmax(dim=1))

    def windows(self, locations: Tensor, batch: Batch) -> Tensor:
        """Windows in pixels of the frame, `[N, 6, 4]` float32; jittered where augmented so."""
        side = locations.new_tensor(self.config.window_px.per_part())
        centre, log_factor = locations[..., :2] * batch.sizes[:, None], locations[..., 2]
        if batch.augmentation is not None:
            jitter = batch.augmentation.window_jitter
            centre = centre + jitter[..., :2] * side[:, None]
            log_factor = log_factor + jitter[..., 2]
        side = (side * log_factor.clamp(-MAX_LOG_FACTOR, MAX_LOG_FACTOR).exp())[..., None]
        return torch.cat([centre, side, side], dim=-1)

    def label_parts(
        self, batch: Batch, windows: Tensor, networks: Sequence[str] = FINE_NETWORKS
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Cuts the patches (equation 3) and labels them (equation 4), with some of the networks.

        Returns:
            Theta and logits by fine network, as in `Parsing`.
        """
        theta = {
            name: theta_from_windows(
                windows[:, list(PARTS_OF_NETWORK[name])], batch.canvas_size, batch.affine
            )
            for name in networks
        }
        seen = {}
        for stream, (name, patches) in enumerate(self._cut(batch, theta).items(), start=1):
            if batch.augmentation is not None:
                patches = batch.augmentation.appearance(patches, stream)
            seen[name] = _mirror(patches, PARTS_OF_NETWORK[name]).flatten(0, 1)
        logits = {}
        for name, labelled in zip(seen, self._run_fine(seen), strict=True):
            parts = PARTS_OF_NETWORK[name]
            logits[name] = _mirror(labelled.view(-1, len(parts), *labelled.shape[1:]), parts)
        return theta, logits

    def _cut(self, batch: Batch, theta: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The patches of each network, `[N, P, 3, patch_px, patch_px]` float32 in [0, 1]."""
        if batch.images.is_cuda or len(batch) <= CUT_AT_ONCE:
            return self._cut_at_once(batch.images, theta)
        cut = []
        for start in range(0, len(batch), CUT_AT_ONCE):
            some = slice(start, start + CUT_AT_ONCE)
            of_some = {name: of_batch[some] for name, of_batch in theta.items()}
            cut.append(self._cut_at_once(batch.images[some], of_some))
        return {name: torch.cat([patches[name] for patches in cut]) for name in theta}

    def _cut_at_once(self, images: Tensor, theta: Mapping[str, Tensor]) -> dict[str, Tensor]:
        images = images.float()
        px = {name: self.config.patch_px.of_network(name) for name in theta}
        return {name: crop(images, of_batch, px[name]) / 255 for name, of_batch in theta.items()}

    def _run_fine(self, seen: Mapping[str, Tensor]) -> list[Tensor]:
        """What the fine networks make of their patches, in order."""
        jobs = [(self.fine[name], patches) for name, patches in seen.items()]
        if self.crew is None or is_alone():
            return [self._run(*job) for job in jobs]
        return self.crew.map(lambda job: self._run(*job), jobs)

    def _run(self, network: nn.Module, x: Tensor) -> Tensor:
        """A network's float32 output, computed in the precision and layout that are set."""
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with autocast_bf16(x.device, self.bf16):
            out = network(x)
        return cast(Tensor, out).float()


def autocast_bf16(device: torch.device, enabled: bool) -> AbstractContextManager[None]:
    """The autocast region that networks, and nothing else, run in."""
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def computes_bf16(device: torch.device) -> bool:
    """Whether a device has bf16 arithmetic; emulated, it is slower by far than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def prefers_bf16(device: torch.device) -> bool:
    """Whether a device is taken to be quicker in bf16 than in fp32.

    Intel's CPUs are quicker with AMX, which a virtual machine may hide, and slower with AVX-512's
    bf16 instructions alone. AMD's with these are taken to be quicker (`docs/decisions.md`).
    """
    if device.type == "cuda":
        return computes_bf16(device)
    capabilities = torch.cpu.get_capabilities()
    is_intel = "Intel" in str(capabilities.get("cpu_name", ""))
    return computes_bf16(device) and bool(capabilities.get("amx_bf16") or not is_intel)


def computed_on(model: STNiCNN, device: torch.device) -> str:
    """What a prepared model computes on, and how: `Intel Xeon, 2 threads, fp32`."""
    arithmetic = "bf16" if model.bf16 else "fp32"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {arithmetic}"
    cpu = torch.cpu.get_capabilities().get("cpu_name") or f"{platform.machine()} CPU"
    threads = torch.get_num_threads()
    return f"{cpu}, {threads} thread{'s' if threads > 1 else ''}, {arithmetic}"


def _mirror(patches: Tensor, parts: Sequence[int]) -> Tensor:
    """Mirrors `[N, P, C, px, px]` where a part is the mirrored one of its pair."""
    if not any(PARTS[part].mirrored for part in parts):
        return patches
    return torch.stack(
        [
            p.flip(-1) if PARTS[i].mirrored else p
            for p, i in zip(patches.unbind(1), parts, strict=True)
        ],
        dim=1,
    )


def build_model(config: ModelConfig) -> STNiCNN:
    """All wiring: the networks for a config, freshly initialised."""
    fine = {}
    for name in FINE_NETWORKS:
        num_classes = 1 + len(PARTS[PARTS_OF_NETWORK[name][0]].classes)
        fine[name] = ICNN(num_classes, config.kernel_size)
    is_baseline = config.cropper == "centroid"
    return STNiCNN(
        coarse=ICNN(len(MODEL_CLASSES), config.kernel_size),
        localizer=CentroidCropper()
        if is_baseline
        else Localizer(config.coarse_px, config.learn_scale),
        fine=fine,
        config=config,
    )


def prepare_model(model: STNiCNN, config: TrainConfig, device: torch.device) -> STNiCNN:
    """The model on its device, in the layout and precision that the config asks for."""
    model.bf16 = config.precision == "bf16" or (config.precision == "auto" and prefers_bf16(device))
    model.channels_last = config.channels_last
    if config.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(device)
