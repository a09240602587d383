"""Scoring a model on the cluster, and the report of it."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import torch
from torch import Tensor

from cluster.datasets import ShardedData
from cluster.launch import run_on_workers
from cluster.resources import Share
from cluster.worker import MODEL, EvaluateTask, evaluate, load_from, read_faces
from stn_icnn.batch import collate
from stn_icnn.data import Request, ShardedFaces
from stn_icnn.evaluate import parse_batch
from stn_icnn.report import Example, pick_examples, table_text, write_report

EXAMPLES_A_KIND = 3


@dataclass(frozen=True)
class Scores:
    """What an evaluation found."""

    report: Mapping[str, Any]
    """As in `f1.json`."""

    @property
    def systems(self) -> dict[str, dict[str, float | None]]:
        """F1 of each row, by system."""
        return dict(self.report["systems"])

    @property
    def overall(self) -> dict[str, float | None]:
        """F1 of all inner classes together, by system."""
        return {name: rows["overall"] for name, rows in self.systems.items()}

    @property
    def model(self) -> dict[str, float | None]:
        """F1 of each row, of the model."""
        return self.systems[MODEL]


def score(
    model: Path | ray.train.Checkpoint,
    data: ShardedData,
    split: str,
    folder: Path,
    *,
    storage: str,
    share: Share,
    max_failures: int = 0,
    title: str,
) -> Scores:
    """Scores a model, its coarse network and the mean label map on a split, and reports it.

    Args:
        model: where its file is.
        data: the data set.
        split: of it.
        folder: where the report is written.
        storage: for the Ray run that does the scoring.
        share: of the cluster.
        max_failures: restarts after a worker's death.
        title: of the report.
    """
    task = EvaluateTask(model, data.shards(split), data.shards("train"))
    result = run_on_workers(
        evaluate,
        task,
        name=f"evaluate-{uuid.uuid4().hex[:8]}",
        storage=storage,
        share=share,
        max_failures=max_failures,
        on_report=lambda report: print(f"evaluate: {report}", flush=True),
    )
    counts = {name: torch.tensor(value) for name, value in result.return_value.items()}
    checkpoint = load_from(model)
    faces = read_faces(data.shards(split), checkpoint.config)
    keys = [place.key for place in faces.places]
    report = write_report(
        folder,
        systems=counts,
        keys=keys,
        dataset=data.name,
        title=title,
        metadata={"split": split, "data_fingerprint": data.manifest.fingerprint},
        examples={
            kind: [_example(checkpoint.model, faces, index) for index in indices]
            for kind, indices in pick_examples(counts[MODEL], keys, EXAMPLES_A_KIND).items()
        },
    )
    print(table_text(report["systems"]), flush=True)
    return Scores(report)


@torch.inference_mode()
def _example(model: Any, faces: ShardedFaces, index: int) -> Example:
    batch = collate([faces[Request(index)]])
    (predicted,) = parse_batch(model, batch)
    assert batch.labels is not None
    image: Tensor = batch.images[0].permute(1, 2, 0)
    return Example(batch.keys[0], image.numpy(), batch.labels[0].numpy(), predicted.numpy())
