"""Small pictures of the faces of a split, made while they are scored, by any number of ranks."""

import io
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from stn_icnn.context import LocalContext
from stn_icnn.data.plan import Request
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.model import STNiCNN
from stn_icnn.reporting import small_faces
from stn_icnn.reporting.small_faces import SMALL_PX, SmallFace, SmallFaces
from stn_icnn.scoring.confusion import count_confusions, parse_batch
from tests.ranks import run_ranks

SYSTEM = "system"


def decoded(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)))


@pytest.mark.parametrize("num_ranks", [1, 3])
def test_faces_of_all_ranks_are_gathered_in_order_and_no_count_changes(
    num_ranks: int, sure_model: STNiCNN, tiny_faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stn_icnn.scoring.confusion.EVALUATION_BATCH", 2)
    monkeypatch.setattr(small_faces, "CHUNK_BYTES", 5000)  # a face or two at once
    faces = tiny_faces("train")
    labellers = {SYSTEM: partial(parse_batch, sure_model)}

    def score(context: LocalContext) -> tuple[Tensor, list[SmallFace]]:
        small = SmallFaces(PAPER9, SYSTEM)
        counts = count_confusions(labellers, faces, context, small.add_batch)[SYSTEM]
        return counts, small.gather(len(faces), context)

    without = count_confusions(labellers, faces, LocalContext())[SYSTEM]
    for counts, gathered in run_ranks(num_ranks, score):
        assert torch.equal(counts, without)
        assert len(gathered) == len(faces)
        for index, face in enumerate(gathered):
            sample = faces[Request(index)]
            image, truth = sample.images[0], sample.labels[0]
            assert max(image.shape) <= SMALL_PX  # and so each is as large as it was
            assert np.array_equal(decoded(face.truth), truth)
            photo = decoded(face.photo).astype(int)
            assert np.abs(photo - image.permute(1, 2, 0).numpy()).mean() < 8  # it is a JPEG
            assert decoded(face.predicted).shape == truth.shape


def test_a_large_face_is_reduced_with_its_labels() -> None:
    image = torch.zeros(3, 512, 256, dtype=torch.uint8)
    image[0, :256] = 200
    truth = torch.zeros(512, 256, dtype=torch.uint8)
    truth[:256] = 6
    faces = SmallFaces(PAPER9, SYSTEM)
    faces.add(0, image, truth, torch.full_like(truth, 4))
    (face,) = faces.gather(1, LocalContext())
    assert decoded(face.photo).shape == (128, 64, 3)
    assert decoded(face.photo)[20, 30].tolist() == pytest.approx([200, 0, 0], abs=6)
    labels = decoded(face.truth)
    assert labels.shape == (128, 64)
    assert (labels[:64] == 6).all()
    assert (labels[64:] == 0).all()
    assert (decoded(face.predicted) == 4).all()
