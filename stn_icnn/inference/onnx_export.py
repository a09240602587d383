"""Exporting the labelling of faces as an ONNX file: photographs in, label maps out."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stn_icnn.config_dict import to_stored
from stn_icnn.data.batch import Batch
from stn_icnn.extras import describe_missing
from stn_icnn.geometry import interpolation, reduce_images
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.networks.checkpoint import Checkpoint, DataFacts
from stn_icnn.networks.folding import fold_batch_norm
from stn_icnn.networks.model import Parsing
from stn_icnn.networks.pasting import whole_probs

REQUIRED = ("onnx", "onnxscript", "onnxruntime")
"""The packages that an export needs."""

OPSET = 18
"""The ONNX operator set: the first whose Resize antialiases."""

MIN_EQUAL_LABELS = 0.999
"""The least share of a batch's pixels that ONNX Runtime must label as PyTorch does."""

MAX_WINDOW_DIFFERENCE = 1e-3
"""The most by which a window's numbers may differ, as a share of its side."""

sym_max: Callable[[int, int], int] = torch.sym_max
sym_min: Callable[[int, int], int] = torch.sym_min
"""`max` and `min` of sizes, which are symbols while the model is traced: `if`, `float` and `len`
would fix them to the sizes of the example."""


def export_onnx(checkpoint: Checkpoint) -> bytes:
    """Exports a model as one ONNX file that does what `FaceParser.parse_tensor` does, in float32.

    The file's input is `images`, `[N, 3, H, W]` uint8 RGB, for any N, H and W. Its outputs are
    `labels`, `[N, H, W]` uint8, ids of the classes of the model's label set, and `windows`,
    `[N, P, 4]` float32, centre x, y, width, height in px of each of its parts. Its metadata say all
    of this, the working scale and the settings of the training.

    The exported model is run in ONNX Runtime on random images of two sizes: at least
    `MIN_EQUAL_LABELS` of each batch's pixels must have PyTorch's label, and windows may differ by
    `MAX_WINDOW_DIFFERENCE` of their side at most.

    Returns:
        The file's content.

    Raises:
        ValueError: a package is missing, or the exported model does not agree with PyTorch.
    """
    require_packages()
    content = _exported(checkpoint)
    _check(content, checkpoint)
    return content


def require_packages() -> None:
    """Makes sure that there is what an export needs.

    Raises:
        ValueError: a package is missing.
    """
    missing = [name for name in REQUIRED if find_spec(name) is None]
    if missing:
        raise ValueError(describe_missing("export", ", ".join(missing), "export"))


class _PhotosToLabels(nn.Module):
    """Does what `FaceParser.parse_tensor` does in operations that can be traced.

    Each part is pasted over the whole photograph by matrix products: what its window alone covers
    has a size that depends on the face, and would be fixed by tracing.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.model = fold_batch_norm(checkpoint.model)
        self.model.finder = None  # it has a file of its own
        self.data = checkpoint.data

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns labels and windows, as in `ParsedBatch`, of photographs `[N, 3, H, W]` uint8."""
        height, width = images.shape[-2:]
        fitted = _fit(images, self.data)
        parsing = self.model(_one_size(fitted))
        scale = sym_max(height, width) / sym_max(*fitted.shape[-2:])
        windows = parsing.windows * scale
        return _label_maps(parsing, windows, height, width), windows


class _OneSize(Batch):
    """Images of one size. Size and number are symbols while the model is traced.

    Its `len` is 0, which lets the model cut the patches of all images at once.
    """

    @property
    def canvas_size(self) -> Tensor:
        """The images' sizes, `[N, 2]` float32 (W, H), px: nothing is padded."""
        return self.sizes

    def reduced(self, coarse_px: int) -> Tensor:
        """Reduces the images as `Batch.reduced` does."""
        return reduce_images(self.images, coarse_px)


def _one_size(images: Tensor) -> _OneSize:
    num, _, height, width = images.shape
    sides = [torch.full((num,), side, dtype=torch.float32) for side in (width, height)]
    return _OneSize((), images, torch.stack(sides, dim=1), host_sizes=())


def _fit(images: Tensor, data: DataFacts) -> Tensor:
    """Resizes photographs `[N, 3, H, W]` uint8 to the working scale, as `parse_tensor` does."""
    height, width = images.shape[-2:]
    longest = sym_max(height, width)
    target = sym_min(longest, data.scale_px) if data.scale_fit == "at_most" else data.scale_px
    size = [sym_max(1, rounded_quotient(side * target, longest)) for side in (height, width)]
    fitted = F.interpolate(images.float(), size, mode="bicubic", antialias=True)
    return fitted.round().clamp(0, 255).to(torch.uint8)


