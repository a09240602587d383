"""The finder's loss: labels, faces and votes on scenes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stn_icnn.labels import LabelSet
from stn_icnn.networks.finder import REFERENCE_SIDE, Finder, FinderOutput, cell_centres
from stn_icnn.training.losses import _channels
from stn_icnn.training.scenes import CORE_RADIUS, MIDDLE, VOTING_RADIUS, Scenes


def fit_frames(mean_face: Tensor, centres: Tensor, present: Tensor) -> Tensor:
    """Fits the mean face to faces by a similarity; returns frames, `[M, 5]` float32."""
    weight = present.float()[..., None]
    num = weight.sum(dim=1, keepdim=True).clamp(min=1)
    source = mean_face[None].expand_as(centres)
    s0 = (source * weight).sum(1, keepdim=True) / num
    t0 = (centres * weight).sum(1, keepdim=True) / num
    s, t = (source - s0) * weight, (centres - t0) * weight
    norm = (s**2).sum((1, 2)).clamp(min=1e-9)
    a = (s * t).sum((1, 2)) / norm
    b = (s[..., 0] * t[..., 1] - s[..., 1] * t[..., 0]).sum(1) / norm
    side = torch.hypot(a, b)
    dx, dy = (0.5 - s0[:, 0]).unbind(-1)
    x, y = t0[:, 0, 0] + a * dx - b * dy, t0[:, 0, 1] + b * dx + a * dy
    return torch.stack([x, y, side, a / side.clamp(min=1e-6), b / side.clamp(min=1e-6)], dim=1)


def finder_loss(out: FinderOutput, scenes: Scenes, finder: Finder, label_set: LabelSet) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the losses of labels, faces and votes, each summed over the scenes."""
    num = len(scenes.images)
    frames = fit_frames(finder.mean_face, scenes.centres, scenes.present)
    columns, rows = cell_centres(out.face_logits)
    targets = torch.zeros_like(out.votes)
    core = torch.zeros_like(out.face_logits)
    voting = torch.zeros_like(out.face_logits)  # the weight of a cell's vote
    ignored = torch.zeros_like(out.face_logits, dtype=torch.bool)
    weight = torch.ones_like(out.face_logits)
    cells = out.face_logits[0].numel()
    for k, (frame, i) in enumerate(zip(frames.tolist(), scenes.scene.tolist(), strict=True)):
        x, y, side, cos, sin = frame
        mx, my = side * (MIDDLE[0] - 0.5), side * (MIDDLE[1] - 0.5)
        distance = torch.hypot(columns - (x + cos * mx - sin * my), rows - (y + sin * mx + cos * my))
        own = scenes.owner[i] == k
        disc = own & (distance < VOTING_RADIUS * side)
        inner = own & (distance < CORE_RADIUS * side)
        area = float(disc.sum())
        if area < 1:
            continue
        core[i] = torch.where(inner, 1.0, core[i])
        ignored[i] |= disc & ~inner
        voting[i] = torch.where(disc, 1 / area, voting[i])
        weight[i] = torch.where(disc, min(12.0, (0.15 * cells / area) ** 0.5), weight[i])
        for channel, value in enumerate(
            [(x - columns) / side, (y - rows) / side, torch.tensor(side / REFERENCE_SIDE).log(), torch.tensor(cos), torch.tensor(sin)]
        ):
            value = value.to(out.votes.device).expand_as(disc)
            targets[i, channel] = torch.where(disc, value, targets[i, channel])
    labels = _channels(label_set.model_classes[1:], scenes.labels, label_set.num_classes)
    per_cell = F.cross_entropy(out.logits, labels, reduction="none")
    label_loss = (per_cell * weight).sum() / cells
    face = F.binary_cross_entropy_with_logits(out.face_logits, core, reduction="none")
    face_loss = (face * weight * ~ignored).sum() / cells
    errors = F.smooth_l1_loss(out.votes, targets, reduction="none", beta=0.05).sum(dim=1)
    vote_loss = (errors * voting).sum()
    return label_loss, face_loss, vote_loss
