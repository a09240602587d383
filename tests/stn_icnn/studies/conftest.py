"""A model that the studies' tests share."""

import pytest
import torch

from stn_icnn.config import TrainConfig
from stn_icnn.networks.checkpoint import Checkpoint, DataFacts
from stn_icnn.networks.model import build_model


@pytest.fixture
def checkpoint(tiny_config: TrainConfig) -> Checkpoint:
    """An untrained model that says it has come through all phases."""
    torch.manual_seed(7)
    data = DataFacts(dataset="helen", fingerprint="abc", scale_px=1024, scale_fit="at_most")
    return Checkpoint(build_model(tiny_config.model).eval(), tiny_config, data, "end_to_end")
