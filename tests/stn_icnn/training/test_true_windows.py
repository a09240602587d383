"""The phase `fine`: what it trains, what it scores, and what a window that is too small costs."""

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from stn_icnn.config import (
    AugmentConfig,
    FineConfig,
    ModelConfig,
    TrainConfig,
    same_size,
)
from stn_icnn.config_dict import from_dict
from stn_icnn.context import LocalContext
from stn_icnn.data.augmentation import draw
from stn_icnn.data.batch import Batch
from stn_icnn.data.plan import Request
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.geometry import crop_labels, theta_from_windows
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.checkpoint import DataFacts, load_checkpoint
from stn_icnn.networks.model import Parsing, STNiCNN, build_model
from stn_icnn.networks.pasting import label_maps
from stn_icnn.scoring.confusion import true_labels
from stn_icnn.scoring.f1 import confusion
from stn_icnn.training.loop import PhaseRun, run_phase
from stn_icnn.training.objectives import OBJECTIVES, PhaseLoss
from stn_icnn.training.phases import PHASES
from stn_icnn.training.true_windows import (
    f1_of_parts,
    parse_true_windows,
    true_locations,
    true_windows_loss,
)
from tests.samples import Sample, collate

Faces = Callable[..., ShardedFaces]
FACTS = DataFacts(dataset="helen", fingerprint="f", scale_px=1024, scale_fit="at_most")
NOSE = PAPER9.class_id["nose"]


def fine_only(config: TrainConfig, *networks: str) -> TrainConfig:
    return replace(
        config,
        fine=FineConfig(networks=networks),
        optim=replace(config.optim, epochs_fine=2),
    )


def phase_run(config: TrainConfig, tiny_faces: Faces, context: LocalContext) -> PhaseRun:
    return PhaseRun(
        phase=PHASES["fine"],
        config=config,
        train_faces=tiny_faces("train", augmented=True),
        val_faces=tiny_faces("val"),
        data=FACTS,
        context=context,
        log=lambda line: None,
    )


def square_nose(side: int, centre: tuple[float, float] = (50.0, 50.0)) -> Batch:
    """A face of 100 px that is a square nose and nothing else."""
    labels = torch.zeros(100, 100, dtype=torch.uint8)
    left, top = (int(c - side / 2) for c in centre)
    labels[top : top + side, left : left + side] = NOSE
    centres, present = torch.zeros(6, 2), torch.zeros(6, dtype=torch.bool)
    centres[4], present[4] = torch.tensor(centre), True
    image = torch.zeros(3, 100, 100, dtype=torch.uint8)
    return collate([Sample("a", image, labels, centres, present)])


def sure_of_noses(window_px: int, monkeypatch: pytest.MonkeyPatch) -> STNiCNN:
    """A parser whose patches are nose all over."""
    sizes = {**same_size(21), "nose": window_px}
    model = build_model(ModelConfig(coarse_px=32, window_px=sizes, patch_px=same_size(21)))
    logits = torch.tensor([-9.0, 9.0])[:, None, None]
    monkeypatch.setattr(
        model.fine["nose"], "forward", lambda x: logits.expand(len(x), 2, *x.shape[2:]).clone()
    )
    return model.eval()


def test_a_gradient_reaches_each_trained_parameter_and_no_other(
    tiny_config: TrainConfig, tiny_faces: Faces
) -> None:
    faces = tiny_faces("train", augmented=True)
    model = build_model(tiny_config.model)
    config = fine_only(tiny_config, "eye", "mouth")
    PHASES["fine"].set_trained(model, config)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    module = PhaseLoss(model, OBJECTIVES[PHASES["fine"].objective], config)
    module(faces.__getitems__([Request(i) for i in range(4)])).backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None}
    assert all(float(p.grad.abs().sum()) > 0 for p in model.parameters() if p.grad is not None)
    parts = ("fine.eye.", "fine.mouth.")
    assert reached == trained == {n for n, _ in model.named_parameters() if n.startswith(parts)}


