"""The paper's table: its numbers from counts, and the job on real Ray workers."""

import csv
import io
import json
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from torch import Tensor

from cluster.config import LocationsConfig, ScalingConfig, TrainingJobConfig
from cluster.paper.coarse_size_job import run_coarse_size
from cluster.paper.config import CoarseSizeConfig, ParityConfig, TableConfig
from cluster.paper.parity_job import run_parity
from cluster.paper.systems import COUNTS_FILE, phases_of
from cluster.paper.table_job import run_table
from cluster.scoring.worker import COARSE, MEAN_MAP
from cluster.training.job import run_end_to_end
from stn_icnn.config import TrainConfig
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.centroid_cropper import CentroidCropper
from stn_icnn.networks.checkpoint import MODEL_FILE, load_checkpoint, save_checkpoint
from stn_icnn.studies.coarse_size_report import write_coarse_size
from stn_icnn.studies.table_report import TableReport, write_table
from tests.pages import Page, assert_self_contained

NOSE = PAPER9.class_id["nose"]


def counts_of(*right: int, missed: int | Sequence[int] = 10) -> Tensor:
    """A face a number: so many pixels of a nose found, so many missed."""
    counts = torch.zeros(len(right), PAPER9.num_classes, PAPER9.num_classes, dtype=torch.int64)
    counts[:, NOSE, NOSE] = torch.tensor(right)
    counts[:, NOSE, 0] = torch.tensor(missed)
    return counts


def report_of(counts: dict[int, dict[str, Tensor]], dataset: str = "helen") -> TableReport:
    return TableReport("title", dataset, ("iCNN", "STN-iCNN"), counts, PAPER9)


def test_phases_come_after_those_that_they_start_from_and_once() -> None:
    assert phases_of(["iCNN"]) == ["coarse", "baseline"]
    assert phases_of(["iCNN", "STN-iCNN*", "STN-iCNN"]) == [
        "coarse",
        "baseline",
        "localizer",
        "frozen",
        "end_to_end",
    ]


def test_means_are_over_seeds() -> None:
    report = report_of(
        {
            0: {"iCNN": counts_of(10), "STN-iCNN": counts_of(90)},
            1: {"iCNN": counts_of(30), "STN-iCNN": counts_of(90)},
        }
    )
    of_seeds = [2 * 10 / 30, 2 * 30 / 70]
    repeats = report.statistics("iCNN", "overall")
    assert repeats is not None
    assert repeats.mean == pytest.approx(sum(of_seeds) / 2)
    assert repeats.num == 2
    assert report.statistics("iCNN", "skin") is None
    [difference] = report.differences
    assert difference.over_seeds.mean == pytest.approx(2 * 90 / 190 - sum(of_seeds) / 2)
    found = report.result
    assert found.headline == (
        "STN-iCNN, mean of 2 seeds, on the test split of helen: F1 0.947, weakest nose 0.947"
    )
    assert found.best == (0, "STN-iCNN")


