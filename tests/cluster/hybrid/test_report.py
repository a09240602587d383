"""What a fine-tuning's report says, and the models and settings it refuses: without Ray."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cluster.hybrid.config import HybridJobConfig, fine_tuning_settings
from cluster.hybrid.job import run_hybrid
from cluster.hybrid.report import (
    HYBRID,
    PARENT,
    SCRATCH,
    HybridReport,
    PhaseCurve,
    write_hybrid_report,
)
from cluster.training.parent import Parent
from stn_icnn.config import TrainConfig, with_labels
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.checkpoint import Checkpoint, DataFacts, save_checkpoint
from stn_icnn.networks.model import build_model
from stn_icnn.training.phases import PhaseName

EYE = PAPER9.class_id["left_eye"]
FACTS = DataFacts(dataset="helen", fingerprint="f", scale_px=1024, scale_fit="at_most")


def epoch(number: int, seconds: float, f1: float | None) -> dict[str, float]:
    measured = {"train/loss": 0.5, "train/images_per_second": 8.0, "train/seconds": seconds}
    validated = {} if f1 is None else {"val/loss": 0.4, "val/f1_overall": f1}
    return {"epoch": number, **measured, **validated}


def counts_of(right: int, missed: int) -> Tensor:
    """Three faces of each of which so many pixels of an eye were found, and so many missed."""
    counts = torch.zeros(3, PAPER9.num_classes, PAPER9.num_classes, dtype=torch.int64)
    counts[:, EYE, EYE], counts[:, EYE, 0] = right, missed
    return counts


@pytest.fixture
def report() -> HybridReport:
    """Of 90 seconds of fine-tuning; from scratch 84, the localizer's F1 not being measured."""
    return HybridReport(
        title="a run",
        dataset="celebamask",
        parent={"parent_model": "m.pt", "parent_dataset": "helen", "parent_run_id": None},
        num_images=100,
        num_split=1200,
        curves={
            HYBRID: [
                PhaseCurve("end_to_end", 0.0, [epoch(1, 45, 0.6), epoch(2, 90, 0.7)], ["a CPU"])
            ],
            SCRATCH: [
                PhaseCurve("coarse", 0.0, [epoch(1, 12, 0.3), epoch(2, 24, 0.4)]),
                PhaseCurve("localizer", 24.0, [epoch(1, 10, None)]),
                PhaseCurve("end_to_end", 34.0, [epoch(1, 50, 0.5)]),
            ],
        },
        counts={HYBRID: counts_of(7, 6), SCRATCH: counts_of(1, 2), PARENT: counts_of(1, 8)},
        label_set=PAPER9,
    )


def test_seconds_are_those_of_all_phases(report: HybridReport) -> None:
    assert report.seconds == {HYBRID: 90.0, SCRATCH: 84.0}


