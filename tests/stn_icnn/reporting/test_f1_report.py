import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from stn_icnn.label_sets import PAPER9
from stn_icnn.reporting.f1_report import (
    write_f1_report,
)
from stn_icnn.reporting.overlay import side_by_side
from stn_icnn.reporting.tables import f1_headings
from stn_icnn.scoring.examples import ScoredFace, pick_examples
from stn_icnn.scoring.f1 import bootstrap_interval, confusion, f1_rows
from stn_icnn.scoring.published import PAPER_TABLES

NOSE, SKIN = PAPER9.class_id["nose"], PAPER9.class_id["skin"]
KEYS = [f"face_{i}" for i in range(7)]
ROWS = [*PAPER9.f1_rows, "mean"]


def faces(num_missed: int) -> tuple[list[ScoredFace], Tensor]:
    """Seven faces of bars, face i with i + `num_missed` columns of its parts missed."""
    truth = np.full((22, 30), SKIN, dtype=np.uint8)
    truth[2:20, 5:25] = np.arange(1, 10, dtype=np.uint8).repeat(2)[:, None]
    windows = np.full((PAPER9.num_parts, 4), 9, dtype=np.float32)
    examples = []
    for i, key in enumerate(KEYS):
        predicted = np.where(truth == SKIN, 0, truth).astype(np.uint8)
        predicted[:, 5 : 5 + i + num_missed] = 0
        photo = np.full((22, 30, 3), 10 * i, dtype=np.uint8)
        examples.append(ScoredFace(key, photo, truth, predicted, windows))
    counts = [
        confusion(torch.from_numpy(e.truth), torch.from_numpy(e.predicted), PAPER9.num_classes)
        for e in examples
    ]
    return examples, torch.stack(counts)


def written(folder: Path, dataset: str = "helen") -> dict[str, Any]:
    examples, counts = faces(num_missed=1)
    picked = pick_examples(counts, KEYS, PAPER9, num=2)
    return write_f1_report(
        folder,
        systems={"STN-iCNN": counts, "coarse network": faces(num_missed=5)[1]},
        keys=KEYS,
        dataset=dataset,
        title="Bars",
        metadata={"commit": "abc"},
        examples={kind: [examples[i] for i in of_kind] for kind, of_kind in picked.items()},
        label_set=PAPER9,
    )


def rows_of_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def rows_of_markdown(path: Path) -> dict[str, list[str]]:
    lines = [line for line in path.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name.replace("\\", ""): rest for name, *rest in cells}


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def test_report_writes_its_files(tmp_path: Path) -> None:
    written(tmp_path / "report")
    tables = {"f1.json", "f1.csv", "f1.md", "f1.png", "per_image.csv"}
    overlays = {
        f"{kind}_{i}.png" for kind in ("best", "median", "worst", "weakest") for i in (1, 2)
    }
    assert {path.name for path in (tmp_path / "report").iterdir()} == tables | overlays


def test_a_picture_that_cannot_be_drawn_is_named_and_the_rest_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(image: np.ndarray, *others: object) -> np.ndarray:
        if image[0, 0, 0] == 0:
            raise ZeroDivisionError("division by zero")
        return side_by_side(image, *others)

    assert "failed" not in written(tmp_path / "whole")
    monkeypatch.setattr("stn_icnn.reporting.f1_report.side_by_side", broken)
    report = written(tmp_path / "report")
    assert report["failed"] == {"best_1.png": "ZeroDivisionError: division by zero"}
    whole, rest = (
        {path.name for path in (tmp_path / name).iterdir()} for name in ("whole", "report")
    )
    assert whole - rest == {"best_1.png"}


def test_json_is_strict_and_is_what_was_returned(tmp_path: Path) -> None:
    report = written(tmp_path)
    text = (tmp_path / "f1.json").read_text()
    assert json.loads(text, parse_constant=refuse) == report


