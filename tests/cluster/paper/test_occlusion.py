"""The job of Figure 5: croppers whose answers are known, and the whole of it on a tiny model."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from PIL import Image

from cluster.config import LocationsConfig
from cluster.paper.experiment import OpenedModel
from cluster.paper.occlusion import CropperComparison, OcclusionConfig, run_occlusion
from stn_icnn.data.batch import Batch, collate
from stn_icnn.data.plan import Request
from stn_icnn.labels import PAPER9
from stn_icnn.scoring.f1 import resize_labels
from stn_icnn.studies.occlusion import choose_parts, cover_batch
from stn_icnn.studies.occlusion_examples import COVERED, TILE_PX, CoveredFace, examples_picture
from stn_icnn.studies.occlusion_report import GROUPS, Croppings, whole_by_which

ModelOf = Callable[[str], Path]
SEED = 3


def labelled_but_for(batch: Batch, hidden: Sequence[Sequence[int]], px: int) -> torch.Tensor:
    """What a perfect coarse network would say that sees nothing of some parts, `[N, 9, px, px]`."""
    assert batch.labels is not None
    logits = torch.zeros(len(batch), len(PAPER9.model_classes), px, px)
    for i, (width, height) in enumerate(batch.host_sizes):
        labels = resize_labels(batch.labels[i, :height, :width].cpu(), px, px)
        gone = [class_id for part in hidden[i] for class_id in PAPER9.part_classes[part]]
        labels[torch.isin(labels, torch.tensor(gone))] = 0
        for channel, class_id in enumerate(PAPER9.model_classes):
            logits[i, channel] = 10 * (labels == class_id)
    return logits.to(batch.images.device)


@pytest.fixture
def croppers(model_of: ModelOf) -> CropperComparison:
    model = OpenedModel.fetch(str(model_of("end_to_end")))
    return CropperComparison(model, num_covered=2, seed=SEED)


@pytest.fixture
def batch(tiny_faces) -> Batch:
    faces = tiny_faces("train", False)
    return collate([faces[Request(i)] for i in range(4)])


@pytest.fixture
def cut(croppers: CropperComparison, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> Croppings:
    """With a coarse network that lacks what is covered, and a localizer that knows better."""
    assert batch.present is not None
    assert batch.centres is not None
    present = batch.present.tolist()
    hidden = [
        choose_parts(key, present[i], croppers.num_covered, SEED)
        for i, key in enumerate(batch.keys)
    ]
    coarse_px = croppers.model.config.coarse_px
    shares = batch.centres / batch.sizes[:, None]
    log_factors = torch.full((len(batch), PAPER9.num_parts, 1), 0.5)
    locations = torch.cat([shares, log_factors], dim=-1)
    monkeypatch.setattr(
        croppers.model, "label_coarsely", lambda b: labelled_but_for(b, hidden, coarse_px)
    )
    monkeypatch.setattr(croppers.model, "locate", lambda logits: locations.to(logits.device))
    return croppers.cut(batch)


def test_the_networks_see_the_covered_faces(
    croppers: CropperComparison, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Batch] = []
    label_coarsely = croppers.model.label_coarsely
    monkeypatch.setattr(
        croppers.model, "label_coarsely", lambda b: seen.append(b) or label_coarsely(b)
    )
    croppers.cut(batch)
    covered, _ = cover_batch(batch, croppers.num_covered, SEED, label_set=PAPER9)
    assert not covered.images.equal(batch.images)
    assert seen[0].images.cpu().equal(covered.images)


def test_the_localizer_finds_what_the_centroids_cannot(cut: Croppings, batch: Batch) -> None:
    covered, others = cut.group("covered"), cut.group("not_covered")
    assert covered.sum(dim=1).tolist() == [2] * 4
    assert torch.equal(cut.group("covered_missing"), covered)
    assert torch.equal(covered ^ others, cut.present)
    assert batch.centres is not None
    from_centre = (batch.centres - batch.sizes[:, None] / 2).norm(dim=-1)
    error = cut.scores["iCNN"].error_px
    torch.testing.assert_close(error[covered], from_centre[covered])
    seen = others & ~cut.missing  # the thinnest fall between the coarse pixels
    assert seen.sum() > others.sum() / 2
    assert error[seen].max() < 4  # a coarse pixel is that large
    for name in ("STN-iCNN", "STN-iCNN, set size"):
        assert cut.scores[name].error_px[cut.present].max() < 1e-3
    assert (cut.scores["iCNN"].share_inside[covered] < 0.5).any()
    assert cut.scores["STN-iCNN"].share_inside[cut.present].min() > 0.95


def test_parts_are_counted_by_who_cuts_them_whole(cut: Croppings) -> None:
    covered = cut.group("covered")
    for name, shares in (("iCNN", [1, 0.95, 0.9, 0.1]), ("STN-iCNN", [1, 0.5, 0.96, 0.99])):
        scores = cut.scores[name].share_inside
        scores[covered] = torch.tensor([*shares, 0.97, 0.97, 0.97, 0.97])
        scores[~covered] = 0
    assert whole_by_which(cut, ("iCNN", "STN-iCNN")) == {
        "both": 5,
        "iCNN alone": 1,
        "STN-iCNN alone": 2,
        "neither": 0,
    }


def test_the_control_looks_at_nothing(cut: Croppings, batch: Batch) -> None:
    assert batch.centres is not None
    average = torch.tensor([part.centre for part in PAPER9.parts])
    off = (batch.centres - average * batch.sizes[:, None]).norm(dim=-1)
    error = cut.scores["average face"].error_px
    torch.testing.assert_close(error[cut.present], off[cut.present])


def test_a_part_that_is_not_there_is_in_no_group(cut: Croppings) -> None:
    gone = cut.present.clone()
    gone[1] = False
    without = replace(cut, present=gone)
    for group in GROUPS:
        assert not bool(without.group(group)[1].any())
        assert torch.equal(without.group(group)[[0, 2, 3]], cut.group(group)[[0, 2, 3]])


def test_each_croppers_windows_have_their_size(cut: Croppings, croppers: CropperComparison) -> None:
    side = torch.tensor(PAPER9.per_part(croppers.model.config.window_px)).float().expand(4, 6)
    torch.testing.assert_close(cut.sides_px["iCNN"], side)
    torch.testing.assert_close(cut.sides_px["STN-iCNN, set size"], side)
    torch.testing.assert_close(cut.sides_px["STN-iCNN"], side * np.exp(0.5))


def test_batches_are_joined_in_order(cut: Croppings) -> None:
    two = Croppings.joined([cut, cut])
    assert two.keys == cut.keys * 2
    assert torch.equal(two.group("covered")[4:], cut.group("covered"))
    assert two.scores["iCNN"].error_px.shape == (8, 6)
    assert torch.equal(two.sides_px["STN-iCNN"][4:], cut.sides_px["STN-iCNN"])


def test_a_column_a_face_and_a_frame_a_covered_part() -> None:
    photo = torch.full((3, 200, 300), 90, dtype=torch.uint8)
    windows = torch.tensor([[150.0, 100.0, 50.0, 50.0]]).repeat(PAPER9.num_parts, 1)
    covered = [part.name in ("left_eye", "mouth") for part in PAPER9.parts]
    rough = torch.zeros(200, 300, dtype=torch.uint8)
    by_cropper = {"iCNN": windows, "STN-iCNN": windows}
    example = CoveredFace(photo, photo, rough, covered, by_cropper, PAPER9)
    picture = examples_picture([example, example], ("iCNN", "STN-iCNN"))
    in_red = (picture == COVERED).all(axis=2).sum()
    frame = TILE_PX**2 - (TILE_PX - 6) ** 2
    assert in_red == 2 * 2 * 2 * frame  # parts, croppers, faces


def settings(
    job_locations: LocationsConfig, model: Path, shards: Path, run_name: str, **others: int
) -> OcclusionConfig:
    return OcclusionConfig(
        locations=job_locations,
        model=str(model),
        data=str(shards),
        run_name=run_name,
        num_examples=2,
        **others,
    )


def test_the_job(
    shards: Path,
    job_locations: LocationsConfig,
    model_of: ModelOf,
    client: mlflow.MlflowClient,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = run_occlusion(settings(job_locations, model_of("frozen"), shards, "occlusion"))
    assert line["num_faces"] == 2
    for group in ("covered", "not_covered"):
        assert set(line[group]) == {"iCNN", "STN-iCNN*", "STN-iCNN*, set size", "average face"}
        assert 0 <= line[group]["iCNN"]["share_inside"] <= 1
        assert line[group]["iCNN"]["error_px"] != line[group]["STN-iCNN*"]["error_px"]
    assert sum(line["covered_whole_by"].values()) == 4
    assert "| covered | 4 | STN-iCNN\\* |" in capsys.readouterr().out
    folder = Path(str(job_locations.storage)) / "occlusion"
    with (folder / "occlusion.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 4 * 7
    (row,) = (r for r in rows if (r["parts"], r["cropper"], r["part"]) ==
              ("covered", "iCNN", "all"))  # fmt: skip
    assert float(row["error_px"]) == line["covered"]["iCNN"]["error_px"]
    assert float(row["error_px_low"]) <= float(row["error_px"]) <= float(row["error_px_high"])
    with (folder / "occlusion_per_face.csv").open() as file:
        of_faces = [r for r in csv.DictReader(file) if r["cropper"] == "iCNN"]
    errors = [float(r["error_px"]) for r in of_faces if r["covered"] == "1"]
    assert len(errors) == 4
    assert sum(errors) / 4 == pytest.approx(line["covered"]["iCNN"]["error_px"], abs=1e-3)
    text = (folder / "occlusion.md").read_text()
    for picture in ("occlusion.png", "occlusion_examples.png"):
        assert f"({picture})" in text
        with Image.open(folder / picture) as image:
            assert min(image.size) > 300
    metrics = client.get_run(line["run_id"]).data.metrics
    assert metrics["occlusion/covered_error_px_icnn"] == line["covered"]["iCNN"]["error_px"]
    kept = {a.path for a in client.list_artifacts(line["run_id"], "paper")}
    assert kept == {f"paper/{p.name}" for p in folder.iterdir() if p.name != "experiment.json"}


def test_only_the_first_faces_are_taken_if_asked_for(
    shards: Path, job_locations: LocationsConfig, model_of: ModelOf
) -> None:
    job = settings(job_locations, model_of("end_to_end"), shards, "one", num_faces=1, num_covered=1)
    assert run_occlusion(job)["num_faces"] == 1


def test_a_model_without_a_trained_localizer_is_refused(
    shards: Path, job_locations: LocationsConfig, model_of: ModelOf
) -> None:
    for phase in ("baseline", "coarse"):
        job = settings(job_locations, model_of(phase), shards, f"no-{phase}")
        message = f"of the phase {phase}, but .* needs localizer .* of the phase localizer or"
        with pytest.raises(ValueError, match=message):
            run_occlusion(job)


def test_bad_settings_are_refused() -> None:
    for num in (0, 6):
        with pytest.raises(ValueError, match=f"num_covered must be 1 to 5, got {num}"):
            OcclusionConfig(model="m", data="d", num_covered=num)
    with pytest.raises(ValueError, match="num_faces must be at least 1, or none for all, got 0"):
        OcclusionConfig(model="m", data="d", num_faces=0)
