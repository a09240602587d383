"""The input of the model: a batch of faces, which lie on canvases of one size."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor

from stn_icnn.data.augmentation import Augmentation
from stn_icnn.geometry import apply_affine, invert_affine, reduce_images


@dataclass(frozen=True)
class Batch:
    """N faces of any sizes, each at the top left of a canvas as large as the largest.

    Without truth (`labels`, `centres`, `present`) they are photographs to be parsed; the localizer
    learns from centres alone.
    """

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
    """`[N, P, 2]` float32, the centroid of each part, px of the stored image; any point where
    the part is absent."""
    present: Tensor | None = None
    """`[N, P]` bool, whether a face has each part."""
    augmentation: Augmentation | None = None
    """The changes to each face; None: they are shown as they are."""

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

    def seeds(self) -> list[int]:
        """Returns a seed of each sample's own: its augmentation's, or one that its key gives."""
        if self.augmentation is None:
            return [zlib.crc32(key.encode()) for key in self.keys]
        return self.augmentation.noise_seed.tolist()

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


def stack_photos(images: Sequence[Tensor]) -> Batch:
    """Lays photographs, `[3, H, W]` uint8 RGB each, on a canvas; the batch has no keys or truth."""
    sizes = tuple((image.shape[2], image.shape[1]) for image in images)
    width, height = (max(sides) for sides in zip(*sizes, strict=True))
    # Laid out as they were decoded: turning each into planes would take several times as long.
    make = torch.empty if len(set(sizes)) == 1 else torch.zeros
    canvases = make(len(images), height, width, 3, dtype=torch.uint8, device=images[0].device)
    for canvas, image in zip(canvases, images, strict=True):
        canvas[: image.shape[1], : image.shape[2]] = image.permute(1, 2, 0)
    return Batch(
        ("",) * len(images),
        canvases.permute(0, 3, 1, 2),
        torch.tensor(sizes, dtype=torch.float32),
        sizes,
    )