def test_numbers_are_those_of_the_summed_counts(tmp_path: Path) -> None:
    report = written(tmp_path)
    _, counts = faces(num_missed=1)
    assert report["num_images"] == 7
    assert report["main"] == "STN-iCNN"
    assert report["systems"]["STN-iCNN"] == f1_rows(counts.sum(dim=0), PAPER9)
    assert report["overall_interval"]["STN-iCNN"] == list(bootstrap_interval(counts, PAPER9))
    # Face i misses i + 1 of 20 columns and adds none, so its F1 is 2 (19 - i) / (39 - i).
    of_images = [2 * (19 - i) / (39 - i) for i in range(7)]
    summary = report["per_image_overall"]["STN-iCNN"]
    assert summary["max"] == pytest.approx(of_images[0])
    assert summary["median"] == pytest.approx(of_images[3])
    assert summary["min"] == pytest.approx(of_images[6])
    assert summary["mean"] == pytest.approx(sum(of_images) / 7)
    assert summary["num_undefined"] == 0


@pytest.mark.parametrize(("dataset", "num_paper"), [("helen", 4), ("celebamask", 3), ("faces", 0)])
def test_tables_agree(tmp_path: Path, dataset: str, num_paper: int) -> None:
    report = written(tmp_path, dataset)
    paper = report["paper"]["systems"] if report["paper"] else {}
    assert len(paper) == num_paper
    expected = {**report["systems"], **paper}

    of_csv = {line["system"]: line for line in rows_of_csv(tmp_path / "f1.csv")}
    of_markdown = rows_of_markdown(tmp_path / "f1.md")

    assert list(of_csv) == list(expected)
    assert list(of_markdown) == ["F1", *expected]
    assert of_markdown["F1"] == list(f1_headings(PAPER9).values())
    for name, rows in expected.items():
        for column, row in enumerate(ROWS):
            value = rows[row]
            assert of_csv[name][row] == ("" if value is None else repr(value))
            assert of_markdown[name][column] == ("-" if value is None else f"{value:.3f}")
        assert of_markdown[name][ROWS.index("skin")] == "-"


def test_paper_rows_are_the_papers(tmp_path: Path) -> None:
    report = written(tmp_path)
    assert report["paper"]["source"] == "Table 2"
    ours = report["paper"]["systems"]["STN-iCNN (paper)"]
    assert (ours["eyes"], ours["skin"], ours["overall"], ours["mean"]) == (0.895, None, 0.91, None)
    assert PAPER_TABLES["celebamask"].source == "Table 3"
    assert PAPER_TABLES["celebamask"].rows()["STN-iCNN (paper)"]["overall"] == 0.924


def test_per_image_table(tmp_path: Path) -> None:
    written(tmp_path)
    lines = rows_of_csv(tmp_path / "per_image.csv")
    assert [(line["system"], line["key"]) for line in lines] == [
        (name, key) for name in ("STN-iCNN", "coarse network") for key in KEYS
    ]
    _, counts = faces(num_missed=1)
    for line, image_counts in zip(lines[:7], counts, strict=True):
        assert float(line["overall"]) == f1_rows(image_counts, PAPER9)["overall"]
        assert line["skin"] == ""


def test_overlays_show_the_example_they_name(tmp_path: Path) -> None:
    report = written(tmp_path)
    examples, _ = faces(num_missed=1)
    assert {file: shown["key"] for file, shown in report["examples"].items()} == {
        "best_1.png": "face_0",
        "best_2.png": "face_1",
        "median_1.png": "face_2",
        "median_2.png": "face_3",
        "worst_1.png": "face_6",
        "worst_2.png": "face_5",
        "weakest_1.png": "face_6",
        "weakest_2.png": "face_5",
    }
    assert report["examples"]["worst_1.png"]["overall"] == pytest.approx(26 / 33)
    face = examples[6]
    picture = np.asarray(Image.open(tmp_path / "worst_1.png"))
    assert np.array_equal(picture, side_by_side(face.image, face.truth, face.predicted, PAPER9))


