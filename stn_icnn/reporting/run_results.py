"""The results of a run as files, from which its page is made and by which runs are compared."""

import io
import json
import tarfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import torch
from torch import Tensor

from stn_icnn.archives import MAX_SAMPLE_BYTES, open_tar, read_member, require_total
from stn_icnn.config_dict import flatten_settings
from stn_icnn.json_numbers import replace_nonfinite
from stn_icnn.label_set_file import label_set_of, labels_text
from stn_icnn.label_sets import PAPER9
from stn_icnn.labels import LabelSet
from stn_icnn.reporting.small_faces import FILE_ENDINGS, SmallFace

REPORT_FOLDER: Final = "report"
"""The folder of the files among a run's artifacts."""
RESULTS_FILE: Final = "results.json"
COUNTS_FILE: Final = "counts.npz"
FACES_FILE: Final = "faces.tar"
FORMAT_VERSION: Final = 1
History = Mapping[str, Sequence[Mapping[str, float | None]]]
"""The metrics of each epoch, `epoch` among them, by phase."""

_KEYS: Final = "keys"
_COUNTS: Final = "counts_"
"""The prefix, in the file of counts, of a system's place in `results.json`."""


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """The data set of a run."""

    name: str
    location: str
    fingerprint: str
    num_images: Mapping[str, int]
    """Number of images by split."""
    split: str
    """The split that was scored."""


@dataclass(frozen=True, kw_only=True)
class ScoringSummary:
    """The scoring of a split."""

    machine: str
    """What it was computed on."""
    minutes: float
    """The minutes that it took, but for the workers' start."""


@dataclass(frozen=True)
class ComparedSettings:
    """The settings of a job beside those that they are compared with."""

    base: str
    """The owner of the settings that they are compared with: a preset, the defaults, or a model."""
    changed: Mapping[str, Sequence[Any]]
    """The settings that differ: by dotted name, the job's value and the base's."""
    settings: Mapping[str, Any]
    """All settings of the job, nested."""

    @property
    def flat(self) -> dict[str, Any]:
        """All settings by dotted name, sorted."""
        return dict(sorted(flatten_settings(self.settings).items()))


@dataclass(frozen=True, kw_only=True)
class TrainingSummary:
    """The training that a run's model is from."""

    kind: str
    """`training`, `fine-tuning` of another model, or `training of a finder` for one."""
    base: str
    """The name of what its settings started from: a preset, or a model."""
    settings: Mapping[str, Any]
    """All settings, nested."""
    changed: Mapping[str, Sequence[Any]]
    """The settings that differ from the base: by dotted name, this run's value and the base's."""
    history: History
    minutes: Mapping[str, float]
    """Minutes that the steps took, by phase."""
    machines: Mapping[str, Sequence[str]]
    """The machines of each phase, one after another."""
    num_images: int
    """Number of images that were trained on."""

    @property
    def compared(self) -> ComparedSettings:
        """The settings beside those of the base."""
        return ComparedSettings(self.base, self.changed, self.settings)

    @property
    def total_minutes(self) -> float | None:
        """The minutes of all phases; None where those of one are not known."""
        return sum_if_known(self.minutes.get(phase) for phase in {**self.machines, **self.minutes})

    @property
    def all_machines(self) -> list[str]:
        """The machines of all phases, each once; empty where none is known."""
        return list(dict.fromkeys(one for of_phase in self.machines.values() for one in of_phase))


def sum_if_known(values: Iterable[float | None]) -> float | None:
    """Returns the sum of some values; None where one of them is not known."""
    values = list(values)
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


