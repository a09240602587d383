"""Compares ONNX Runtime with PyTorch: the time a face takes, and the share of equal labels."""

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import Row, in_turn
from benchmarks.subjects import Setup, checkpoint, photographs
from sharding.manifest import load_manifest
from stn_icnn.data.plan import Request
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.onnx_export import REQUIRED, export_onnx
from stn_icnn.networks.checkpoint import Checkpoint, load_checkpoint

FIGURE = "PyTorch's time / ONNX Runtime's"
NUM_COMPARED = 100
"""The most faces of the test split whose labels are compared."""


def export(setup: Setup) -> Iterator[Row]:
    """Yields the times of one face and of a batch, and the share of equal labels, on the CPU."""
    missing = [name for name in REQUIRED if importlib.util.find_spec(name) is None]
    if missing:
        yield Row(figure=FIGURE, note=f"not measured: there is no {' and no '.join(missing)}")
        return
    model = _model(setup)
    parser, session = FaceParser(model, "cpu"), _session(model)
    images = torch.from_numpy(np.stack(photographs(setup, setup.batch))).permute(0, 3, 1, 2)
    for num in (1, setup.batch):
        some = images[:num].contiguous()
        onnx = partial(session.run, None, {"images": some.numpy()})
        times = in_turn({"torch": partial(parser.parse_tensor, some), "onnx": onnx}, setup.rounds)
        yield Row(
            figure=f"{'one face' if num == 1 else f'{num} faces at a time'}: {FIGURE}",
            rounds=times.ratio("torch", "onnx"),
            absolute={
                "PyTorch, ms a face": times.ms("torch", num),
                "ONNX Runtime, ms a face": times.ms("onnx", num),
            },
        )
    shares = [_same_labels(parser, session, image) for image in _test_faces(setup)]
    yield Row(
        figure="share of pixels that both label alike",
        rounds=[float(np.mean(shares))],
        note=f"of {len(shares)} test faces; least of a face {min(shares):.5f}",
    )


def _model(setup: Setup) -> Checkpoint:
    model = load_checkpoint(setup.model) if setup.model else checkpoint(setup.config)
    return replace(model, config=replace(model.config, precision="fp32"))


def _session(model: Checkpoint) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(export_onnx(model), options, providers=providers)


def _test_faces(setup: Setup) -> Iterator[Tensor]:
    """Yields faces, uint8 `[1, 3, H, W]`, each at its size in the shards."""
    paths = [str(path) for path in sorted((setup.shards / "test").glob("*.tar"))]
    faces = ShardedFaces(paths, load_manifest(setup.shards).label_set)
    for i in range(min(NUM_COMPARED, len(faces.samples))):
        yield faces[Request(i)].images.contiguous()


def _same_labels(parser: FaceParser, session: Any, image: Tensor) -> float:
    """Returns the share of a face's pixels that both label alike."""
    labels = session.run(["labels"], {"images": image.numpy()})[0]
    return float((labels == parser.parse_tensor(image).labels.numpy()).mean())
