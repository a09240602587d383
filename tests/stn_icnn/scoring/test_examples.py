"""The faces that a report shows are labelled as they were scored, whichever rank holds them."""

import threading
from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from stn_icnn.config import TrainConfig
from stn_icnn.context import LocalContext
from stn_icnn.data.plan import Request
from stn_icnn.labels import PAPER9
from stn_icnn.networks.execution import prepare_model
from stn_icnn.networks.model import STNiCNN
from stn_icnn.scoring.confusion import count_confusions, parse_batch
from stn_icnn.scoring.examples import ScoredFace, label_examples
from stn_icnn.scoring.f1 import confusion

SYSTEM = "system"
Found = dict[str, list[ScoredFace]]


class ThreadContext(LocalContext):
    """One of several ranks that are threads, and sum through shared slots."""

    def __init__(self, rank: int, slots: list[Tensor], barrier: threading.Barrier) -> None:
        super().__init__()
        self.rank, self.world_size = rank, len(slots)
        self.slots, self.barrier = slots, barrier

    def sum_(self, tensor: Tensor) -> Tensor:
        self.slots[self.rank] = tensor.clone()
        self.barrier.wait()
        tensor.copy_(torch.stack(self.slots).sum(dim=0))
        self.barrier.wait()
        return tensor


def scored_by(num_ranks: int, model: STNiCNN, faces) -> list[tuple[Tensor, Found]]:
    """Counts and examples, as each rank holds them."""
    slots, barrier = [torch.empty(0)] * num_ranks, threading.Barrier(num_ranks, timeout=60)
    results: dict[int, tuple[Tensor, Found]] = {}

    def work(rank: int) -> None:
        context, labeller = ThreadContext(rank, slots, barrier), partial(parse_batch, model)
        counts = count_confusions({SYSTEM: labeller}, faces, context)[SYSTEM]
        results[rank] = counts, label_examples(labeller, faces, counts, context, 2)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(num_ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[rank] for rank in range(num_ranks)]


@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_shown_labels_are_those_that_were_counted(
    num_ranks: int,
    sure_model: STNiCNN,
    tiny_config: TrainConfig,
    tiny_faces,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stn_icnn.scoring.confusion.EVALUATION_BATCH", 3)
    config = replace(tiny_config, precision="bf16")
    model = prepare_model(deepcopy(sure_model), config, torch.device("cpu"))
    faces = tiny_faces("train", False)
    keys = [place.key for place in faces.samples]
    for counts, examples in scored_by(num_ranks, model, faces):
        assert {kind: len(some) for kind, some in examples.items()} == {
            "best": 2,
            "median": 2,
            "worst": 2,
        }
        for face in (face for some in examples.values() for face in some):
            index = keys.index(face.key)
            truth, predicted = map(torch.from_numpy, (face.truth, face.predicted))
            assert torch.equal(confusion(truth, predicted, PAPER9.num_classes), counts[index])
            sample = faces[Request(index)]
            assert np.array_equal(face.image, sample.images[0].permute(1, 2, 0))
            assert np.array_equal(face.truth, sample.labels[0])


def test_no_examples_are_labelled_where_none_are_asked_for(tiny_faces) -> None:
    faces = tiny_faces("test", False)
    counts = torch.ones(len(faces), 11, 11, dtype=torch.int64)

    def labeller(batch: object) -> list[Tensor]:
        raise AssertionError("nothing to label")

    found = label_examples(labeller, faces, counts, LocalContext(), 0)
    assert found == {"best": [], "median": [], "worst": []}
