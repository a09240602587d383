"""ONNX Runtime beside PyTorch: time a face, and where their labels agree."""

import importlib.util
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.measure import Row, Work, in_turn
from benchmarks.subjects import Setup, checkpoint, face_parser, photographs
from stn_icnn.checkpoint import save_checkpoint

FIGURE = "PyTorch's time / ONNX Runtime's"


def export(setup: Setup) -> Iterator[Row]:
    """One face and a batch; nothing where a part is missing."""
    missing = [n for n in ("stn_icnn.export", "onnxruntime") if importlib.util.find_spec(n) is None]
    if missing:
        yield Row(figure=FIGURE, note=f"not measured: there is no {' and no '.join(missing)}")
        return
    photos = photographs(setup, setup.batch)
    parser = face_parser(setup.config, photos)
    session = _session(setup)
    (given,) = session.get_inputs()
    pixels = np.stack(photos).transpose(0, 3, 1, 2)
    if given.type == "tensor(float)":
        pixels = pixels.astype(np.float32)
    for num in (1, setup.batch):
        some = np.ascontiguousarray(pixels[:num])
        works: dict[str, Work] = {
            "torch": partial(parser.parse_all, photos[:num]),
            "onnx": partial(session.run, None, {given.name: some}),
        }
        times = in_turn(works, setup.rounds)
        yield Row(
            figure=f"{'one face' if num == 1 else f'{num} faces at a time'}: {FIGURE}",
            rounds=times.ratio("torch", "onnx"),
            absolute={
                "PyTorch, ms a face": times.ms("torch", num),
                "ONNX Runtime, ms a face": times.ms("onnx", num),
            },
        )
    ours = np.stack([face.labels for face in parser.parse_all(photos)])
    same = float((session.run(None, {given.name: pixels})[0] == ours).mean())
    yield Row(figure="share of pixels that both label alike", rounds=[same])


def _session(setup: Setup) -> Any:
    import onnxruntime
    from stn_icnn.export import export_onnx

    model, out = setup.scratch / "model.pt", setup.scratch / "model.onnx"
    save_checkpoint(model, checkpoint(setup.config))
    export_onnx(model, out)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(str(out), options, providers=["CPUExecutionProvider"])
