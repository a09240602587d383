"""The faces that a report shows are labelled as they were scored, whichever rank holds them."""

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
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.execution import prepare_model
from stn_icnn.networks.model import Parsing, STNiCNN
from stn_icnn.scoring.confusion import count_confusions, parse_batch
from stn_icnn.scoring.examples import ScoredFace, label_examples
from stn_icnn.scoring.f1 import confusion
from tests.ranks import ThreadContext, run_ranks

SYSTEM = "system"
Found = dict[str, list[ScoredFace]]


def scored_by(num_ranks: int, model: STNiCNN, faces) -> list[tuple[Tensor, Found]]:
    """Counts and examples, as each rank holds them."""

    def score(context: ThreadContext) -> tuple[Tensor, Found]:
        counts = count_confusions({SYSTEM: partial(parse_batch, model)}, faces, context)[SYSTEM]
        return counts, label_examples(model, faces, counts, context, 2)

    return run_ranks(num_ranks, score)


@pytest.mark.parametrize("num_ranks", [1, 2, 3])
@pytest.mark.slow
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
            "weakest": 2,
        }
        for face in (face for some in examples.values() for face in some):
            index = keys.index(face.key)
            truth, predicted = map(torch.from_numpy, (face.truth, face.predicted))
            assert torch.equal(confusion(truth, predicted, PAPER9.num_classes), counts[index])
            sample = faces[Request(index)]
            assert np.array_equal(face.image, sample.images[0].permute(1, 2, 0))
            assert np.array_equal(face.truth, sample.labels[0])
            windows = model(sample).windows[0].detach().numpy()
            assert np.allclose(face.windows, windows, atol=1)  # its batch may change last bits


def test_no_examples_are_labelled_where_none_are_asked_for(tiny_faces) -> None:
    faces = tiny_faces("test", False)
    counts = torch.ones(len(faces), 11, 11, dtype=torch.int64)

    def model(batch: object) -> Parsing:
        raise AssertionError("nothing to label")

    found = label_examples(model, faces, counts, LocalContext(), 0)
    assert found == {"best": [], "median": [], "worst": [], "weakest": []}