def test_curves_lie_on_the_minutes_of_their_system(report: HybridReport, tmp_path: Path) -> None:
    write_hybrid_report(tmp_path, report)
    with (tmp_path / "hybrid_curves.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [float(line["seconds"]) for line in lines] == [45, 90, 12, 24, 34, 84]
    assert [line["val/f1_overall"] for line in lines] == ["0.6", "0.7", "0.3", "0.4", "", "0.5"]
    assert report.curves[SCRATCH][2].points == [(84 / 60, 0.5)]
    assert (tmp_path / "hybrid_curves.png").stat().st_size > 10_000


def test_test_f1_stands_beside_the_papers(report: HybridReport, tmp_path: Path) -> None:
    write_hybrid_report(tmp_path, report)
    text = (tmp_path / "hybrid.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("|")]
    names = [line.split(" | ")[0].removeprefix("| ") for line in table[2:8]]
    assert names == [
        HYBRID,
        SCRATCH,
        PARENT,
        "iCNN (paper)",
        r"STN-iCNN\* (paper)",
        "STN-iCNN (paper)",
    ]
    assert table[2].startswith("| hybrid | 0.700 |")
    assert "| hybrid | end_to_end | 2 | 90.0 | 8.0 | 0.700 | a CPU |" in table
    assert f"| {SCRATCH} | localizer | 1 | 10.0 | 8.0 | - | - |" in table
    assert f"| {SCRATCH} | all | - | 84.0 | - | - | - |" in table
    assert f"- {HYBRID} - {SCRATCH}: +0.2000 (+0.2000 to +0.2000)" in text
    assert "100 of 1200 training images of celebamask" in text
    assert "for about the same time" in text


def test_without_a_comparison_there_is_one_curve(report: HybridReport, tmp_path: Path) -> None:
    alone = replace(
        report,
        curves={HYBRID: report.curves[HYBRID]},
        counts={HYBRID: report.counts[HYBRID], PARENT: report.counts[PARENT]},
    )
    write_hybrid_report(tmp_path, alone)
    assert "same time" not in (tmp_path / "hybrid.md").read_text()


def model_file(folder: Path, phase: PhaseName, config: TrainConfig) -> Path:
    content = io.BytesIO()
    torch.manual_seed(0)
    save_checkpoint(content, Checkpoint(build_model(config.model), config, FACTS, phase))
    path = folder / f"{phase}.pt"
    path.write_bytes(content.getvalue())
    return path


def test_all_networks_of_a_finished_model_are_resumed(
    tiny_config: TrainConfig, tmp_path: Path
) -> None:
    parent = Parent.open(str(model_file(tmp_path, "frozen", tiny_config)))
    fine = ("fine.brow", "fine.eye", "fine.nose", "fine.mouth")
    assert parent.start(tiny_config).networks == ("coarse", "localizer", *fine)
    assert parent.start(with_labels(tiny_config, "helen11")).networks == ("localizer", *fine)
    assert parent.tags["parent_dataset"] == "helen"
    assert parent.tags["parent_run_id"] is None


@pytest.mark.parametrize(
    ("phase", "missing"),
    [
        ("coarse", "localizer and fine"),
        ("localizer", "fine"),
        ("baseline", "localizer"),
        ("fine", "coarse and localizer"),
    ],
)
def test_a_model_that_lacks_a_trained_network_is_refused(
    phase: PhaseName, missing: str, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(
        ValueError, match=f"of the phase {phase}, but --from needs {missing} trained"
    ):
        Parent.open(str(model_file(tmp_path, phase, tiny_config)))


def test_windows_may_be_others_and_what_the_networks_do_not_fit_is_refused(
    tiny_parent: Path,
) -> None:
    parent = Parent.open(str(tiny_parent))
    model = parent.checkpoint.config.model
    window_px = {**model.window_px, "nose": 97}
    parent.require_fit(replace(parent.checkpoint.config, model=replace(model, window_px=window_px)))
    kernel = replace(parent.checkpoint.config, model=replace(model, kernel_size=5))
    with pytest.raises(ValueError, match=r"coarse network .* model\.kernel_size"):
        parent.require_fit(kernel)


def test_scratch_has_its_rates_and_losses_and_all_else_of_the_fine_tuning(
    tiny_config: TrainConfig,
) -> None:
    settings = fine_tuning_settings(tiny_config)
    settings = replace(settings, training=replace(settings.training, seed=5), num_images=4)
    scratch = settings.scratch_training
    assert (scratch.optim, scratch.loss) == (tiny_config.optim, tiny_config.loss)
    assert (scratch.seed, scratch.augment) == (5, settings.training.augment)
    assert scratch.validate_every_epochs == settings.training.validate_every_epochs == 1


def test_without_data_or_images_it_is_refused(tiny_parent: Path) -> None:
    parent = Parent.open(str(tiny_parent))
    with pytest.raises(ValueError, match="--data must be the shards"):
        run_hybrid(fine_tuning_settings(parent.checkpoint.config), parent)
    with pytest.raises(ValueError, match="num_images must be at least 1"):
        HybridJobConfig(num_images=0)
