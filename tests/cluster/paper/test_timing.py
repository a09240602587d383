"""Timing both pipelines: the same networks, in turn, per face."""

import csv
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import torch
from PIL import Image

from cluster.config import LocationsConfig
from cluster.paper import timing
from cluster.paper.timing import TimingConfig, run_timing, timed_in_turn, with_centroids
from stn_icnn.config import PhaseName
from stn_icnn.data.batch import collate
from stn_icnn.data.plan import Request
from stn_icnn.networks.centroid_cropper import centroids
from stn_icnn.networks.checkpoint import load_checkpoint

ModelOf = Callable[[str], Path]


def test_both_pipelines_have_the_same_networks_but_for_the_cropper(
    model_of: ModelOf, tiny_faces
) -> None:
    trained = load_checkpoint(model_of("end_to_end"))
    baseline = with_centroids(trained)
    assert baseline.config.model.cropper == "centroid"
    assert trained.config.model.cropper == "localizer"
    theirs, ours = baseline.model.state_dict(), trained.model.state_dict()
    assert {n for n in ours if n not in theirs} == {n for n in ours if n.startswith("localizer")}
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    assert not baseline.model.training
    batch = collate([tiny_faces("test", False)[Request(0)]])
    with torch.inference_mode():
        parsing = baseline.model(batch)
    shares, _ = centroids(parsing.coarse_logits.softmax(dim=1))
    assert torch.equal(parsing.locations[..., :2], shares)


def test_works_are_timed_in_turn_and_per_face(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def taking(work: Callable[[], object]) -> float:
        work()
        return 0.08 if order[-1] == "a" else 0.5

    monkeypatch.setattr(timing, "_seconds", taking)
    works = {("A", 4): lambda: order.append("a"), ("B", 1): lambda: order.append("b")}
    taken = timed_in_turn(works, rounds=3)
    # A first call, one that tells how many a round; then rounds, of a four calls each.
    warm, rounds = "".join(order[:4]), "".join(order[4:])
    assert (warm, rounds) == ("aabb", "aaaabbaaaaaaaab")
    assert taken["A", 4] == pytest.approx([20, 20, 20])
    assert taken["B", 1] == pytest.approx([500, 500, 500])


@pytest.mark.parametrize(
    ("phase", "system", "metric"),
    [("end_to_end", "STN-iCNN", "STN-iCNN"), ("frozen", "STN-iCNN*", "STN-iCNN")],
)
def test_the_job(
    phase: PhaseName,
    system: str,
    metric: str,
    shards: Path,
    job_locations: LocationsConfig,
    model_of: ModelOf,
    client: mlflow.MlflowClient,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "LEAST_S", 0.0)
    config = TimingConfig(
        locations=job_locations,
        model=str(model_of(phase)),
        data=str(shards),
        num_faces=2,
        rounds=3,
        run_name=f"timing-{phase}",
    )
    line = run_timing(config)
    assert set(line["ms_a_face"]) == {"iCNN", system}
    assert "undelivered" not in line
    assert all(set(of_system) == {"1", "2"} for of_system in line["ms_a_face"].values())
    folder = Path(str(job_locations.storage)) / config.run_name
    with (folder / "timing.csv").open() as file:
        rows = list(csv.DictReader(file))
    alone = sorted(
        float(row["ms_a_face"])
        for row in rows
        if (row["system"], row["faces_at_a_time"]) == (system, "1")
    )
    assert len(rows) == 2 * 2 * 3
    assert line["ms_a_face"][system]["1"] == alone[1] > 0
    text = (folder / "timing.md").read_text()
    name = system.replace("*", r"\*")
    assert f"| {name} | 1 | {alone[1]:.1f} | {alone[0]:.1f} | {alone[2]:.1f} | 80 |" in text
    with Image.open(folder / "timing.png") as image:
        assert min(image.size) > 300
    metrics = client.get_run(line["run_id"]).data.metrics
    assert metrics[f"timing/{metric}_1_ms"] == alone[1]
    capsys.readouterr()
    assert run_timing(config) == line
    assert "timing: finished before" in capsys.readouterr().out


def test_a_model_without_a_localizer_is_refused(
    shards: Path, job_locations: LocationsConfig, model_of: ModelOf
) -> None:
    config = TimingConfig(
        locations=job_locations, model=str(model_of("baseline")), data=str(shards)
    )
    with pytest.raises(ValueError, match="of the phase baseline: give one of the phase end_to_end"):
        run_timing(config)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="num_faces must be at least 2, got 1"):
        TimingConfig(model="m", num_faces=1)
    with pytest.raises(ValueError, match="rounds must be at least 1, got 0"):
        TimingConfig(model="m", rounds=0)
