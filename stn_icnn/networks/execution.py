"""The execution of a model's networks: device, arithmetic, memory layout and threads.

`build_model` gives plain PyTorch modules. What makes them quick is put on from outside, here; it
changes neither weights nor the names of the model's state.
"""

import platform
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from stn_icnn.config import TrainConfig
from stn_icnn.networks.channels_last import use_wide_batch_norm
from stn_icnn.networks.threads import InferenceThreads, has_one_core

if TYPE_CHECKING:
    from stn_icnn.networks.model import STNiCNN


@dataclass(frozen=True)
class Execution:
    """Runs networks; the default does nothing but call them.

    Attributes:
        bf16: whether convolutions run under bf16 autocast.
        channels_last: whether inputs are laid out with their channels last in memory.
        threads: run independent networks side by side on a CPU, for inference alone.
    """

    bf16: bool = False
    channels_last: bool = False
    threads: InferenceThreads | None = None

    def run(self, network: nn.Module, x: Tensor) -> Tensor:
        """Returns a network's output for `x`, as float32 whatever it was computed in."""
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with autocast_bf16(x.device, self.bf16):
            out = network(x)
        return cast(Tensor, out).float()

    def run_each(self, pairs: Iterable[tuple[nn.Module, Tensor]]) -> list[Tensor]:
        """Returns each network's output for the input that it is paired with, in order."""
        if self.threads is None or has_one_core():
            return [self.run(network, x) for network, x in pairs]
        return self.threads.map(lambda pair: self.run(*pair), pairs)


def prepare_model(model: "STNiCNN", config: TrainConfig, device: torch.device) -> "STNiCNN":
    """Moves a model to its device and has it run in the precision and layout of its settings.

    Args:
        model: changed in place.
        config: `precision` and `channels_last` of it are used.
        device: where to compute.

    Returns:
        The same model.
    """
    bf16 = config.precision == "bf16" or (config.precision == "auto" and prefers_bf16(device))
    model.execution = Execution(bf16=bf16, channels_last=config.channels_last)
    if config.channels_last:
        use_wide_batch_norm(model)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(device)


def default_device() -> torch.device:
    """Returns the device for a process that computes alone: a GPU where it sees one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def usable_device(device: str | torch.device | None, option: str = "device") -> torch.device:
    """Returns a device; None: a GPU where there is one, else the CPU.

    Args:
        device: its name.
        option: what the user calls the setting, for the message.

    Raises:
        ValueError: there is no such device here.
    """
    if device is None:
        return default_device()
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{option} {device} can't be used: {reason}") from error


@contextmanager
def explaining_lack_of_memory(device: torch.device) -> Iterator[None]:
    """Says in words that a GPU has no memory left.

    Raises:
        MemoryError: it has none.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(
            f"{device} has no memory left: parse fewer or smaller photographs at a time, end what "
            "else runs on it, or give device='cpu'"
        ) from error


def autocast_bf16(device: torch.device, enabled: bool) -> AbstractContextManager[None]:
    """Returns the autocast region that networks, and nothing else, run in."""
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def computes_bf16(device: torch.device) -> bool:
    """Tells whether a device has bf16 arithmetic; emulated, it is slower by far than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def prefers_bf16(device: torch.device) -> bool:
    """Tells whether a device is taken to be quicker in bf16 than in fp32.

    Intel's CPUs are quicker with AMX, which a virtual machine may hide, and slower with AVX-512's
    bf16 instructions alone. AMD's with these are taken to be quicker (`docs/decisions.md`).
    """
    if device.type == "cuda":
        return computes_bf16(device)
    capabilities = torch.cpu.get_capabilities()
    is_intel = "Intel" in str(capabilities.get("cpu_name", ""))
    return computes_bf16(device) and bool(capabilities.get("amx_bf16") or not is_intel)


def describe_execution(model: "STNiCNN", device: torch.device) -> str:
    """Says what a prepared model computes on, and how: `Intel Xeon, 2 threads, fp32`."""
    arithmetic = "bf16" if model.execution.bf16 else "fp32"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {arithmetic}"
    cpu = torch.cpu.get_capabilities().get("cpu_name") or f"{platform.machine()} CPU"
    threads = torch.get_num_threads()
    return f"{cpu}, {threads} thread{'s' if threads > 1 else ''}, {arithmetic}"
