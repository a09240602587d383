"""`from stn_icnn import FaceParser` works, and nothing loads PyTorch before it is needed."""

import subprocess
import sys

import pytest

import stn_icnn


@pytest.mark.parametrize("module", ["labels", "decoding"])
def test_labels_and_decoding_load_no_torch(module: str):
    code = f"import stn_icnn.{module}, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_the_face_parser_is_the_library_s_front_door():
    code = (
        "import sys, stn_icnn\n"
        "assert 'torch' not in sys.modules\n"
        "from stn_icnn import FaceParser, ParsedFace, ParsedPhoto\n"
        "from stn_icnn.inference import face_parser\n"
        "from stn_icnn.inference.outputs import parsed_face, parsed_photo\n"
        "assert FaceParser is face_parser.FaceParser and ParsedFace is parsed_face.ParsedFace\n"
        "assert ParsedPhoto is parsed_photo.ParsedPhoto\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="module 'stn_icnn' has no attribute 'FaceParsers'"):
        _ = stn_icnn.FaceParsers
