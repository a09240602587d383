"""Scoring on scenes in a worker: the whole way from a photograph to labels, its faces found."""

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from cluster.scoring.worker import ScoredSplit, ScoringTask
from cluster.storage.sharded_faces import read_faces, unlimited_canvas
from cluster.workers.ray_context import RayContext
from stn_icnn.context import TrainContext
from stn_icnn.data.batch import Batch
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.scene_scores import parse_scenes
from stn_icnn.networks.checkpoint import load_checkpoint
from stn_icnn.networks.execution import describe_execution
from stn_icnn.reporting.small_faces import SmallFaces
from stn_icnn.scoring.confusion import evaluation_batches
from stn_icnn.scoring.examples import ScoredFace, gather_examples
from stn_icnn.scoring.f1 import confusion


def score_scenes_on_worker(task: ScoringTask) -> ScoredSplit:
    """Scores a model on scenes in a worker; each rank returns the counts of all scenes."""
    return score_scenes(RayContext(), task)


def score_scenes(context: TrainContext, task: ScoringTask) -> ScoredSplit:
    """Scores a model on scenes made of a split's faces, a scene each, in any context.

    Args:
        context: whose ranks divide the split among them.
        task: one model, whose finder is trained, and the split.

    Returns:
        The counts of all pixels of the scenes. Their keys are those of the faces after `scene-`, so
        that nobody takes them for the faces themselves.
    """
    began_s = time.perf_counter()
    ((system, content),) = task.models.items()
    checkpoint = load_checkpoint(content)
    precision = task.precision or checkpoint.config.precision
    config = replace(checkpoint.config, precision=precision)
    parser = FaceParser(replace(checkpoint, config=config), context.device)
    faces = read_faces(task.data, task.split, unlimited_canvas(config), quiet=context.rank > 0)
    num_classes, shown = faces.label_set.num_classes, task.examples_per_kind
    counts = torch.zeros(len(faces), num_classes, num_classes, dtype=torch.int64)
    small = SmallFaces(faces.label_set, system)
    for indices, batch in evaluation_batches(faces, context):
        for index, scene in zip(indices, _label_scenes(parser, batch), strict=True):
            truth, predicted = torch.from_numpy(scene.truth), torch.from_numpy(scene.predicted)
            counts[index] = confusion(truth, predicted, num_classes)
            if shown:
                image = torch.from_numpy(scene.image).permute(2, 0, 1)
                small.add(index, image, truth, predicted)
    counts = context.sum_(counts.to(context.device)).cpu()
    keys = tuple(f"scene-{face.key}" for face in faces.samples)
    examples = gather_examples(
        partial(_label_scenes, parser), faces, counts, context, shown, keys=keys
    )
    return ScoredSplit(
        keys,
        {system: counts},
        faces.label_set,
        examples,
        faces=small.gather(len(keys), context) if shown else [],
        computed_on=describe_execution(parser.model, context.device),
        seconds=time.perf_counter() - began_s,
    )


def _label_scenes(parser: FaceParser, batch: Batch) -> Iterator[ScoredFace]:
    """Yields the scene of each face of a batch, with the windows of the surest face in it."""
    for key, scene in zip(batch.keys, parse_scenes(parser, [batch]), strict=True):
        photo = scene.photo
        none = np.zeros((photo.label_set.num_parts, 4), np.float32)
        windows = photo.windows if photo.faces else none
        yield ScoredFace(key, photo.image, scene.labels, photo.labels, windows)