def test_deviation_and_interval_are_of_all_seeds(tmp_path: Path) -> None:
    """Two faces, alike with one seed and not with the other, which both numbers must show."""
    even, uneven = counts_of(40, 40), counts_of(20, 80)
    report = report_of(
        {
            0: {"iCNN": even, "STN-iCNN": even},
            1: {"iCNN": uneven, "STN-iCNN": even},
        }
    )
    low, high = report.interval("iCNN")
    first = 2 * 40 / 90  # whichever faces are drawn
    assert low == pytest.approx((first + 2 * 20 / 50) / 2)
    assert high == pytest.approx((first + 2 * 80 / 170) / 2)
    write_table(tmp_path, report)
    with (tmp_path / "table_differences.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    of_seeds = (0.0, first - 2 * 100 / 220)
    assert float(row["mean"]) == pytest.approx(sum(of_seeds) / 2)
    assert float(row["deviation"]) == pytest.approx(statistics.stdev(of_seeds))
    assert float(row["high"]) == pytest.approx((first - 2 * 20 / 50) / 2)
    text = (tmp_path / "table.md").read_text()
    assert f"± {statistics.stdev((first, 2 * 100 / 220)):.3f} |" in text, "in a cell of F1"
    assert "2 seeds" in text


def test_table_stands_beside_the_papers(tmp_path: Path) -> None:
    systems = {"iCNN": counts_of(50), "STN-iCNN": counts_of(90), "coarse network": counts_of(40)}
    write_table(tmp_path, report_of({3: systems}))
    text = (tmp_path / "table.md").read_text()
    assert r"| STN-iCNN\* (paper) |" in text
    assert "0.910" in text
    assert "| STN-iCNN - iCNN |" in text
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    ours = {row["system"]: row for row in rows if row["source"] == "measured"}
    assert list(ours) == list(systems)
    assert ours["STN-iCNN"]["seed"] == "3"
    assert float(ours["STN-iCNN"]["overall"]) == pytest.approx(2 * 90 / 190)
    assert ours["STN-iCNN"]["skin"] == ""
    assert (tmp_path / "table.png").stat().st_size > 5000


def test_data_that_the_paper_does_not_have_bring_no_rows_of_it(tmp_path: Path) -> None:
    systems = {"iCNN": counts_of(50), "STN-iCNN": counts_of(90)}
    write_table(tmp_path, report_of({0: systems}, dataset="procedural"))
    assert "(paper)" not in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize("systems", [(), ("STN-iCNN", "iCNN"), ("iCNN", "iCNN")])
def test_systems_out_of_order_are_refused(systems: Any) -> None:
    with pytest.raises(ValueError, match="systems must be one or more of iCNN, STN-iCNN"):
        TableConfig(systems=systems)


@pytest.mark.parametrize("sizes", [(), (64, 64), (64, 33)])
def test_sizes_that_can_not_be_are_refused(sizes: Any) -> None:
    with pytest.raises(ValueError, match=r"sizes|coarse_px"):
        CoarseSizeConfig(sizes=sizes)


def test_sizes_are_compared_with_the_first_for_each_system(tmp_path: Path) -> None:
    found = write_coarse_size(
        tmp_path,
        "title",
        ("iCNN", "STN-iCNN"),
        {
            64: {"iCNN": counts_of(50), "STN-iCNN": counts_of(60)},
            128: {"iCNN": counts_of(40), "STN-iCNN": counts_of(90)},
        },
        PAPER9,
    )
    better, worse = 2 * 90 / 190 - 2 * 60 / 130, 2 * 40 / 90 - 2 * 50 / 110
    assert found.result["differences"] == {
        "iCNN, 128 px - 64 px": pytest.approx([worse] * 3),
        "STN-iCNN, 128 px - 64 px": pytest.approx([better] * 3),
    }
    assert found.best == (128, "STN-iCNN")
    assert found.headline.startswith(
        "STN-iCNN with a coarse input of 128 px: F1 0.947, weakest nose"
    )
    text = (tmp_path / "coarse_size.md").read_text()
    assert f"| STN-iCNN, 128 px - 64 px | {better:+.4f} (" in text


@pytest.fixture(scope="module")
def short(
    shards: Path,
    tiny_config: TrainConfig,
    tmp_path_factory: pytest.TempPathFactory,
    new_store: Callable[[Path], str],
) -> dict[str, Any]:
    """Settings of a training of seconds."""
    folder = tmp_path_factory.mktemp("paper")
    optim = replace(tiny_config.optim, epochs_coarse=1, epochs_localizer=1, epochs_end_to_end=1)
    config = replace(tiny_config, optim=optim)
    return {
        "training": config,
        "data": str(shards),
        "locations": LocationsConfig(
            storage=str(folder / "storage"), tracking_uri=new_store(folder)
        ),
        "scaling": ScalingConfig(num_workers=1, cpus_per_worker=1),
    }


@pytest.fixture(scope="module")
def one(short: dict[str, Any], ray_cluster: str) -> dict[str, Any]:
    """The table's last line, of one seed."""
    return run_table(TableConfig(**short, run_name="table", seeds=1), "demo")


@pytest.mark.ray
@pytest.mark.slow
def test_systems_share_what_the_papers_share_and_differ_in_what_it_says(
    one: dict[str, Any],
) -> None:
    storage = Path(one["storage"]) / "seed-0"
    models = {
        phase: load_checkpoint(max((storage / phase).glob("epoch_*")))
        for phase in ("coarse", "localizer", "baseline", "frozen", "end_to_end")
    }
    weights = {name: dict(c.model.named_parameters()) for name, c in models.items()}

    def same(a: str, b: str, network: str) -> bool:
        names = [name for name in weights[a] if name.startswith(f"{network}.")]
        assert names
        return all(weights[a][name].equal(weights[b][name]) for name in names)

    assert isinstance(models["baseline"].model.localizer, CentroidCropper)
    for phase in ("baseline", "frozen"):
        assert same("coarse", phase, "coarse"), f"{phase} trained the coarse network"
        assert not same("coarse", phase, "fine"), f"{phase} did not train the fine networks"
    assert same("localizer", "frozen", "localizer")
    assert not same("localizer", "end_to_end", "coarse")
    assert not same("localizer", "end_to_end", "localizer")


@pytest.mark.ray
@pytest.mark.slow
def test_the_list_of_runs_and_the_ending_say_what_came_of_it(
    one: dict[str, Any], short: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    client = mlflow.MlflowClient(tracking_uri=short["locations"].tracking_uri)
    run = client.get_run(one["run_id"])
    best = max(of_seeds[0] for of_seeds in one["overall"].values())
    assert run.data.metrics["test/f1_overall"] == best
    assert run.data.metrics["train/minutes"] > 0
    assert run.data.tags["device"].endswith("1 thread, fp32")
    assert run.data.tags["weakest_class"]
    assert {one.dataset.name for one in run.inputs.dataset_inputs} == {
        "helen train",
        "helen val",
        "helen test",
    }
    headline = f"on the test split of helen: F1 {best:.3f}, weakest "
    note = run.data.tags["mlflow.note.content"]
    assert headline in note
    command = f"stn-icnn parse PHOTO --model runs:/{one['run_id']}/model "
    assert command in note
    (seed,) = client.search_runs(
        [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    )
    assert seed.info.run_name == "table/seed-0"
    assert seed.data.metrics["test/f1_overall"] == one["overall"]["STN-iCNN"][0]
    assert seed.data.metrics["train/minutes"] == run.data.metrics["train/minutes"]
    assert (seed.data.params["data"], seed.data.params["train_images"]) == ("helen", "8")
    assert seed.data.tags["device"] == run.data.tags["device"]
    assert seed.data.tags["weakest_class"]
    assert run_table(TableConfig(**short, run_name="table", seeds=1), "demo") == one
    ending = capsys.readouterr().out.rpartition("\n\n")[0].rpartition("\n\n")[2]
    assert headline in ending
    assert command in ending
    assert "paper/report.html" in ending
    assert f"/runs/{one['run_id']}?workflowType=machine_learning" in ending
    page = (Path(one["storage"]) / "report.html").read_text()
    assert_self_contained(page)
    text = Page(page).text
    assert "These differ from the preset demo: setting this run the preset demo" in text
    assert "Run it again python " in text


@pytest.mark.ray
@pytest.mark.slow
def test_table_goes_on_with_more_seeds(
    one: dict[str, Any], short: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    storage = Path(one["storage"])
    shutil.copytree(storage / "seed-0", storage / "seed-1")  # as if it had been trained
    record = json.loads((storage / "seed-1" / "run.json").read_text())
    record["config"]["seed"] = 1
    (storage / "seed-1" / "run.json").write_text(json.dumps(record))
    two = run_table(TableConfig(**short, run_name="table", seeds=2), "demo")
    printed = capsys.readouterr().out
    for phase in ("coarse", "localizer", "baseline", "frozen", "end_to_end"):
        assert printed.count(f"{phase}: finished before") == 2
    assert "evaluate" not in printed, "scored again"
    assert two["run_id"] == one["run_id"]
    for system, of_seeds in two["overall"].items():
        assert of_seeds == 2 * one["overall"][system]
    assert set(two["differences"]) == {
        "STN-iCNN* - iCNN",
        "STN-iCNN - STN-iCNN*",
        "STN-iCNN - iCNN",
    }
    assert "2 seeds" in (storage / "table.md").read_text()
    client = mlflow.MlflowClient(tracking_uri=short["locations"].tracking_uri)
    assert {f.path for f in client.list_artifacts(two["run_id"], "paper")} == {
        "paper/report.html",
        *(f"paper/table{rest}" for rest in (".md", ".csv", ".png", "_differences.csv")),
    }


@pytest.mark.ray
@pytest.mark.slow
def test_table_goes_on_with_fewer_systems(one: dict[str, Any], short: dict[str, Any]) -> None:
    systems = ("iCNN", "STN-iCNN")
    fewer = run_table(TableConfig(**short, run_name="table", seeds=1, systems=systems), "demo")
    assert fewer["overall"] == {system: one["overall"][system] for system in systems}
    assert list(fewer["differences"]) == ["STN-iCNN - iCNN"]


@pytest.mark.ray
@pytest.mark.slow
def test_coarse_network_alone_is_that_before_the_other_phases_whatever_is_scored_first(
    one: dict[str, Any], short: dict[str, Any]
) -> None:
    seed = Path(one["storage"]) / "seed-0"
    trained = max((seed / "end_to_end").glob("epoch_*")) / MODEL_FILE
    kept = {file: file.read_bytes() for file in (seed / COUNTS_FILE, trained)}
    checkpoint = load_checkpoint(trained)
    with torch.no_grad():  # as far from what it started as can be
        checkpoint.model.coarse.head[-1].bias[-1] += 100
    save_checkpoint(trained, checkpoint)
    (seed / COUNTS_FILE).unlink()
    run_table(TableConfig(**short, run_name="table", seeds=1, systems=("STN-iCNN",)), "demo")
    before, now = (
        np.load(io.BytesIO(content))
        for content in (kept[seed / COUNTS_FILE], (seed / COUNTS_FILE).read_bytes())
    )
    assert set(now.files) == {"STN-iCNN", COARSE, MEAN_MAP}
    for name in (COARSE, MEAN_MAP):
        assert (now[name] == before[name]).all(), name
    for file, content in kept.items():
        file.write_bytes(content)


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_is_of_one_kind(one: dict[str, Any], short: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="kind: coarse-size, was table"):
        run_coarse_size(CoarseSizeConfig(**short, run_name="table"), "demo")
    with pytest.raises(ValueError, match="kind: None, was table"):
        run_end_to_end(TrainingJobConfig(**short, run_name="table"), "demo")
    with pytest.raises(ValueError, match="is a training: give another --run-name"):
        run_parity(ParityConfig(locations=short["locations"], run_name="table", num_faces=1))


@pytest.mark.ray
@pytest.mark.slow
def test_coarse_sizes_are_compared_for_both_pipelines(
    one: dict[str, Any], short: dict[str, Any]
) -> None:
    seed, run = Path(one["storage"]) / "seed-0", Path(short["locations"].storage) / "coarse-size"
    for px in (32, 64):  # as if they had been trained
        shutil.copytree(seed, run / f"coarse-{px}")
        record = json.loads((seed / "run.json").read_text())
        record["config"]["model"]["coarse_px"] = px
        (run / f"coarse-{px}" / "run.json").write_text(json.dumps(record))
    result = run_coarse_size(
        CoarseSizeConfig(**short, run_name="coarse-size", sizes=(32, 64)), "demo"
    )
    for px in (32, 64):
        for system in ("iCNN", "STN-iCNN"):
            assert result["overall"][px][system] == one["overall"][system][0]
    assert result["differences"] == {
        f"{system}, 64 px - 32 px": [0, 0, 0] for system in ("iCNN", "STN-iCNN")
    }
    assert (run / "coarse_size.png").stat().st_size > 5000
    assert "| 64 | STN-iCNN |" in (run / "coarse_size.md").read_text()
