from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from stn_icnn.inference.face_parser import FaceParser
    from stn_icnn.inference.outputs.parsed_face import ParsedFace
    from stn_icnn.inference.outputs.parsed_photo import ParsedPhoto

__all__ = ["FaceParser", "ParsedFace", "ParsedPhoto"]

_MODULES: Final = {
    "FaceParser": "stn_icnn.inference.face_parser",
    "ParsedFace": "stn_icnn.inference.outputs.parsed_face",
    "ParsedPhoto": "stn_icnn.inference.outputs.parsed_photo",
}


def __getattr__(name: str) -> Any:
    """Loads what a user of trained models needs when it is asked for: it brings PyTorch along."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
