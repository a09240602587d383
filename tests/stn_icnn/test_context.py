"""The reports that training hands over."""

from stn_icnn.context import CheckpointReport, EpochReport


def test_checkpoints_are_named_in_order() -> None:
    reports = [
        CheckpointReport(0, 3, ""),
        EpochReport(1, {}, ""),
        CheckpointReport(1, 12, ""),
        EpochReport(2, {}, ""),
        EpochReport(11, {}, ""),
    ]
    found = [report.checkpoint_name for report in reports]
    assert found == sorted(found)
    assert found[1:3] == ["epoch_0001", "epoch_0001_step_00012"]
