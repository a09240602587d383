"""The F1 that label probabilities promise."""

import pytest
import torch

from stn_icnn.inference.faces.expected_f1 import expected_counts, expected_f1


def test_labels_promise_the_f1_that_their_probabilities_come_to() -> None:
    """Two pixels are labelled, at 0.9 and 0.6; another has 0.3 of a class: 2 x 1.5 / (2 + 1.8)."""
    probs = torch.tensor([[0.1, 0.9], [0.4, 0.6], [0.7, 0.3], [1.0, 0.0]]).T.reshape(2, 2, 2)
    empty = torch.stack([torch.ones(2, 2), torch.zeros(2, 2)])
    counts = expected_counts(torch.stack([probs, empty]))
    assert expected_f1(counts).tolist() == pytest.approx([3.0 / 3.8, 0])
    assert expected_f1(expected_counts(probs)).item() == pytest.approx(3.0 / 3.8)
