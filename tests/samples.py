"""Faces made by hand, and batches of them, with truth and perhaps augmented."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stn_icnn.data.augmentation import Augmentation
from stn_icnn.data.batch import Batch, stack_photos


@dataclass(frozen=True)
class Sample:
    """A face with P parts; its augmentation is one of a single sample."""

    key: str
    image: Tensor
    """`[3, H, W]` uint8."""
    labels: Tensor
    """`[H, W]` uint8."""
    centres: Tensor
    """`[P, 2]` float32."""
    present: Tensor
    """`[P]` bool."""
    augmentation: Augmentation | None = None


def collate(samples: Sequence[Sample]) -> Batch:
    """Makes a batch of samples; all are augmented or none."""
    photos = stack_photos([s.image for s in samples])
    # The label maps lie on the canvas as photographs of three equal channels would.
    labels = stack_photos([s.labels.expand(3, -1, -1) for s in samples]).images[:, 0]
    augmentations = [s.augmentation for s in samples if s.augmentation is not None]
    return replace(
        photos,
        keys=tuple(s.key for s in samples),
        labels=labels.contiguous(),
        centres=torch.stack([s.centres for s in samples]),
        present=torch.stack([s.present for s in samples]),
        augmentation=join_augmentations(augmentations) if augmentations else None,
    )


def join_augmentations(augmentations: Sequence[Augmentation]) -> Augmentation:
    """Joins the augmentations of single samples to that of a batch."""
    tensors = {
        name: torch.stack([getattr(one, name) for one in augmentations])
        for name, value in vars(augmentations[0]).items()
        if isinstance(value, Tensor)
    }
    return replace(augmentations[0], **tensors)
