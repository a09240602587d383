"""The report of a fine-tuning: test F1 beside the paper's, validation F1 over training time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import harmonic_mean

from torch import Tensor

from cluster.training.setup import Training
from stn_icnn.labels import LabelSet
from stn_icnn.reporting.charts import Colour, open_figure, save_with_legend
from stn_icnn.reporting.documents import Block, Items, PictureFile, write_document
from stn_icnn.reporting.tables import F1Line, Table, f1_table, format_f1, write_csv, write_f1_csv
from stn_icnn.scoring.f1 import F1Rows, f1_rows
from stn_icnn.scoring.paired_difference import PairedDifference
from stn_icnn.scoring.published import beside_published
from stn_icnn.training.phases import PHASES, PhaseName
from stn_icnn.training.state import SECONDS

HYBRID = "hybrid"
SCRATCH = "STN-iCNN from scratch"
PARENT = "STN-iCNN not fine-tuned"

F1 = "val/f1_overall"
COLOURS = {HYBRID: Colour.MODEL, SCRATCH: Colour.COMPARED}
CURVE_FIELDS = ("train/loss", "val/loss", F1, "train/images_per_second")


@dataclass(frozen=True)
class PhaseCurve:
    """The metrics of a finished phase, epoch by epoch."""

    phase: PhaseName
    began_s: float
    """Seconds that the same system was trained before it."""
    history: Sequence[Mapping[str, float]]
    """The metrics of each epoch."""
    computed_on: Sequence[str] = ()
    """The machines that it was trained on, one after another; empty where none was recorded."""

    @property
    def seconds(self) -> float:
        """Seconds of training up to its end, with what came before it."""
        return self.began_s + self.history[-1][SECONDS]

    @property
    def points(self) -> list[tuple[float, float]]:
        """Minutes of training with validation F1, of the epochs that have one."""
        return [((self.began_s + e[SECONDS]) / 60, e[F1]) for e in self.history if F1 in e]


def curves_of(training: Training, phases: Sequence[PhaseName]) -> list[PhaseCurve]:
    """Reads the curves of a training's finished phases, one after another."""
    curves: list[PhaseCurve] = []
    record = training.record
    for phase in phases:
        began_s = curves[-1].seconds if curves else 0.0
        curves.append(PhaseCurve(phase, began_s, record.history(phase), record.computed_on(phase)))
    return curves


@dataclass(frozen=True)
class HybridReport:
    """The contents of the report."""

    title: str
    dataset: str
    """Name of the data set that was fine-tuned on."""
    parent: Mapping[str, str | None]
    """Tags of the model that was fine-tuned."""
    num_images: int
    """Images that each system was trained on."""
    num_split: int
    """Images of the training split."""
    curves: Mapping[str, Sequence[PhaseCurve]]
    """Curves of the phases, by system."""
    counts: Mapping[str, Tensor]
    """Confusion counts of each test image, by system, int64 `[M, C, C]`."""
    label_set: LabelSet
    """The C classes, and the rows of the tables."""
    about: Sequence[Block] = ()
    """The end of the report."""

    @property
    def test(self) -> dict[str, F1Rows]:
        """F1 on the test split, by system."""
        return {
            name: f1_rows(counts.sum(dim=0), self.label_set) for name, counts in self.counts.items()
        }

    @property
    def differences(self) -> list[PairedDifference]:
        """Differences of the fine-tuned model to those that it is compared with."""
        others = [name for name in (SCRATCH, PARENT) if name in self.counts]
        return [
            PairedDifference.between(HYBRID, name, self.counts, self.label_set) for name in others
        ]

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of training, by system."""
        return {system: curves[-1].seconds for system, curves in self.curves.items()}


def write_hybrid_report(folder: Path, report: HybridReport) -> None:
    """Writes the report into an existing folder.

    Its files are `hybrid.md`, `report.html`, `hybrid.csv` (test F1), `hybrid_curves.csv` and
    `hybrid_curves.png`.
    """
    lines = beside_published(report.test, report.dataset)
    with_sources: list[F1Line] = [([line.system, line.source], line.rows) for line in lines]
    write_f1_csv(folder / "hybrid.csv", ["system", "source"], with_sources, report.label_set)
    table = f1_table(["system"], [([line.system], line.rows) for line in lines], report.label_set)
    _draw_chart(folder / "hybrid_curves.png", report)
    _write_document(folder, report, table)
    write_csv(
        folder / "hybrid_curves.csv",
        ["system", "phase", "epoch", "seconds", *CURVE_FIELDS],
        [
            [system, curve.phase, int(epoch["epoch"]), curve.began_s + epoch[SECONDS]]
            + [epoch.get(name) for name in CURVE_FIELDS]
            for system, curves in report.curves.items()
            for curve in curves
            for epoch in curve.history
        ],
    )


def _write_document(folder: Path, report: HybridReport, table: Table) -> None:
    parent = report.parent
    about = [
        f"A model of {parent['parent_dataset']} ({parent['parent_model']}), fine-tuned on "
        f"{report.num_images} of {report.num_split} training images of {report.dataset}."
    ]
    if SCRATCH in report.curves:
        about.append(
            f"`{SCRATCH}` was trained on the same images for about the same time: whole epochs, "
            "chosen from the seconds that an epoch of each phase took beforehand."
        )
    write_document(
        folder,
        "hybrid",
        report.title,
        " ".join(about),
        "F1 on the test split:",
        table,
        "Difference of `overall`, paired, 95 % over images in brackets:",
        Items([f"{difference.name}: {difference}" for difference in report.differences]),
        "Training (steps alone; neither validation, checkpoints nor the workers' start):",
        _training_table(report),
        PictureFile("hybrid_curves.png", "validation F1 against minutes of training"),
        Items([f"{name}: {value}" for name, value in parent.items() if value]),
        *report.about,
    )


def _training_table(report: HybridReport) -> Table:
    heading = ["system", "phase", "epochs", "seconds", "images/s", "best validation F1", "on"]
    rows: list[list[object]] = []
    for system, curves in report.curves.items():
        for curve in curves:
            epochs, seconds = (curve.history[-1][name] for name in ("epoch", SECONDS))
            f1 = format_f1(max((f1 for _, f1 in curve.points), default=None))
            # Every epoch has as many images: this is all of them by all of their seconds.
            rate = harmonic_mean(epoch["train/images_per_second"] for epoch in curve.history)
            numbers = (int(epochs), f"{seconds:.1f}", f"{rate:.1f}", f1)
            rows.append([system, curve.phase, *numbers, "; ".join(curve.computed_on) or None])
        if len(curves) > 1:
            rows.append([system, "all", None, f"{report.seconds[system]:.1f}", *[None] * 3])
    return Table(heading, rows)


def _draw_chart(path: Path, report: HybridReport) -> None:
    """Draws validation F1 against minutes; dashed while there is a coarse network alone."""
    figure, (axes,) = open_figure(report.title)
    for system, curves in report.curves.items():
        colour = COLOURS[system]
        for curve in curves:
            whole = PHASES[curve.phase].system is not None
            axes.plot(
                *(zip(*curve.points, strict=True) if curve.points else ((), ())),
                "-o" if whole else "--s",
                color=colour,
                markersize=3,
                label=system if whole else None,
            )
        axes.axvline(report.seconds[system] / 60, color=colour, linewidth=0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("minutes of training (dashed: the coarse network alone; lines: the ends)")
    axes.set_ylabel("validation F1, overall")
    save_with_legend(figure, path)
