"""The F1 that the paper publishes, for our tables to show beside what we measure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from stn_icnn.label_sets import PAPER9
from stn_icnn.scoring.f1 import F1Rows


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        source: its number, such as `Table 2`.
        systems: F1 by system, in the order of `PAPER9.f1_rows`; None where the paper has no value.
    """

    source: str
    systems: dict[str, tuple[float | None, ...]]

    def rows(self) -> dict[str, F1Rows]:
        """Returns F1 by system and row; the paper has no `mean`."""
        return {
            f"{system} (paper)": {**dict(zip(PAPER9.f1_rows, values, strict=True)), "mean": None}
            for system, values in self.systems.items()
        }


PAPER_TABLES: Final = {
    "helen": PaperTable(
        "Table 2",
        {
            "iCNN baseline": (0.778, 0.863, 0.920, 0.777, 0.824, 0.808, 0.889, None, 0.845),
            "iCNN": (0.863, 0.790, 0.936, 0.812, 0.772, 0.830, 0.908, None, 0.865),
            "STN-iCNN*": (0.891, 0.845, 0.956, 0.853, 0.792, 0.834, 0.920, None, 0.893),
            "STN-iCNN": (0.895, 0.848, 0.963, 0.856, 0.824, 0.866, 0.928, None, 0.910),
        },
    ),
    "celebamask": PaperTable(
        "Table 3",
        {
            "iCNN": (0.883, 0.848, 0.910, 0.896, 0.712, 0.763, 0.849, None, 0.879),
            "STN-iCNN*": (0.866, 0.834, 0.937, 0.906, 0.878, 0.893, 0.948, None, 0.915),
            "STN-iCNN": (0.900, 0.851, 0.943, 0.917, 0.877, 0.893, 0.948, None, 0.924),
        },
    ),
}
"""The paper's tables by data set; `*` marks a system before end-to-end training."""

PAPER_STN_ICNN: Final = "STN-iCNN (paper)"
"""The system that the paper is about, by its name in `PaperTable.rows`."""


class SourcedF1(NamedTuple):
    """A system's F1 and where it is from: `measured`, or a table of the paper."""

    system: str
    source: str
    rows: F1Rows


def published_f1(dataset: str) -> list[SourcedF1]:
    """Returns the F1 of the paper's systems on a data set; there is none if it did not use it."""
    if (paper := PAPER_TABLES.get(dataset)) is None:
        return []
    return [SourcedF1(system, paper.source, rows) for system, rows in paper.rows().items()]


def beside_published(measured: Mapping[str, F1Rows], dataset: str) -> list[SourcedF1]:
    """Returns the measured systems, then the paper's of the same data set, if it has any."""
    systems = [SourcedF1(system, "measured", rows) for system, rows in measured.items()]
    return systems + published_f1(dataset)