@dataclass(frozen=True, kw_only=True)
class RunResults:
    """The results of a run that has scored a model on M images."""

    title: str
    run_name: str
    run_id: str | None
    """MLflow's id of the run; None where it is not known yet."""
    command: str
    """The command that the job was started with."""
    commit: str | None
    """The commit of the code."""
    data: DataSummary
    training: TrainingSummary | None
    """None where the run has trained nothing."""
    scoring: ScoringSummary | None = None
    """None where an earlier version scored it, which did not measure this."""
    f1: Mapping[str, Any]
    """F1 in numbers, as `f1_numbers` returns it."""
    keys: Sequence[str]
    """The keys of the M images."""
    counts: Mapping[str, Tensor] = field(repr=False)
    """Confusion counts of each image, by system, int64 `[M, C, C]`; the model's come first."""
    faces: Sequence[SmallFace] = field(repr=False)
    """Small pictures of the M images, with the model's labels."""
    label_set: LabelSet
    """The C classes."""

    @property
    def kind(self) -> str:
        """The kind of the job: `training`, `fine-tuning` or `evaluation`."""
        return self.training.kind if self.training else "evaluation"

    @property
    def model(self) -> str:
        """The name of the model among the systems."""
        return next(iter(self.counts))

    def write(self, folder: Path) -> None:
        """Writes `results.json`, `counts.npz` and `faces.tar` into an existing folder."""
        content = {
            "format_version": FORMAT_VERSION,
            "kind": self.kind,
            **{name: getattr(self, name) for name in _PLAIN},
            "data": asdict(self.data),
            "training": asdict(self.training) if self.training else None,
            "scoring": asdict(self.scoring) if self.scoring else None,
            "classes": self.label_set.class_names,
            "labels": labels_text(self.label_set),
            "systems": list(self.counts),
        }
        text = json.dumps(
            replace_nonfinite(content, lambda number: None), indent=1, allow_nan=False
        )
        (folder / RESULTS_FILE).write_text(f"{text}\n", encoding="utf-8")
        arrays: dict[str, Any] = {_KEYS: np.array(self.keys)}
        for i, counts in enumerate(self.counts.values()):
            arrays[f"{_COUNTS}{i}"] = counts.numpy().astype(np.int32)
        np.savez_compressed(folder / COUNTS_FILE, **arrays)
        with tarfile.open(folder / FACES_FILE, "w") as tar:
            for key, face in zip(self.keys, self.faces, strict=True):
                for ending, file in zip(FILE_ENDINGS, face, strict=True):
                    member = tarfile.TarInfo(f"{key}{ending}")
                    member.size = len(file)
                    tar.addfile(member, io.BytesIO(file))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads what `write` has written.

        Raises:
            ValueError: for files of another version, or of classes that their label set lacks.
        """
        content = json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))
        version = content["format_version"]
        if version != FORMAT_VERSION:
            raise ValueError(
                f"{folder}: format_version must be {FORMAT_VERSION}, got {version}: use the "
                "version of this software that wrote it"
            )
        label_set = label_set_of(content.get("labels", PAPER9.name))
        if tuple(content["classes"]) != label_set.class_names:
            raise ValueError(
                f"{folder}: classes must be {', '.join(label_set.class_names)}, "
                f"got {', '.join(content['classes'])}"
            )
        with zipfile.ZipFile(folder / COUNTS_FILE) as archive:
            require_total(archive, MAX_SAMPLE_BYTES)
        with np.load(folder / COUNTS_FILE) as arrays:  # without pickles, by its default
            keys = arrays[_KEYS].tolist()
            counts = {
                system: torch.from_numpy(arrays[f"{_COUNTS}{i}"].astype(np.int64))
                for i, system in enumerate(content["systems"])
            }
        training, scoring = content["training"], content.get("scoring")
        return cls(
            **{name: content[name] for name in _PLAIN},
            data=DataSummary(**content["data"]),
            training=TrainingSummary(**training) if training else None,
            scoring=ScoringSummary(**scoring) if scoring else None,
            keys=keys,
            counts=counts,
            faces=_read_faces(folder / FACES_FILE, keys),
            label_set=label_set,
        )


_PLAIN: Final = ("title", "run_name", "run_id", "command", "commit", "f1")
"""The fields of `RunResults` that `results.json` holds as they are."""


def _read_faces(path: Path, keys: Sequence[str]) -> list[SmallFace]:
    with path.open("rb") as content, open_tar(content) as tar:
        files = {member.name: read_member(tar, member) for member in tar}
    return [SmallFace(*(files[f"{key}{ending}"] for ending in FILE_ENDINGS)) for key in keys]
