"""The whole of inference as one file for ONNX Runtime: a photograph's tensor in, labels out."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stn_icnn.config_dict import to_dict
from stn_icnn.data.batch import Batch
from stn_icnn.geometry import interpolation, reduce_images
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.labels import CLASSES, PARTS, PARTS_OF_NETWORK
from stn_icnn.networks.checkpoint import Checkpoint, DataFacts
from stn_icnn.networks.folding import fold_batch_norm
from stn_icnn.networks.model import Parsing

REQUIRED = ("onnx", "onnxscript", "onnxruntime")

OPSET = 18
"""The first whose Resize antialiases."""

EQUAL_LABELS = 0.999
"""Least share of a batch's pixels that ONNX Runtime must label as PyTorch does."""

WINDOW_SHARE = 1e-3
"""Most that a window's numbers may differ by, as a share of its side."""

sym_max: Callable[[int, int], int] = torch.sym_max
sym_min: Callable[[int, int], int] = torch.sym_min
"""`max` and `min` of sizes, which are unknown while they are traced: `if`, `float` and `len` would
fix them to those of the example."""


def export_onnx(checkpoint: Checkpoint) -> bytes:
    """A model as one file that does what `FaceParser.parse_tensor` does, in float32.

    Input: `images`, `[N, 3, H, W]` uint8 RGB, any N, H and W. Outputs: `labels`, `[N, H, W]` uint8,
    ids of `labels.CLASSES`, and `windows`, `[N, 6, 4]` float32, centre, width, height in px, in the
    order of `labels.PARTS`. Its metadata say all of this, the working scale and the config.

    It is run in ONNX Runtime first, on random images of two sizes: at least `EQUAL_LABELS` of each
    batch's pixels must have PyTorch's label, and windows differ by `WINDOW_SHARE` of their side at
    most.

    Returns:
        The file's content.

    Raises:
        ValueError: where a package is missing, or the exported model does not agree.
    """
    missing = [name for name in REQUIRED if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"export needs {', '.join(missing)}, not installed here: pip install 'stn-icnn[export]'"
        )
    content = _exported(checkpoint)
    _check(content, checkpoint)
    return content


class _PhotosToLabels(nn.Module):
    """`FaceParser.parse_tensor` on tensors alone, for photographs of any one size.

    Its parts are pasted by products over the whole of the photograph: to cut it to what each window
    covers would be to read numbers, which differ from face to face.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.model = fold_batch_norm(checkpoint.model)
        self.data = checkpoint.data

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Photographs `[N, 3, H, W]` uint8 to labels and windows, as `ParsedBatch` has them."""
        height, width = images.shape[-2:]
        fitted = _fit(images, self.data)
        parsing = self.model(_one_size(fitted))
        scale = sym_max(height, width) / sym_max(*fitted.shape[-2:])
        windows = parsing.windows * scale
        return _label_maps(parsing, windows, height, width), windows


class _OneSize(Batch):
    """Images of one size. It and their number are unknown while they are traced, so `len` is 0.

    The model then cuts the patches of all of them at once.
    """

    @property
    def canvas_size(self) -> Tensor:
        """`[N, 2]` float32 (W, H), px."""
        return self.sizes

    def reduced(self, coarse_px: int) -> Tensor:
        """As `Batch.reduced`."""
        return reduce_images(self.images, coarse_px)


def _one_size(images: Tensor) -> _OneSize:
    num, _, height, width = images.shape
    sides = [torch.full((num,), side, dtype=torch.float32) for side in (width, height)]
    return _OneSize((), images, torch.stack(sides, dim=1), host_sizes=())


def _fit(images: Tensor, data: DataFacts) -> Tensor:
    """Photographs `[N, 3, H, W]` uint8 at the scale of the model's data, as `parse_tensor` does."""
    height, width = images.shape[-2:]
    longest = sym_max(height, width)
    target = sym_min(longest, data.scale_px) if data.scale_fit == "at_most" else data.scale_px
    size = [sym_max(1, _rounded_quotient(side * target, longest)) for side in (height, width)]
    fitted = F.interpolate(images.float(), size, mode="bicubic", antialias=True)
    return fitted.round().clamp(0, 255).to(torch.uint8)