def rounded_quotient(a: int, b: int) -> int:
    """Returns `round(a / b)` of positive whole numbers, halves to even as `round` has them."""
    return (2 * a + b - 1 + a // b % 2) // (2 * b)


def _label_maps(parsing: Parsing, windows: Tensor, height: int, width: int) -> Tensor:
    """Returns label maps `[N, H, W]` uint8 as `pasting.label_maps` does, for one size."""
    num, label_set = windows.shape[0], parsing.label_set
    labels = windows.new_zeros(num, height, width, dtype=torch.uint8)
    background = windows.new_ones(num, height, width)
    best = windows.new_zeros(num, height, width)
    for name, logits in parsing.part_logits.items():
        parts = label_set.parts_of_network[name]
        for i, patch in zip(parts, logits.softmax(dim=2).unbind(1), strict=True):
            x, y, w, h = windows[:, i].unbind(-1)
            down, across = _inside(y, h, height, patch), _inside(x, w, width, patch)
            probs = down @ patch[:, 1:] @ across.mT
            # A patch's classes add up to 1, and so do a pixel's weights: nothing else to paste.
            background = background * (1 - probs.sum(dim=1))
            for class_id, prob in zip(label_set.part_classes[i], probs.unbind(1), strict=True):
                labels = torch.where(prob > best, class_id, labels)
                best = torch.maximum(best, prob)
    if (whole := whole_probs(parsing)) is not None:
        down, across = (
            interpolation(0, length, length / 2, length, whole) for length in (height, width)
        )
        probs = (down @ whole @ across.mT) * background[:, None]
        background = probs[:, 0]
        for class_id, prob in zip(label_set.whole_classes, probs[:, 1:].unbind(1), strict=True):
            labels = torch.where(prob > best, class_id, labels)
            best = torch.maximum(best, prob)
    return torch.where(background >= best, 0, labels)


def _inside(centre: Tensor, side: Tensor, length: int, patch: Tensor) -> Tensor:
    """Returns `geometry.interpolation` over an axis, `[N, 1, length, px]`; 0 off the window."""
    centre, side = centre[:, None], side[:, None]
    weights = interpolation(0, length, centre, side, patch)
    pixels = torch.arange(length, device=centre.device) + 0.5
    inside = (pixels - centre).abs() <= side / 2
    return (weights * inside[..., None])[:, None]


def _exported(checkpoint: Checkpoint) -> bytes:
    """Traces the model; returns the file's content."""
    return trace(_PhotosToLabels(checkpoint), ("labels", "windows"), _metadata(checkpoint))


def trace(module: nn.Module, outputs: Sequence[str], metadata: Mapping[str, str]) -> bytes:
    """Traces a module whose only input is `images`, `[N, 3, H, W]` uint8 of any N, H and W.

    Args:
        module: what is traced.
        outputs: the names of its outputs.
        metadata: what the file says of itself.

    Returns:
        The content of an ONNX file.
    """
    from onnx.helper import set_model_props  # here: not every installation has it

    program = torch.onnx.export(
        module.eval().requires_grad_(False),
        (torch.zeros(2, 3, 40, 48, dtype=torch.uint8),),
        dynamo=True,
        opset_version=OPSET,
        dynamic_shapes={"images": {0: "N", 2: "H", 3: "W"}},
        input_names=["images"],
        output_names=outputs,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # where in our code it comes from, with this machine's paths
    set_model_props(model, dict(metadata))
    content: bytes = model.SerializeToString()
    return content


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    """Returns what a user of the file alone must know; lists and settings are JSON."""
    label_set = checkpoint.model.label_set
    return {
        "input": "images: [N, 3, H, W] uint8, RGB, upright, at their own size: the file resizes",
        "labels": "[N, H, W] uint8: each pixel's place in `classes`",
        "windows": f"[N, {label_set.num_parts}, 4] float32: "
        "centre x, y, width, height in px of each of `parts`",
        "classes": json.dumps(label_set.class_names),
        "parts": json.dumps([part.name for part in label_set.parts]),
        "config": json.dumps(to_stored(checkpoint.config)),
        **{name: str(value) for name, value in asdict(checkpoint.data).items()},
    }


def _check(model: bytes, checkpoint: Checkpoint) -> None:
    """Compares what ONNX Runtime and PyTorch compute.

    Raises:
        ValueError: labels or windows differ by more than is allowed.
    """
    fp32 = replace(checkpoint, config=replace(checkpoint.config, precision="fp32"))
    parser, run = FaceParser(fp32, "cpu"), runner(model)
    px = checkpoint.data.scale_px
    for num, height, width in ((1, px * 3 // 4, px // 2), (2, px, px * 5 // 4)):
        images = random_images(num, height, width)
        labels, windows = run(images)
        expected = parser.parse_tensor(images)
        equal = (labels == expected.labels).float().mean().item()
        off = ((windows - expected.windows).abs() / expected.windows[..., 2:3]).max().item()
        if equal < MIN_EQUAL_LABELS or off > MAX_WINDOW_DIFFERENCE:
            raise ValueError(
                f"the exported model does not do what PyTorch does, on {num} of {width} x {height} "
                f"px: {equal:.2%} of the pixels have the same label, windows differ by up to "
                f"{off:.2%} of their side"
            )


def runner(model: bytes) -> Callable[[Tensor], list[Tensor]]:
    """Checks a file that `trace` made; returns a function from images to its outputs."""
    import onnx  # here: not every installation has them
    import onnxruntime

    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda images: [
        torch.from_numpy(output) for output in session.run(None, {"images": images.numpy()})
    ]


def random_images(num: int, height: int, width: int) -> Tensor:
    """Returns `[num, 3, height, width]` uint8, blots of colour, which tell more than noise."""
    blots = torch.rand(num, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    return (F.interpolate(blots, (height, width), mode="bilinear") * 255).to(torch.uint8)
