"""Runs compared with the first of them: which is better, in which classes, and whether by chance.

Runs that have kept the counts of each image are compared in pairs, image by image. Of others, only
their F1 is compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import torch
from torch import Tensor

from stn_icnn.config_dict import flatten_settings
from stn_icnn.label_sets import PAPER9
from stn_icnn.labels import LabelSet
from stn_icnn.reporting.run_results import History, RunResults
from stn_icnn.reporting.tables import Table, f1_headings, format_f1
from stn_icnn.scoring.f1 import F1Rows
from stn_icnn.scoring.paired_difference import PairedDifference

REMEDY: Final = (
    "score both models on the same shards: python jobs/evaluate.py --model MODEL --data SHARDS"
)
COMPARED_CURVES: Final = {
    "val/f1_overall": "F1 on the validation split",
    "val/faces_f1": "F1 of faces found in scenes of the validation split",
    "val/loss": "loss on the validation split",
    "train/loss": "loss on the training split",
}
"""The metrics of an epoch that are compared as curves, with what charts call them."""


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """A run as a comparison needs it."""

    name: str
    run_id: str
    f1: F1Rows
    """F1 of its model by row; rows may be missing."""
    split: str
    """The split that was scored."""
    fingerprint: str | None
    """The fingerprint of its shards; None where it is not known."""
    settings: Mapping[str, Any]
    """The settings of its training by dotted name; empty where it has trained nothing."""
    history: History
    """The metrics of each epoch, by phase."""
    results: RunResults | None = None
    """What it has kept; None of a run that has not."""

    @classmethod
    def of_results(cls, results: RunResults, run_id: str) -> Self:
        """Returns a run that has kept its results."""
        training = results.training
        return cls(
            name=results.run_name,
            run_id=run_id,
            f1=results.f1["systems"][results.model],
            split=results.data.split,
            fingerprint=results.data.fingerprint,
            settings=flatten_settings(training.settings) if training else {},
            history=training.history if training else {},
            results=results,
        )


@dataclass(frozen=True)
class Comparison:
    """A run compared with another, which is the first of all."""

    first: ComparedRun
    other: ComparedRun
    label_set: LabelSet
    keys: Sequence[str]
    """The keys of the M images that both have counts of; empty without pairs."""
    counts: tuple[Tensor, Tensor] | None
    """The counts of both runs, int64 `[M, C, C]`, in the order of the keys; None without pairs."""
    differences: Mapping[str, PairedDifference]
    """The paired difference of each row in which both have F1; empty without pairs."""

    @classmethod
    def between(cls, first: ComparedRun, other: ComparedRun) -> Self:
        """Compares two runs of different names, in the rows of the first one's label set.

        Args:
            first: the run that the other is compared with.
            other: the other run.

        Raises:
            ValueError: where they were not scored on the same images with the same truth.
        """
        label_set = _require_same_classes(first, other)
        _require_same_split(first, other)
        if not (first.results and other.results):
            return cls(first, other, label_set, (), None, {})
        ours, theirs = first.results, other.results
        _require_same_keys(ours, theirs)
        place = {key: i for i, key in enumerate(theirs.keys)}
        in_our_order = [place[key] for key in ours.keys]
        counts = (ours.counts[ours.model], theirs.counts[theirs.model][in_our_order])
        _require_same_truth(ours, theirs, counts)
        by_name = dict(zip((first.name, other.name), counts, strict=True))
        differences = {
            row: PairedDifference.between(other.name, first.name, by_name, label_set, row)
            for row in label_set.f1_rows
            if first.f1.get(row) is not None and other.f1.get(row) is not None
        }
        return cls(first, other, label_set, ours.keys, counts, differences)

    @property
    def answer(self) -> str:
        """The answer in words: which run is better, by how much, and whether by chance."""
        a, b = self.first, self.other
        if self.counts and torch.equal(*self.counts):
            return (
                f"{b.name} labels all {len(self.keys)} faces as {a.name} does, as the same "
                "settings, data and code would."
            )
        if "overall" in self.differences:
            difference = self.differences["overall"]
            low, high = difference.interval
            ends = f"(95 % {low:+.4f} to {high:+.4f})"
            f1 = f"overall F1 {difference.over_seeds.mean:+.4f} {ends}"
            on = f"on the same {len(self.keys)} faces"
            match verdict(difference):
                case "alike":
                    return f"{b.name} is as good as {a.name}: the same overall F1 {on}."
                case "may be chance":
                    return f"{b.name} and {a.name} can't be told apart: {f1} {on} may be chance."
                case sure:
                    return f"{b.name} is {sure} than {a.name}: {f1} {on}."
        values = (a.f1.get("overall"), b.f1.get("overall"))
        if values[0] is None or values[1] is None:
            return f"{b.name} and {a.name} can't be compared: one has no overall F1."
        lacking = [run.name for run in (a, b) if run.results is None]
        word = "has" if len(lacking) == 1 else "have"
        return (
            f"{b.name} has overall F1 {values[1]:.4f}, {a.name} {values[0]:.4f}: "
            f"{values[1] - values[0]:+.4f}. Whether this is chance can't be told: "
            f"{' and '.join(lacking)} {word} kept no counts of the faces."
        )

    @property
    def by_class(self) -> str | None:
        """The classes in which the other run is better or worse, in words; None without pairs."""
        if not self.differences:
            return None
        headings = f1_headings(self.label_set)
        verdicts = {
            headings[row]: verdict(one) for row, one in self.differences.items() if row != "overall"
        }
        found = [
            f"{kind} in {', '.join(classes)}"
            for kind in ("better", "worse")
            if (classes := [name for name, told in verdicts.items() if told == kind])
        ]
        if not found:
            return f"{self.other.name} differs in no class by more than chance may explain."
        return f"{self.other.name} is {' and '.join(found)}."

    @property
    def share_better(self) -> str | None:
        """On how many faces the other run is better, in words; None without pairs."""
        overall = self.differences.get("overall")
        if overall is None or overall.images_better is None:
            return None
        return (
            f"{self.other.name} is better on {100 * overall.images_better:.0f} % of the faces on "
            f"which it differs from {self.first.name}."
        )

    @property
    def table(self) -> Table:
        """F1 of both runs by class, the difference, its interval, and what it tells."""
        rows = []
        for row, name in f1_headings(self.label_set).items():
            a, b = self.first.f1.get(row), self.other.f1.get(row)
            if a is None and b is None:
                continue
            step = None if a is None or b is None else f"{b - a:+.4f}"
            cells: list[object] = [name, format_f1(a), format_f1(b), step]
            if self.differences:
                paired = self.differences.get(row)
                ends = paired and "{:+.4f} to {:+.4f}".format(*paired.interval)
                cells += [ends, paired and verdict(paired)]
            rows.append(cells)
        paired_columns = ["95 %", ""] if self.differences else []
        return Table(["", self.first.name, self.other.name, "difference", *paired_columns], rows)


def compare_runs(runs: Sequence[ComparedRun]) -> list[Comparison]:
    """Compares runs with the first of them.

    Args:
        runs: two or more; those of one name are told apart by their ids.

    Returns:
        A comparison for each run but the first.

    Raises:
        ValueError: for less than two runs, one that is named twice, and runs that were not scored
            on the same images with the same truth.
    """
    ids = [run.run_id for run in runs]
    if len(runs) < 2 or len(set(ids)) < len(ids):
        got = ", ".join(run.name for run in runs)
        raise ValueError(f"runs must be two or more different ones, got {got}: name another")
    names = [run.name for run in runs]
    first, *others = (
        replace(run, name=f"{run.name} ({run.run_id[:8]})") if names.count(run.name) > 1 else run
        for run in runs
    )
    return [Comparison.between(first, other) for other in others]


def verdict(difference: PairedDifference) -> str:
    """Returns what an interval tells: `better`, `worse`, `may be chance`, or `alike`."""
    low, high = difference.interval
    if low > 0 or high < 0:
        return "better" if low > 0 else "worse"
    return "alike" if difference.numbers == [0, 0, 0] else "may be chance"


def differing_settings_table(runs: Sequence[ComparedRun]) -> Table:
    """Returns the settings that differ between the runs that have any, a column for each run."""
    known = [run for run in runs if run.settings]
    rows = []
    for name in sorted({name for run in known for name in run.settings}):
        values = [run.settings.get(name) for run in known]
        if any(value != values[0] for value in values):
            texts = (str(run.settings[name]) if name in run.settings else None for run in runs)
            rows.append([name, *texts])
    return Table(["setting", *(run.name for run in runs)], rows)


def _require_same_classes(first: ComparedRun, other: ComparedRun) -> LabelSet:
    """Refuses two runs whose label maps hold different classes; returns the first's label set.

    A run of an earlier version, which has kept no results, has the paper's.
    """
    ours, theirs = (one.results.label_set if one.results else PAPER9 for one in (first, other))
    if ours.class_names != theirs.class_names:
        raise ValueError(
            f"runs must label the same classes, got {first.name} ({ours.name}) and {other.name} "
            f"({theirs.name}): compare runs of one label set"
        )
    return ours


def _require_same_split(first: ComparedRun, other: ComparedRun) -> None:
    """Refuses runs that were scored on different data, as far as can be told without counts."""
    same_split = first.split == other.split
    paired = first.results and other.results  # then the images themselves tell
    known = first.fingerprint is not None
    if same_split and (paired or (known and first.fingerprint == other.fingerprint)):
        return
    expected, got = (
        f"{run.split} of {f'the shards {run.fingerprint}' if run.fingerprint else 'unknown shards'}"
        for run in (first, other)
    )
    raise ValueError(
        f"{other.name} can't be compared with {first.name}: it must be scored on {expected}, got "
        f"{got}; {REMEDY}"
    )


def _require_same_keys(ours: RunResults, theirs: RunResults) -> None:
    our_keys, their_keys = set(ours.keys), set(theirs.keys)
    missing = [key for key in ours.keys if key not in their_keys]
    foreign = [key for key in theirs.keys if key not in our_keys]
    if not missing and not foreign:
        return
    parts = [f"{len(missing)} are missing ({_some(missing)})"] if missing else []
    parts += [f"{len(foreign)} are others ({_some(foreign)})"] if foreign else []
    raise ValueError(
        f"{theirs.run_name} can't be compared with {ours.run_name}: the test sets differ: it must "
        f"be scored on the same {len(ours.keys)} images of {ours.data.name}, got "
        f"{len(theirs.keys)} of {theirs.data.name}: {', '.join(parts)}; {REMEDY}"
    )


def _require_same_truth(
    ours: RunResults, theirs: RunResults, counts: tuple[Tensor, Tensor]
) -> None:
    """Refuses counts, int64 `[M, C, C]` each, whose true pixels differ in some image."""
    expected, got = (one.sum(dim=2) for one in counts)
    differing = (expected != got).any(dim=1).nonzero().flatten().tolist()
    if not differing:
        return
    i = differing[0]
    class_id = int((expected[i] != got[i]).nonzero()[-1])  # background, where it differs, is first
    class_name = ours.label_set.class_names[class_id]
    raise ValueError(
        f"{theirs.run_name} can't be compared with {ours.run_name}: the truth of {len(differing)} "
        f"of {len(ours.keys)} images differs: {ours.keys[i]} must have {expected[i, class_id]} px "
        f"of {class_name}, got {got[i, class_id]}; {REMEDY}"
    )


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")