def test_chart_is_a_picture_and_leaves_pyplot_alone(tmp_path: Path) -> None:
    written(tmp_path)
    with Image.open(tmp_path / "f1.png") as image:
        assert image.size == (1350, 600)
    import matplotlib.pyplot as plt

    assert plt.get_fignums() == []


def test_system_that_finds_nothing_where_nothing_is_has_null_rows(tmp_path: Path) -> None:
    nothing = torch.zeros(2, PAPER9.num_classes, PAPER9.num_classes, dtype=torch.int64)
    nothing[:, 0, 0] = 9
    half = nothing.clone()
    half[1, NOSE, NOSE] = 5
    report = write_f1_report(
        tmp_path,
        systems={"a": half, "b": nothing},
        keys=["x", "y"],
        dataset="other",
        title="Empty",
        metadata={},
        examples={},
        label_set=PAPER9,
    )
    json.loads((tmp_path / "f1.json").read_text(), parse_constant=refuse)
    assert set(report["systems"]["b"].values()) == {None}
    assert report["overall_interval"]["b"] is None
    assert report["per_image_overall"]["a"]["num_undefined"] == 1
    assert report["per_image_overall"]["b"]["median"] is None
    picked = pick_examples(half, ["x", "y"], PAPER9)
    assert picked == {"best": [1], "median": [1], "worst": [1], "weakest": [1]}


def test_model_with_skin_reports_it(tmp_path: Path) -> None:
    counts = torch.diag(torch.arange(1, PAPER9.num_classes + 1)).expand(2, -1, -1).clone()
    counts[:, 0, SKIN] = 2
    report = write_f1_report(
        tmp_path,
        systems={"eleven classes": counts},
        keys=["x", "y"],
        dataset="helen",
        title="Skin",
        metadata={},
        examples={},
        label_set=PAPER9.labelling(PAPER9.class_names),
    )
    assert report["systems"]["eleven classes"]["skin"] == pytest.approx(4 / 6)


def test_report_refuses_what_would_mislead(tmp_path: Path) -> None:
    examples, counts = faces(num_missed=1)

    def report(**changed: Any) -> None:
        given: dict[str, Any] = {
            "systems": {"ours": counts},
            "keys": KEYS,
            "dataset": "helen",
            "title": "",
            "metadata": {},
            "examples": {},
            "label_set": PAPER9,
        }
        write_f1_report(tmp_path / "refused", **{**given, **changed})

    with pytest.raises(ValueError, match=r"counts of ours must be \[6, 11, 11\].*\[7, 11, 11\]"):
        report(keys=KEYS[:6])
    with pytest.raises(ValueError, match="scored once, got 'face_0' twice"):
        report(keys=[*KEYS[:6], "face_0"])
    with pytest.raises(ValueError, match="among the images scored, got other"):
        report(examples={"best": [examples[0]._replace(key="other")]})
    with pytest.raises(ValueError, match="needs a system and an image"):
        report(systems={})
    with pytest.raises(ValueError, match="Out of range float values"):
        report(metadata={"loss": math.nan})
    assert not (tmp_path / "refused").exists()


def test_ties_are_resolved_by_key() -> None:
    same = faces(num_missed=1)[1][:1].expand(3, -1, -1)
    picked = pick_examples(same, ["b", "c", "a"], PAPER9, num=1)
    assert picked == {"best": [2], "median": [0], "worst": [1], "weakest": [1]}


def test_the_weakest_class_is_looked_at_where_the_truth_has_it() -> None:
    eye = PAPER9.class_id["left_eye"]
    counts = torch.zeros(3, PAPER9.num_classes, PAPER9.num_classes, dtype=torch.int64)
    counts[:, NOSE, NOSE] = 9
    counts[0, 0, eye] = 4  # found where there is none: F1 of 0, but not what the eye looks like
    counts[1, eye, eye], counts[1, eye, 0] = 3, 1
    counts[2, eye, eye], counts[2, eye, 0] = 1, 3
    assert pick_examples(counts, ["x", "y", "z"], PAPER9)["weakest"] == [2, 1]
