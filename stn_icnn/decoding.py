"""What may go wrong when an image file is decoded."""

import struct
import zlib
from typing import Final

from PIL import Image

DECODE_ERRORS: Final = (
    OSError,
    SyntaxError,  # Pillow's word for a broken PNG chunk
    ValueError,
    EOFError,
    ArithmeticError,
    AssertionError,  # of Pillow's plugins, as for a palette that is missing
    AttributeError,
    LookupError,
    TypeError,  # these four for nonsense in EXIF or TIFF tags
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""Of Pillow and simplejpeg, when the file is damaged or no image."""
