"""Tables: Markdown, CSV and plain text."""

from pathlib import Path

from stn_icnn.label_sets import PAPER9
from stn_icnn.reporting.tables import Table, f1_headings, text_table, write_csv


def test_markdown_table_marks_what_is_missing() -> None:
    assert Table(["system", "F1"], [["a", "0.5"], ["b", None]]).markdown == [
        "| system | F1 |",
        "|---|---|",
        "| a | 0.5 |",
        "| b | - |",
    ]


def test_csv_holds_numbers_in_full_and_leaves_what_is_missing_empty(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ["system", "F1"], [["a", 1 / 3], ["b", None]])
    assert (tmp_path / "a.csv").read_bytes() == b"system,F1\na,0.3333333333333333\nb,\n"


def test_text_table() -> None:
    ours = dict.fromkeys(f1_headings(PAPER9), 0.5) | {"skin": None, "upper_lip": 0.8764}
    text = text_table({"STN-iCNN": ours, "paper": {"overall": 0.91}}, PAPER9)
    lines = text.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line.split("  ")[0] for line in lines] == ["", "STN-iCNN", "paper"]
    assert [" ".join(line.split()) for line in lines] == [
        "eyes brows nose inner mouth upper lip lower lip mouth skin overall mean",
        "STN-iCNN 0.500 0.500 0.500 0.500 0.876 0.500 0.500 - 0.500 0.500",
        "paper - - - - - - - - 0.910 -",
    ]
