"""Scoring a phase on the validation split."""

import torch

from stn_icnn.config import TrainConfig
from stn_icnn.context import TrainContext
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.networks.model import STNiCNN
from stn_icnn.scoring.confusion import count_batch, evaluation_batches
from stn_icnn.scoring.f1 import f1_rows
from stn_icnn.scoring.window_scores import centre_errors
from stn_icnn.training.objectives import OBJECTIVES
from stn_icnn.training.phases import Phase
from stn_icnn.training.true_windows import f1_of_parts


@torch.inference_mode()
def validate(
    model: STNiCNN, phase: Phase, config: TrainConfig, faces: ShardedFaces, context: TrainContext
) -> dict[str, float]:
    """Scores a model as a phase of training does.

    Args:
        model: the model, which is left in evaluation mode.
        phase: the phase, whose objective is computed.
        config: the phase's settings.
        faces: the validation split, not augmented.
        context: whose ranks share the work.

    Returns:
        The metrics: `val/loss`, the mean over the faces; `val/window_error_px`, the mean distance
        of a window's centre from its part's, where the phase finds windows; `val/faces_f1`, the F1
        of faces found, where it looks for faces; `val/f1_*`, where it labels pixels, as far as they
        are defined.
    """
    model.eval()
    device = context.device
    loss = torch.zeros((), dtype=torch.float64, device=device)
    num_classes = model.label_set.num_classes
    counts = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
    errors = torch.zeros(2, dtype=torch.float64, device=device)  # their sum and their number
    faces_found = torch.zeros(3, dtype=torch.float64, device=device)
    for _, batch in evaluation_batches(faces, context):
        result = OBJECTIVES[phase.objective](model, batch, config)
        loss += result.loss
        if result.label_maps is not None:
            counts += count_batch(result.label_maps(), batch, num_classes).sum(dim=0)
        if result.windows is not None:
            of_batch = centre_errors(result.windows, batch).double()
            errors += torch.stack([of_batch.nansum(), (~of_batch.isnan()).sum()])
        if result.faces_found is not None:
            faces_found += result.faces_found()
    metrics = {"val/loss": context.sum_(loss).item() / len(faces)}
    error_px, num_errors = context.sum_(errors).tolist()
    if num_errors:
        metrics["val/window_error_px"] = error_px / num_errors
    num_found, num_given, num_true = context.sum_(faces_found).tolist()
    if num_given + num_true:
        metrics["val/faces_f1"] = 2 * num_found / (num_given + num_true)
    counts = context.sum_(counts)
    if phase.only_chosen_fine:
        rows = f1_of_parts(counts, config.fine.networks, model.label_set)
    else:
        rows = f1_rows(counts, model.label_set)
    f1 = {f"val/f1_{name}": value for name, value in rows.items() if value is not None}
    return metrics | f1
