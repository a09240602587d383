"""Milliseconds a face of both pipelines (paper section 3.1), one face and many at a time."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from cluster.job_setup import open_job
from cluster.paper.experiment import (
    ICNN,
    ExperimentConfig,
    ExperimentResult,
    OpenedModel,
    open_model,
    run_experiment,
)
from cluster.paper.few_faces import FewFaces, few_faces
from cluster.training.run_record import new_run_name
from stn_icnn.config import require
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.networks.checkpoint import Checkpoint
from stn_icnn.networks.execution import describe_execution
from stn_icnn.reporting.charts import add_legend, draw_grouped_bars, open_figure
from stn_icnn.reporting.tables import escape_markdown, markdown_table, write_csv, write_lines
from stn_icnn.training.initialization import initialize_model

NAME: Final = "timing"
PAPER_MS: Final = (86.0, 80.0)
"""Of a face, with the centroid cropper and with the localizer, on a GTX 1080 Ti (paper 3.1)."""
LEAST_S: Final = 0.3
"""Parsing that is done sooner is repeated within a round."""

Times = Mapping[tuple[str, int], Sequence[float]]
"""Milliseconds a face, a value a round, by system and faces at a time."""


@dataclass(frozen=True, kw_only=True)
class TimingConfig(ExperimentConfig):
    """The paper's section 3.1: times a model's pipeline, and its networks with the centroid
    cropper, one face and many at a time.

    python jobs/paper.py timing --model MODEL --data OUT
    """

    model: str
    """A checkpoint file or folder, runs:/RUN_ID/PATH, or models:/NAME@ALIAS."""
    data: str | None = None
    """Shards with photographs: a folder or s3://BUCKET/PREFIX. None: faces are drawn."""
    split: Literal["train", "val", "test"] = "test"
    """Which split of them."""
    num_faces: int = 16
    """Faces that are parsed at a time, beside one (the paper's batches are of 16 a GPU)."""
    rounds: int = 11
    """Times that each is timed, in turn."""

    def __post_init__(self) -> None:
        require(self.num_faces >= 2, "num_faces", "at least 2", self.num_faces)
        require(self.rounds >= 1, "rounds", "at least 1", self.rounds)


def run_timing(config: TimingConfig) -> dict[str, Any]:
    """The job.

    Returns:
        Its last line: `ms_a_face`, the medians by system and faces at a time, and `ratio`, the
        model's to iCNN's, the median of the rounds, by faces at a time.

    Raises:
        ValueError: for a model or data that can't be used.
        TrackingUnavailableError: where the tracking server is away.
    """
    environment = open_job(config.locations, config.run_name or new_run_name(NAME))
    model = open_model(config.model, environment.tracker.uri, ("localizer", "fine"))
    faces = few_faces(config.data, config.split, config.num_faces)
    facts = {"data_fingerprint": faces.fingerprint, "model_sha256": model.sha256}
    return run_experiment(NAME, environment, config, facts, partial(_measure, config, model, faces))


def with_centroids(checkpoint: Checkpoint) -> Checkpoint:
    """The same coarse and fine networks, with the centroid cropper between them."""
    config = replace(checkpoint.config, model=replace(checkpoint.config.model, cropper="centroid"))
    model = initialize_model(checkpoint, config, ("coarse", "fine"))
    return replace(checkpoint, model=model.eval(), config=config)


