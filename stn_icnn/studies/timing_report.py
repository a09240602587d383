"""The report of both pipelines' milliseconds per face, one and many at a time (section 3.1)."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from stn_icnn.data.batch import Batch
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.networks.checkpoint import Checkpoint
from stn_icnn.networks.execution import describe_execution
from stn_icnn.reporting.charts import draw_grouped_bars, open_figure, save_with_legend
from stn_icnn.reporting.documents import Block, Items, PictureFile, write_document
from stn_icnn.reporting.picture_grid import pixels_of
from stn_icnn.reporting.tables import Table, write_csv
from stn_icnn.studies.croppers import ICNN
from stn_icnn.studies.experiment_result import ExperimentResult
from stn_icnn.studies.timing import time_in_turn
from stn_icnn.training.initialization import initialize_model

PAPER_MS: Final = (86.0, 80.0)
"""Milliseconds per face of the paper's pipelines, with the centroid cropper and with the localizer,
on a GTX 1080 Ti (section 3.1)."""

Times = Mapping[tuple[str, int], Sequence[float]]
"""Milliseconds per face, one value for each round, by system and faces at a time."""


def with_centroids(checkpoint: Checkpoint) -> Checkpoint:
    """Returns the same coarse and fine networks, with the centroid cropper between them."""
    config = replace(checkpoint.config, model=replace(checkpoint.config.model, cropper="centroid"))
    model = initialize_model(checkpoint, config, ("coarse", "fine"))
    return replace(checkpoint, model=model.eval(), config=config)


def time_pipelines(
    parsers: Mapping[str, FaceParser], samples: Sequence[Batch], rounds: int
) -> dict[tuple[str, int], list[float]]:
    """Times pipelines on one face at a time and on all of them.

    Args:
        parsers: the pipelines, by system.
        samples: the faces.
        rounds: how often each is timed.

    Returns:
        Milliseconds per face, as `Times` holds them.
    """
    photos = [pixels_of(sample.images[0]) for sample in samples]
    works = {
        (system, num): partial(parser.parse_all, photos[:num])
        for num in (1, len(photos))
        for system, parser in parsers.items()
    }
    return {
        (system, num): [1000 * seconds / num for seconds in of_rounds]
        for (system, num), of_rounds in time_in_turn(works, rounds).items()
    }


def report_timing(
    folder: Path,
    checkpoint: Checkpoint,
    system: str,
    samples: Sequence[Batch],
    dataset: str,
    rounds: int,
    about: Sequence[Block] = (),
) -> ExperimentResult:
    """Times both pipelines and writes `timing.md`, `.csv`, `.png` and `report.html`.

    Args:
        folder: an existing folder for the files.
        checkpoint: a model with a trained localizer; both pipelines have its other networks.
        system: name of the model's pipeline.
        samples: the faces that are parsed.
        dataset: name of their data set.
        rounds: how often each pipeline is timed.
        about: the end of the report.
    """
    parsers = {ICNN: FaceParser(with_centroids(checkpoint)), system: FaceParser(checkpoint)}
    times = time_pipelines(parsers, samples, rounds)
    machine = describe_execution(parsers[ICNN].model, parsers[ICNN].device)
    table, ratios = _table(times), _ratios(times)
    height, width = samples[0].images.shape[2:]
    faces = f"{len(samples)} photographs ({dataset}), the first of {width} x {height} px"
    findings = [
        f"{system} takes {ratio:.3f} of {ICNN}'s time (median of the rounds' "
        f"ratios), {num} at a time"
        for num, ratio in ratios.items()
    ]
    _draw_chart(folder / "timing.png", times, machine)
    write_document(
        folder,
        "timing",
        "Milliseconds a face (section 3.1)",
        f"{machine}. {faces}, "
        "from decoded pixels to label maps at their own size, by `FaceParser.parse_all`; the same "
        f"coarse and fine networks in both. Median of {rounds} rounds in turn.",
        table,
        Items(findings),
        "The paper's are of a GTX 1080 Ti; it does not say how many faces at a time.",
        PictureFile("timing.png", "milliseconds a face"),
        *about,
    )
    rows = [[*key, i, ms] for key, of_key in times.items() for i, ms in enumerate(of_key)]
    write_csv(folder / "timing.csv", ["system", "faces_at_a_time", "round", "ms_a_face"], rows)
    medians = {key: statistics.median(of_key) for key, of_key in times.items()}
    by_system = {
        system: {str(num): ms for (name, num), ms in medians.items() if name == system}
        for system in parsers
    }
    result = {"ms_a_face": by_system, "ratio": {str(num): r for num, r in ratios.items()}}
    metrics = {  # MLflow takes no asterisk
        f"timing/{system.replace('*', '')}_{num}_ms": ms for (system, num), ms in medians.items()
    }
    alone = ", ".join(f"{name} {medians[name, 1]:.1f} ms" for name in parsers)
    return ExperimentResult(
        table.markdown,
        {**result, "machine": machine},
        metrics,
        headline=f"a face at a time: {alone}",
        machine=machine,
    )


def _ratios(times: Times) -> dict[int, float]:
    """Returns the localizer's time to the centroid cropper's, by faces at a time."""
    icnn, stn = _systems(times)
    return {
        num: statistics.median(
            ours / theirs for ours, theirs in zip(times[stn, num], times[icnn, num], strict=True)
        )
        for num in sorted({num for _, num in times})
    }


def _systems(times: Times) -> list[str]:
    """Returns both systems, in the order of `PAPER_MS`."""
    return list(dict.fromkeys(system for system, _ in times))


def _table(times: Times) -> Table:
    heading = ("system", "faces at a time", "ms a face", "rounds from", "to", "paper, ms a face")
    paper_ms = dict(zip(_systems(times), PAPER_MS, strict=True))
    rows = [
        (system, num, f"{statistics.median(ms):.1f}", f"{min(ms):.1f}",
         f"{max(ms):.1f}", f"{paper_ms[system]:.0f}")
        for (system, num), ms in times.items()
    ]  # fmt: skip
    return Table(heading, rows)


def _draw_chart(path: Path, times: Times, machine: str) -> None:
    nums = sorted({num for _, num in times})
    heights = {
        system: [*(statistics.median(times[system, num]) for num in nums), paper_ms]
        for system, paper_ms in zip(_systems(times), PAPER_MS, strict=True)
    }
    figure, (axes,) = open_figure(machine)
    groups = [*(f"{num} at a time" for num in nums), "paper"]
    draw_grouped_bars(axes, groups, heights, label_format="%.1f")
    axes.set_ylabel("ms a face")
    save_with_legend(figure, path)