def _rounded_quotient(a: int, b: int) -> int:
    """`round(a / b)`, halves to even as there, for positive whole numbers."""
    return (2 * a + b - 1 + a // b % 2) // (2 * b)


def _label_maps(parsing: Parsing, windows: Tensor, height: int, width: int) -> Tensor:
    """As `pasting.label_maps`, `[N, H, W]` uint8, for photographs of one size."""
    num = windows.shape[0]
    labels = windows.new_zeros(num, height, width, dtype=torch.uint8)
    background = windows.new_ones(num, height, width)
    best = windows.new_zeros(num, height, width)
    for name, logits in parsing.part_logits.items():
        for i, patch in zip(PARTS_OF_NETWORK[name], logits.softmax(dim=2).unbind(1), strict=True):
            x, y, w, h = windows[:, i].unbind(-1)
            down, across = _inside(y, h, height, patch), _inside(x, w, width, patch)
            probs = down @ patch[:, 1:] @ across.mT
            # A patch's classes add up to 1, and so do a pixel's weights: nothing else to paste.
            background = background * (1 - probs.sum(dim=1))
            for class_id, prob in zip(PARTS[i].classes, probs.unbind(1), strict=True):
                labels = torch.where(prob > best, class_id, labels)
                best = torch.maximum(best, prob)
    return torch.where(background >= best, 0, labels)


def _inside(centre: Tensor, side: Tensor, length: int, patch: Tensor) -> Tensor:
    """`geometry.interpolation` over a whole axis, `[N, 1, length, px]`; 0 outside the window."""
    centre, side = centre[:, None], side[:, None]
    weights = interpolation(0, length, centre, side, patch)
    pixels = torch.arange(length, device=centre.device) + 0.5
    inside = (pixels - centre).abs() <= side / 2
    return (weights * inside[..., None])[:, None]


def _exported(checkpoint: Checkpoint) -> bytes:
    """The file's content."""
    from onnx.helper import set_model_props  # here: not every installation has it

    program = torch.onnx.export(
        _PhotosToLabels(checkpoint).eval().requires_grad_(False),
        (torch.zeros(2, 3, 40, 48, dtype=torch.uint8),),
        dynamo=True,
        opset_version=OPSET,
        dynamic_shapes={"images": {0: "N", 2: "H", 3: "W"}},
        input_names=["images"],
        output_names=["labels", "windows"],
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # where in our code it comes from, with this machine's paths
    set_model_props(model, _metadata(checkpoint))
    content: bytes = model.SerializeToString()
    return content


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    """What a user of the file alone must know; lists and the config as JSON."""
    return {
        "input": "images: [N, 3, H, W] uint8, RGB, upright, at their own size: the file resizes",
        "labels": "[N, H, W] uint8: each pixel's place in `classes`",
        "windows": "[N, 6, 4] float32: centre x, y, width, height in px of each of `parts`",
        "classes": json.dumps(CLASSES),
        "parts": json.dumps([part.name for part in PARTS]),
        "config": json.dumps(to_dict(checkpoint.config)),
        **{name: str(value) for name, value in asdict(checkpoint.data).items()},
    }


def _check(model: bytes, checkpoint: Checkpoint) -> None:
    """Compares ONNX Runtime with PyTorch.

    Raises:
        ValueError: where they differ by more than `EQUAL_LABELS` and `WINDOW_SHARE` allow.
    """
    import onnx  # here: not every installation has them
    import onnxruntime

    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    fp32 = replace(checkpoint, config=replace(checkpoint.config, precision="fp32"))
    parser = FaceParser(fp32, "cpu")
    px = checkpoint.data.scale_px
    for num, height, width in ((1, px * 3 // 4, px // 2), (2, px, px * 5 // 4)):
        images = _random_images(num, height, width)
        labels, windows = map(torch.from_numpy, session.run(None, {"images": images.numpy()}))
        expected = parser.parse_tensor(images)
        equal = (labels == expected.labels).float().mean().item()
        off = ((windows - expected.windows).abs() / expected.windows[..., 2:3]).max().item()
        if equal < EQUAL_LABELS or off > WINDOW_SHARE:
            raise ValueError(
                f"the exported model does not do what PyTorch does, on {num} of {width} x {height} "
                f"px: {equal:.2%} of the pixels have the same label, windows differ by up to "
                f"{off:.2%} of their side"
            )


def _random_images(num: int, height: int, width: int) -> Tensor:
    """`[num, 3, height, width]` uint8: blots of colour, which tell more than noise."""
    blots = torch.rand(num, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    return (F.interpolate(blots, (height, width), mode="bilinear") * 255).to(torch.uint8)
