"""Reports as Ray Train takes them."""

import json
from collections.abc import Callable
from functools import partial

import pytest

from cluster.workers.reports import report_from_dict, report_to_dict
from stn_icnn.context import CheckpointReport, EpochReport, Picture, TrainReport


@pytest.mark.parametrize(
    ("report", "values"),
    [
        (
            EpochReport(2, {"train/loss": 0.5}, "a CPU"),
            {"epoch": 2, "step": 0, "computed_on": "a CPU", "train/loss": 0.5},
        ),
        (CheckpointReport(1, 7, "a CPU"), {"epoch": 1, "step": 7, "computed_on": "a CPU"}),
    ],
)
def test_a_report_is_a_plain_dict_and_back(report: TrainReport, values: dict) -> None:
    assert report_to_dict(report) == values
    assert report_from_dict(values) == report


@pytest.mark.parametrize("kind", [partial(EpochReport, 2, {}), partial(CheckpointReport, 1, 7)])
def test_losses_by_step_and_pictures_are_json_and_back(kind: Callable[..., TrainReport]) -> None:
    report = kind("a CPU", ((8, 0.75), (16, 0.5)), (Picture("faces/1", 0, b"\xff\x00"),))
    assert report_from_dict(json.loads(json.dumps(report_to_dict(report)))) == report
