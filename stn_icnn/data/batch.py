"""The input of the model: a face as it was read, and a batch of faces on a canvas."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from stn_icnn.data.augmentation import Augmentation
from stn_icnn.geometry import apply_affine, invert_affine, reduce_images

Value = TypeVar("Value")


@dataclass(frozen=True)
class Sample:
    """One face, with P parts.

    Without truth (`labels`, `centres`, `present`) it is a photograph to be parsed; the localizer
    learns from centres alone.
    """

    key: str
    image: Tensor
    """`[3, H, W]` uint8 RGB at working scale."""
    labels: Tensor | None = None
    """`[H, W]` uint8, class ids."""
    centres: Tensor | None = None
    """`[P, 2]` float32, px: the centroid of each part; any point where the part is absent."""
    present: Tensor | None = None
    """`[P]` bool, whether the face has each part."""
    augmentation: Augmentation | None = None
    """The changes to the face; None: it is shown as it is."""


@dataclass(frozen=True)
class Batch:
    """N faces of any sizes, each at the top left of a canvas as large as the largest."""

    keys: tuple[str, ...]
    images: Tensor
    """`[N, 3, Hc, Wc]` uint8, 0 beyond an image."""
    sizes: Tensor
    """`[N, 2]` float32 (W, H) of each image, px."""
    host_sizes: tuple[tuple[int, int], ...]
    """The same as plain numbers: to ask a GPU for them would be to wait for it."""
    labels: Tensor | None = None
    """`[N, Hc, Wc]` uint8, class ids."""
    centres: Tensor | None = None
    """`[N, P, 2]` float32, the centroid of each part, px of the stored image."""
    present: Tensor | None = None
    """`[N, P]` bool, whether a face has each part."""
    augmentation: Augmentation | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def reduced(self, coarse_px: int) -> Tensor:
        """Reduces each image by `geometry.reduce_images`.

        Returns:
            `[N, 3, 2 * coarse_px, 2 * coarse_px]` uint8.
        """
        if len(set(self.host_sizes)) == 1:
            width, height = self.host_sizes[0]
            return reduce_images(self.images[:, :, :height, :width], coarse_px)
        sizes = zip(self.images[:, None], self.host_sizes, strict=True)
        return torch.cat([reduce_images(im[:, :, :h, :w], coarse_px) for im, (w, h) in sizes])

    @property
    def canvas_size(self) -> Tensor:
        """The canvas' size (Wc, Hc), `[2]` float32, px."""
        height, width = self.images.shape[-2:]
        return torch.tensor([width, height], dtype=torch.float32, device=self.images.device)

    @property
    def affine(self) -> Tensor | None:
        """The maps from frame to stored image, `[N, 2, 3]` float32; None if not augmented."""
        return None if self.augmentation is None else self.augmentation.affine

    def to(self, device: torch.device) -> Self:
        """Returns a copy on a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """Returns a copy that a GPU can fetch while it computes; the loader calls this."""
        return self._map(Tensor.pin_memory)

    def split(self, num_pieces: int) -> list[Self]:
        """Divides the samples into runs, as even as can be; canvases stay as large."""
        bounds = [len(self) * i // num_pieces for i in range(num_pieces + 1)]
        return [self._piece(slice(*ends)) for ends in pairwise(bounds)]

    def _piece(self, run: slice) -> Self:
        piece = self._map(lambda tensor: tensor[run])
        return replace(piece, keys=self.keys[run], host_sizes=self.host_sizes[run])

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        mapped: dict[str, Any] = {
            name: function(value) for name, value in values.items() if isinstance(value, Tensor)
        }
        if self.augmentation is not None:
            mapped["augmentation"] = self.augmentation.map(function)
        return replace(self, **mapped)

    def target_centres(self) -> tuple[Tensor, Tensor]:
        """Finds the parts in the frame that the model sees.

        Returns:
            `[N, P, 2]` float32, centres as a share of width and height, and `[N, P]` bool, whether
            the part is there: present, and its centre still within the frame.
        """
        shares, present = self.framed_centres()
        return shares, present & ((shares >= 0) & (shares <= 1)).all(dim=-1)

    def framed_centres(self) -> tuple[Tensor, Tensor]:
        """Does the same, but a part whose centre has left the frame counts as there still."""
        assert self.centres is not None
        assert self.present is not None
        centres, present = self.centres, self.present
        if self.augmentation is not None:
            centres = apply_affine(invert_affine(self.augmentation.affine), centres)
            centres = self.augmentation.exchange_parts(centres)
            present = self.augmentation.exchange_parts(present)
        return centres / self.sizes[:, None], present


def collate(samples: Sequence[Sample]) -> Batch:
    """Lays samples on canvases; all of them have truth or none, all are augmented or none."""
    height = max(s.image.shape[1] for s in samples)
    width = max(s.image.shape[2] for s in samples)
    # Laid out as they were decoded: turning each into planes would take several times as long.
    images = _lay([s.image.permute(1, 2, 0) for s in samples], height, width)
    host_sizes = tuple((s.image.shape[2], s.image.shape[1]) for s in samples)
    batch: dict[str, Any] = {
        "keys": tuple(s.key for s in samples),
        "images": images.permute(0, 3, 1, 2),
        "sizes": torch.tensor(host_sizes, dtype=torch.float32),
        "host_sizes": host_sizes,
    }
    if samples[0].labels is not None:
        batch["labels"] = _lay([_given(s.labels) for s in samples], height, width)
    if samples[0].centres is not None:
        batch["centres"] = torch.stack([_given(s.centres) for s in samples])
        batch["present"] = torch.stack([_given(s.present) for s in samples])
    if samples[0].augmentation is not None:
        batch["augmentation"] = Augmentation.stack([_given(s.augmentation) for s in samples])
    return Batch(**batch)


def _lay(maps: Sequence[Tensor], height: int, width: int) -> Tensor:
    """Lays maps, `[H, W, ...]`, on canvases, `[N, height, width, ...]`, 0 beyond the maps."""
    if all(m.shape[:2] == (height, width) for m in maps):
        return torch.stack(list(maps))
    canvases = maps[0].new_zeros(len(maps), height, width, *maps[0].shape[2:])
    for canvas, m in zip(canvases, maps, strict=True):
        canvas[: m.shape[0], : m.shape[1]] = m
    return canvases


def _given(value: Value | None) -> Value:
    assert value is not None, "samples of a batch must all have what the first has"
    return value