def test_only_the_named_networks_change_and_f1_is_theirs(
    tiny_config: TrainConfig, tiny_faces: Faces, tmp_path: Path
) -> None:
    config = fine_only(tiny_config, "eye")
    torch.manual_seed(0)
    model = build_model(config.model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    context = LocalContext(tmp_path)
    run_phase(phase_run(config, tiny_faces, context), model)
    changed = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert {name.rpartition(".")[0].split(".")[1] for name in changed} == {"eye"}
    last = context.reports[-1].metrics
    assert last["val/f1_parts"] == last["val/f1_eyes"]
    assert not {"val/f1_overall", "val/f1_nose", "val/f1_mouth"} & set(last)
    kept = load_checkpoint(tmp_path)
    assert (kept.phase, kept.config) == ("fine", config)


@pytest.mark.slow
def test_resumed_equals_straight(
    tiny_config: TrainConfig, tiny_faces: Faces, tmp_path: Path
) -> None:
    """Also the optimizer's state, which is of some of the networks' parameters."""
    config, half = fine_only(tiny_config, "nose", "mouth"), LocalContext(tmp_path / "half")
    halfway = replace(config, optim=replace(config.optim, epochs_fine=1))
    for context, wanted in [
        (half, halfway),
        (LocalContext(tmp_path / "half"), config),
        (LocalContext(tmp_path / "straight"), config),
    ]:
        torch.manual_seed(0)
        run_phase(phase_run(wanted, tiny_faces, context), build_model(config.model))
    one = torch.load(tmp_path / "half" / "state.pt", weights_only=True)["weights"]
    other = torch.load(tmp_path / "straight" / "state.pt", weights_only=True)["weights"]
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("window_px", "found"), [(41, 41**2), (31, 31**2), (21, 21**2)])
def test_what_a_window_cuts_off_counts_as_missed(
    window_px: int, found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A nose of 41 px: all that lies in the window is found, all else of it is missed."""
    batch = square_nose(41, (50.5, 50.5))
    parsing = parse_true_windows(sure_of_noses(window_px, monkeypatch), batch, ("nose",))
    counts = confusion(
        true_labels(batch, 0), label_maps(parsing, batch.host_sizes)[0], PAPER9.num_classes
    )
    assert counts[NOSE, NOSE] == found
    assert counts[NOSE].sum() == 41**2
    assert f1_of_parts(counts, ["nose"], PAPER9)["parts"] == pytest.approx(
        2 * found / (found + 41**2)
    )


def test_confusion_among_the_scored_classes_costs_nothing_elsewhere_it_does() -> None:
    counts = torch.zeros(PAPER9.num_classes, PAPER9.num_classes, dtype=torch.int64)
    upper, inner, lower = (PAPER9.class_id[n] for n in ("upper_lip", "inner_mouth", "lower_lip"))
    counts[upper, upper], counts[inner, lower], counts[NOSE, upper] = 6, 2, 4
    rows = f1_of_parts(counts, ["mouth"], PAPER9)
    assert rows["parts"] == rows["mouth"] == pytest.approx(2 * 8 / (8 + 12))
    assert rows["upper_lip"] == pytest.approx(2 * 6 / (6 + 10))
    assert rows["overall"] is rows["nose"] is rows["eyes"] is None
    everything = f1_of_parts(counts, ["brow", "eye", "nose", "mouth"], PAPER9)
    assert everything["parts"] == everything["overall"] == pytest.approx(2 * 12 / (12 + 12))


def test_windows_lie_where_the_parts_are_and_off_them_by_the_same_pixels_for_every_setting() -> (
    None
):
    batch = square_nose(20, (30, 70))
    exact, off = true_locations(batch), true_locations(batch, 0.05)
    assert exact[0, 4].tolist() == pytest.approx([0.3, 0.7, 0])
    assert exact[0, 0].tolist() == [0.5, 0.5, 0]  # not there: the image's centre
    assert not torch.equal(off, exact)
    assert torch.equal(off, true_locations(batch, 0.05))
    assert torch.allclose(true_locations(batch, 0.1) - exact, 2 * (off - exact), atol=1e-6)
    moved = [
        parse_true_windows(build_model(ModelConfig(window_px=same_size(px))), batch, (), 0.05)
        for px in (41, 81)
    ]
    assert torch.equal(moved[0].windows[..., :2], moved[1].windows[..., :2])


def test_training_s_windows_lie_off_as_far_as_validation_s_and_elsewhere_in_each_epoch(
    tiny_config: TrainConfig, tiny_faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is a share of the image; the presets' own jitter of windows is off."""
    faces = tiny_faces("train", augmented=True)
    batches = [faces.__getitems__([Request(i, epoch=epoch) for i in range(8)]) for epoch in (0, 1)]
    off = [true_locations(batch, 0.05) - true_locations(batch) for batch in batches]
    assert float(torch.stack(off)[..., :2].std()) == pytest.approx(0.05, rel=0.2)
    assert not torch.isclose(off[0][..., :2], off[1][..., :2]).any()
    again = faces.__getitems__([Request(i) for i in (3, 0)])  # in another batch
    there = (true_locations(again, 0.05) - true_locations(again))[0]
    assert torch.allclose(there, off[0][3], atol=1e-6)
    cut = []
    monkeypatch.setattr(
        "stn_icnn.training.objectives.parse_true_windows",
        lambda *args: cut.append(args) or parse_true_windows(*args),
    )
    config = replace(tiny_config, fine=FineConfig(networks=("eye",), window_error=0.07))
    OBJECTIVES[PHASES["fine"].objective](build_model(config.model), batches[0], config)
    assert cut[0][2:] == (("eye",), 0.07)


def test_a_part_whose_centre_has_left_the_frame_is_cut_where_it_is() -> None:
    batch = square_nose(20, (30, 70))
    plain = draw(
        AugmentConfig(operations=False),
        PAPER9,
        [(100, 100)],
        [0],
        [[0]],
    )
    shifted = torch.tensor([[[1.0, 0, 60], [0, 1, 0]]])  # the frame begins 60 px to the right
    gone = replace(batch, augmentation=replace(plain, affine=shifted))
    assert true_locations(gone)[0, 4].tolist() == pytest.approx([-0.3, 0.7, 0])
    model = build_model(ModelConfig(window_px=same_size(21), patch_px=same_size(21)))
    theta = parse_true_windows(model, gone, ("nose",)).theta["nose"]
    assert int((crop_labels(batch.labels, theta, 21) == NOSE).sum()) >= 20**2


def test_the_loss_is_a_mean_over_the_parts_that_are_labelled() -> None:
    batch = square_nose(20)
    locations = true_locations(batch)
    windows = torch.full((1, 6, 4), 21.0)
    theta = theta_from_windows(windows, batch.canvas_size)
    for networks in (("eye",), ("eye", "nose")):
        logits = {
            name: torch.zeros(1, len(PAPER9.parts_of_network[name]), 2, 9, 9) for name in networks
        }
        thetas = {name: theta[:, list(PAPER9.parts_of_network[name])] for name in networks}
        parsing = Parsing(
            locations.new_empty(0), locations, windows, batch.sizes, thetas, logits, PAPER9
        )
        assert true_windows_loss(parsing, batch).item() == pytest.approx(math.log(2))


def test_networks_that_are_not_named_are_not_computed(tiny_config: TrainConfig) -> None:
    model = build_model(tiny_config.model).eval()
    assert set(parse_true_windows(model, square_nose(20), ("eye",)).part_logits) == {"eye"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"networks": ["eyes"]}, r"fine\.networks must be one or more of brow, .*, got eyes"),
        ({"networks": []}, r"fine\.networks must be one or more of brow, eye, nose, mouth"),
        ({"networks": ["eye", "eye"]}, r"each once, got eye eye"),
        ({"networks": "eye"}, r"fine\.networks must be a list"),
        ({"window_error": -0.1}, r"fine\.window_error must be 0 to under 1, got -0\.1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_dict(TrainConfig, {"fine": values})


def test_settings_come_back_from_json(tiny_config: TrainConfig) -> None:
    values = asdict(fine_only(tiny_config, "eye", "mouth"))
    values["fine"]["networks"] = ["eye", "mouth"]
    assert from_dict(TrainConfig, values) == fine_only(tiny_config, "eye", "mouth")
