"""The phase `fine`: fine networks alone, on windows cut where the parts truly are.

No coarse network and no localizer take part, so it is a cheap trial of what the fine networks see
and how they learn: rates, window sizes, patch sizes. Its F1 is that of the whole parser with a
localizer whose error is known, in which three things are as they would be there:

- A window that is too small loses what it cuts off: pixels are scored in the whole image, and
  those of a part that lie in no window count as missed.
- Windows lie off the centres by `fine.window_error`, a share of the *image*. In validation it is
  drawn from the sample's key alone: the same pixels for every setting, seed and epoch; in training
  anew for each epoch. Windows that lie exactly on the centres would favour sizes that leave no
  margin, and an error that is a share of the window would make large windows pay for their size.
- The window of a part that is not there lies at the image's centre: what is labelled in it is
  wrong, and counts.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from stn_icnn.data.batch import Batch
from stn_icnn.labels import LabelSet
from stn_icnn.networks.centroid_cropper import at_set_size
from stn_icnn.networks.model import Parsing, STNiCNN
from stn_icnn.scoring.f1 import f1_rows
from stn_icnn.training.losses import fine_loss


def true_locations(batch: Batch, window_error: float = 0.0) -> Tensor:
    """Returns the locations that a localizer would give that knew the truth, but for an error.

    Args:
        batch: faces with truth.
        window_error: standard deviation of the centres, as a share of the image's sides; drawn from
            each sample's key, or, where it is augmented, from its augmentation's own seed.

    Returns:
        `[N, P, 3]` float32: centre as a share of width and height (0.5 for a part that is not
        there), and 0, the log factor on the window.
    """
    centres, present = batch.framed_centres()
    centres = torch.where(present[..., None], centres, centres.new_tensor(0.5))
    if window_error:
        errors = _errors(batch.seeds(), centres.shape[1])
        centres = centres + window_error * errors.to(centres.device)
    return at_set_size(centres)


def _errors(seeds: Sequence[int], num_parts: int) -> Tensor:
    """Draws standard normal numbers, each sample's from its seed, `[N, P, 2]` float32."""
    drawn = [np.random.default_rng(seed).standard_normal((num_parts, 2)) for seed in seeds]
    return torch.from_numpy(np.stack(drawn).astype(np.float32))


def parse_true_windows(
    model: STNiCNN,
    batch: Batch,
    networks: Sequence[str] | None = None,
    window_error: float = 0.0,
) -> Parsing:
    """Labels the parts in windows cut at their true centres.

    Args:
        model: the model whose fine networks are used; its other networks are not asked.
        batch: faces with truth. Where it is augmented, the windows are also jittered as
            `augment.window_shift` and `augment.window_scale` say.
        networks: names of the fine networks whose parts are labelled; all of them if None.
        window_error: as `true_locations` takes it.

    Returns:
        Windows of all parts, theta and logits of `networks`; `coarse_logits` is empty.
    """
    locations = true_locations(batch, window_error)
    windows = model.windows(locations, batch)
    theta, part_logits = model.label_parts(batch, windows, networks)
    none = locations.new_empty(0)
    return Parsing(none, locations, windows, batch.sizes, theta, part_logits, model.label_set)


def true_windows_loss(parsing: Parsing, batch: Batch) -> Tensor:
    """Computes the cross-entropy of the labelled parts, summed over samples, mean over parts."""
    label_set = parsing.label_set
    num_parts = sum(len(label_set.parts_of_network[name]) for name in parsing.part_logits)
    return fine_loss(parsing, batch) * (label_set.num_parts / num_parts)


def f1_of_parts(
    counts: Tensor, networks: Sequence[str], label_set: LabelSet
) -> dict[str, float | None]:
    """Computes F1 of the classes that some fine networks label.

    Args:
        counts: int64 `[C, C]`, rows truth, columns prediction.
        networks: names of the fine networks.
        label_set: the C classes, and the parts that the networks label.

    Returns:
        `parts`, of all their classes together (as `overall` is of all inner classes: confusion
        among them costs nothing), and the rows of `f1_rows`, None where they need other classes.
    """
    parts = [part for part in label_set.parts if part.network in networks]
    names = tuple(name for part in parts for name in part.classes)
    groups = {"parts": names, **label_set.report_groups}
    return f1_rows(counts, replace(label_set.labelling(names), report_groups=groups))
