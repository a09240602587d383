from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stn_icnn.inference.face_parser import FaceParser, ParsedFace

__all__ = ["FaceParser", "ParsedFace"]


def __getattr__(name: str) -> Any:
    """Loads what a user of trained models needs when it is asked for: it brings PyTorch along."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from stn_icnn.inference import face_parser

    return getattr(face_parser, name)
