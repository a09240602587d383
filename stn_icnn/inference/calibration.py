"""Calibrating a model's confidence on scenes made of validation faces."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from stn_icnn.checks import require
from stn_icnn.data.batch import Batch
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.faces.confidence import FACE, GOOD_F1, PRESENCE, SIGNS, signs_of_trust
from stn_icnn.inference.outputs.parsed_face import ParsedFace
from stn_icnn.inference.scene_scores import ParsedScene, f1_of_classes, parse_scenes
from stn_icnn.labels import LabelSet
from stn_icnn.networks.checkpoint import Checkpoint

SAME_FACE_F1: Final = 0.15
"""The F1 from which a parsed face is taken for a face of the scene, however badly labelled."""

DECAY: Final = 0.001
"""The weight of the squared weights in the fit, beside the mean cross-entropy."""


@dataclass
class _Outcomes:
    """What came of the faces that were parsed: their signs, and whether it is good."""

    signs: list[NDArray[np.float64]] = field(default_factory=list)
    good: list[bool] = field(default_factory=list)

    def add(self, signs: NDArray[np.float64], good: bool) -> None:
        """Takes one more."""
        self.signs.append(signs)
        self.good.append(good)


def calibrate(
    checkpoint: Checkpoint,
    batches: Iterable[Batch],
    device: str | torch.device | None = None,
    rounds: int = 2,
) -> Checkpoint:
    """Fits the weights of a model's confidence, by logistic regression.

    Args:
        checkpoint: the model, whose finder is trained.
        batches: validation faces with truth, not augmented.
        device: where to compute; None: a GPU where there is one, else the CPU.
        rounds: the number of scenes that are made of each face.

    Returns:
        The same model with its calibration.

    Raises:
        ValueError: the model has no trained finder.
    """
    parser = FaceParser(replace(checkpoint, calibration=None), device)
    finder = parser.model.finder
    require(parser.finder is not None, "the model", "one with a trained finder", checkpoint.phase)
    assert finder is not None
    label_set = parser.model.label_set
    outcomes = {name: _Outcomes() for name in (PRESENCE, FACE)}
    outcomes |= {part.name: _Outcomes() for part in label_set.parts}
    mean_face = finder.mean_face.cpu()
    for scene in parse_scenes(parser, batches, rounds):
        for face in scene.photo.faces:
            signs = signs_of_trust(face.patches, face.frame, face.score, mean_face)
            _judge(face, scene, signs, outcomes, label_set)
    weights = {
        name: fit_logistic(one.signs, one.good, balanced=name == PRESENCE)
        for name, one in outcomes.items()
    }
    return replace(checkpoint, calibration=weights)


def _judge(
    face: ParsedFace,
    scene: ParsedScene,
    signs: Mapping[str, NDArray[np.float64]],
    outcomes: Mapping[str, _Outcomes],
    label_set: LabelSet,
) -> None:
    """Compares a parsed face with the face of the scene that it is, if any."""
    inner = label_set.inner_classes
    there = [(f1_of_classes(face, one, inner) or 0.0, one) for one in scene.faces]
    f1, true = max(there, key=lambda pair: pair[0], default=(0.0, None))
    outcomes[PRESENCE].add(signs[FACE], f1 >= SAME_FACE_F1)
    outcomes[FACE].add(signs[FACE], f1 >= GOOD_F1)
    for part, ids in zip(label_set.parts, label_set.part_classes, strict=True):
        of_part = f1_of_classes(face, true, ids)
        if of_part is not None:
            outcomes[part.name].add(signs[part.name], of_part >= GOOD_F1)


def fit_logistic(
    signs: Sequence[NDArray[np.float64]], good: Sequence[bool], *, balanced: bool = False
) -> list[float]:
    """Fits a logistic function, with a little weight decay.

    Args:
        signs: `[F]` each.
        good: whether each is good.
        balanced: whether the good ones weigh as much as the others, however many there are of each.
            What is taken for a face and is none is rare among scenes, and must matter all the same.

    Returns:
        F weights and a constant. Without any samples, all are 0: a probability of one half.
    """
    if not signs:
        return [0.0] * (len(SIGNS) + 1)
    x = torch.from_numpy(np.stack(signs))
    y = torch.tensor(good, dtype=torch.float64)
    mean, spread = x.mean(dim=0), x.std(dim=0, unbiased=False).clamp(min=1e-6)
    standard = (x - mean) / spread
    share = y.mean().clamp(1e-3, 1 - 1e-3)
    weight = torch.where(y > 0, 0.5 / share, 0.5 / (1 - share)) if balanced else torch.ones_like(y)
    weights = torch.zeros(x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        logits = standard @ weights[:-1] + weights[-1]
        total = torch.nn.functional.binary_cross_entropy_with_logits(logits, y, weight=weight)
        total = total + DECAY * weights[:-1].square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return float(total.detach())

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    scaled = weights.detach()[:-1] / spread
    constant = weights.detach()[-1] - (scaled * mean).sum()
    return [*scaled.tolist(), float(constant)]