def timed_in_turn(
    works: Mapping[tuple[str, int], Callable[[], object]], rounds: int
) -> dict[tuple[str, int], list[float]]:
    """Times works alternately, in every other round the other way about.

    Args:
        works: by system and faces at a time. They wait for their device themselves.
        rounds: of all of them, after a first that does not count.

    Returns:
        Milliseconds a face, a value a round.
    """
    calls = {}
    for key, work in works.items():
        work()
        calls[key] = max(1, round(LEAST_S / _seconds(work)))
    taken: dict[tuple[str, int], list[float]] = {key: [] for key in works}
    for i in range(rounds):
        for key in list(works)[:: 1 if i % 2 == 0 else -1]:
            seconds = sum(_seconds(works[key]) for _ in range(calls[key])) / calls[key]
            taken[key].append(1000 * seconds / key[1])
    return taken


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _measure(
    config: TimingConfig, model: OpenedModel, faces: FewFaces, folder: Path
) -> ExperimentResult:
    parsers = {
        ICNN: FaceParser(with_centroids(model.checkpoint)),
        model.system: FaceParser(model.checkpoint),
    }
    photos = [sample.image.permute(1, 2, 0).contiguous().numpy() for sample in faces.samples]
    works = {
        (system, num): partial(parser.parse_all, photos[:num])
        for num in (1, len(photos))
        for system, parser in parsers.items()
    }
    times = timed_in_turn(works, config.rounds)
    where = describe_execution(parsers[ICNN].model, parsers[ICNN].device)
    table, ratios = _table(times), _ratios(times)
    height, width = photos[0].shape[:2]
    text = [
        "# Milliseconds a face (section 3.1)",
        "",
        f"{where}. {len(photos)} photographs ({faces.name}), the first of {width} x {height} px, "
        "from decoded pixels to label maps at their own size, by `FaceParser.parse_all`; the same "
        f"coarse and fine networks in both. Median of {config.rounds} rounds in turn.",
        "",
        *table,
        "",
        *(
            f"- {escape_markdown(model.system)} takes {r:.3f} of {ICNN}'s time (median of the "
            f"rounds' ratios), {n} at a time"
            for n, r in ratios.items()
        ),
        "",
        "The paper's are of a GTX 1080 Ti; it does not say how many faces at a time.",
        "",
        "![timing](timing.png)",
    ]
    write_lines(folder / "timing.md", text)
    rows = [[*key, i, ms] for key, of_key in times.items() for i, ms in enumerate(of_key)]
    write_csv(folder / "timing.csv", ["system", "faces_at_a_time", "round", "ms_a_face"], rows)
    _draw_chart(folder / "timing.png", times, where)
    medians = {key: statistics.median(of_key) for key, of_key in times.items()}
    by_system = {
        system: {str(num): ms for (name, num), ms in medians.items() if name == system}
        for system in parsers
    }
    result = {"ms_a_face": by_system, "ratio": {str(num): r for num, r in ratios.items()}}
    metrics = {  # MLflow takes no asterisk
        f"timing/{system.replace('*', '')}_{num}_ms": ms for (system, num), ms in medians.items()
    }
    return ExperimentResult(table, {**result, "machine": where}, metrics)


def _ratios(times: Times) -> dict[int, float]:
    """The localizer's time to the centroid cropper's, median over rounds, by faces at a time."""
    icnn, stn = _systems(times)
    return {
        num: statistics.median(
            ours / theirs for ours, theirs in zip(times[stn, num], times[icnn, num], strict=True)
        )
        for num in sorted({num for _, num in times})
    }


def _systems(times: Times) -> list[str]:
    """Both, as `PAPER_MS` has them."""
    return list(dict.fromkeys(system for system, _ in times))


def _table(times: Times) -> list[str]:
    heading = ("system", "faces at a time", "ms a face", "rounds from", "to", "paper, ms a face")
    paper_ms = dict(zip(_systems(times), PAPER_MS, strict=True))
    rows = [
        (escape_markdown(system), num, f"{statistics.median(ms):.1f}", f"{min(ms):.1f}",
         f"{max(ms):.1f}", f"{paper_ms[system]:.0f}")
        for (system, num), ms in times.items()
    ]  # fmt: skip
    return markdown_table(heading, rows)


def _draw_chart(path: Path, times: Times, where: str) -> None:
    nums = sorted({num for _, num in times})
    heights = {
        system: [*(statistics.median(times[system, num]) for num in nums), paper_ms]
        for system, paper_ms in zip(_systems(times), PAPER_MS, strict=True)
    }
    figure, (axes,) = open_figure(where)
    groups = [*(f"{num} at a time" for num in nums), "paper"]
    draw_grouped_bars(axes, groups, heights, label_format="%.1f")
    axes.set_ylabel("ms a face")
    add_legend(figure)
    figure.savefig(path)
