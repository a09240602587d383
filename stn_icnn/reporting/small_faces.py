"""Small pictures of all faces of a split with their labels, by which two runs can be compared."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from stn_icnn.context import TrainContext
from stn_icnn.data.batch import Batch
from stn_icnn.labels import LabelSet
from stn_icnn.reporting.overlay import palette_image
from stn_icnn.reporting.picture_grid import encoded, pixels_of
from stn_icnn.scoring.confusion import true_labels
from stn_icnn.scoring.f1 import resize_labels

SMALL_PX: Final = 128
"""The longer side of a small picture, px; smaller photographs keep their size."""
FILE_ENDINGS: Final = (".jpg", ".truth.png", ".labels.png")
"""The endings of a face's files in an archive, after its key, in the order of `SmallFace`."""
CHUNK_BYTES: Final = 1 << 23
"""About how much is summed over ranks at once."""


class SmallFace(NamedTuple):
    """A small picture of a face with its labels, as the contents of image files of one size.

    Attributes:
        photo: a JPEG.
        truth: an indexed PNG, whose pixels are class ids.
        predicted: such a PNG of the predicted labels.
    """

    photo: bytes
    truth: bytes
    predicted: bytes


class SmallFaces:
    """The small pictures of the faces that a rank scores; `add_batch` is an `OnLabelled`.

    Args:
        label_set: the classes of the labels.
        system: the system whose labels are kept.
    """

    def __init__(self, label_set: LabelSet, system: str) -> None:
        self.label_set, self.system = label_set, system
        self.of_rank: dict[int, SmallFace] = {}

    def add_batch(
        self, indices: Sequence[int], batch: Batch, labelled: Mapping[str, Sequence[Tensor]]
    ) -> None:
        """Adds the faces of a batch, given their places in the split and their labels."""
        for i, index in enumerate(indices):
            width, height = batch.host_sizes[i]
            image = batch.images[i, :, :height, :width]
            self.add(index, image, true_labels(batch, i), labelled[self.system][i])

    def add(self, index: int, image: Tensor, truth: Tensor, predicted: Tensor) -> None:
        """Adds a face.

        Args:
            index: its place in the split.
            image: `[3, H, W]` uint8, RGB.
            truth: `[H, W]` uint8, class ids.
            predicted: `[H, W]` uint8, class ids.
        """
        scale = min(1.0, SMALL_PX / max(image.shape[1:]))
        size = [max(1, round(scale * side)) for side in image.shape[1:]]
        photo = F.interpolate(image[None].float(), size=size, mode="area")[0]
        layers = [resize_labels(labels, *size).cpu().numpy() for labels in (truth, predicted)]
        self.of_rank[index] = SmallFace(
            encoded(Image.fromarray(pixels_of(photo.round().to(torch.uint8))), "JPEG"),
            *(encoded(palette_image(labels, self.label_set), "PNG") for labels in layers),
        )

    def gather(self, num_faces: int, context: TrainContext) -> list[SmallFace]:
        """Returns the faces of all ranks, in the split's order.

        Args:
            num_faces: the number of the split's faces, each of which one rank has added.
            context: the context of the ranks.
        """
        device, num_files = context.device, len(FILE_ENDINGS)
        lengths = torch.zeros(num_faces, num_files, dtype=torch.int64, device=device)
        for index, face in self.of_rank.items():
            lengths[index] = torch.tensor([len(file) for file in face])
        faces: list[SmallFace] = []
        for some in _chunks(context.sum_(lengths).tolist()):
            total = sum(map(sum, some))
            content = torch.zeros(total, dtype=torch.uint8)
            slices = _slices(some)
            for index, of_face in enumerate(slices, start=len(faces)):
                for file, place in zip(self.of_rank.get(index, ()), of_face, strict=False):
                    content[place] = torch.frombuffer(bytearray(file), dtype=torch.uint8)
            gathered = context.sum_(content.to(device)).cpu().numpy().tobytes()
            faces += [SmallFace(*(gathered[place] for place in of_face)) for of_face in slices]
        return faces


def _chunks(lengths: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Divides the lengths of faces' files into runs of about `CHUNK_BYTES`."""
    chunk: list[Sequence[int]] = []
    total = 0
    for of_face in lengths:
        chunk.append(of_face)
        total += sum(of_face)
        if total >= CHUNK_BYTES:
            yield chunk
            chunk, total = [], 0
    if chunk:
        yield chunk


def _slices(lengths: Sequence[Sequence[int]]) -> list[list[slice]]:
    """Returns where the files of faces lie, one after another."""
    start, slices = 0, []
    for of_face in lengths:
        places = []
        for length in of_face:
            places.append(slice(start, start + length))
            start += length
        slices.append(places)
    return slices
