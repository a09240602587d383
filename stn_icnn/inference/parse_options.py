"""What command and job can be asked beside which photographs to parse."""

# Imports no torch, so that a command's help comes at once.

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self

from stn_icnn.checks import require
from stn_icnn.inference.outputs.output_files import DEFAULT_KINDS, parse_kinds

if TYPE_CHECKING:
    from stn_icnn.inference.faces.boxes import BoxFile

Framing = Literal["whole", "found"]
"""What is taken for a face: each whole photograph, or what is found in it."""

DOUBTFUL: Final = 0.5
"""A photograph is doubtful if its surest face is less likely than this to have an F1 of 0.85."""


@dataclass(frozen=True, kw_only=True)
class ParseOptions:
    """How photographs are parsed, and what is written of them."""

    kinds: tuple[str, ...]
    """Which output files are written."""
    framing: Framing | None = None
    """What is taken for a face; None: what is found where the model has a finder."""
    boxes: "BoxFile | None" = None
    """Where the faces are; photographs that it does not name have none."""
    min_confidence: float = 0.0
    """Faces that are less sure are left out."""

    @classmethod
    def read(
        cls,
        write: str = DEFAULT_KINDS,
        framing: Framing | None = None,
        boxes: str | None = None,
        min_confidence: float = 0.0,
    ) -> Self:
        """Reads the options that a user gave.

        Args:
            write: the kinds of output files, separated by commas.
            framing: as the attribute.
            boxes: a file of boxes.
            min_confidence: as the attribute.

        Raises:
            ValueError: one is not allowed, or the file of boxes can't be read.
        """
        require(0 <= min_confidence <= 1, "--min-confidence", "from 0 to 1", min_confidence)
        kinds = parse_kinds(write)
        if boxes is None:
            return cls(kinds=kinds, framing=framing, min_confidence=min_confidence)
        from stn_icnn.inference.faces.boxes import BoxFile

        file = BoxFile.read(boxes)
        return cls(kinds=kinds, framing=framing, boxes=file, min_confidence=min_confidence)

    def record(self) -> dict[str, object]:
        """Returns those that a record of a run must have, as the labels depend on them."""
        boxes = None if self.boxes is None else self.boxes.fingerprint
        return {"framing": self.framing, "boxes": boxes, "min_confidence": self.min_confidence}
