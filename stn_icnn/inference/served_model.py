"""The requests that a served model answers: photographs in a request's forms in, plain types out.

`cluster/tracking/model_script.py` makes an MLflow model of it, and stores this package's code with
it: what is imported here must be a requirement of the stored model.
"""

import base64
import binascii
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stn_icnn.decoding import RejectedError
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.outputs.output_files import encode_output
from stn_icnn.inference.photos.decoding import (
    DEFAULT_MEGAPIXELS,
    DecodedPhoto,
    load_photo,
    open_photo,
)

IMAGE = "image"
"""The column of a request that holds its photographs."""

LABELS, WINDOWS, FACES, LABEL_IDS = "labels", "windows", "faces", "label_ids"
"""The columns of an answer; the last is there where it is asked for."""


def answer_images(
    parser: FaceParser, images: Sequence[object], with_label_ids: bool = False
) -> list[dict[str, object]]:
    """Parses a request's photographs, of any sizes.

    Args:
        parser: the model.
        images: the photographs, each as `request_image` takes it.
        with_label_ids: whether an answer has `label_ids`, which is long as JSON.

    Returns:
        For each photograph, `labels`: the label map as base64 of an indexed PNG, at the
        photograph's own size and upright; `windows`: by part, the centre x, y, width and height of
        its window, px, of the first face; `faces`: what `ParsedFace.describe` tells of each;
        `label_ids`: the label map as `[H, W]` uint8 class ids.

    Raises:
        ValueError: a photograph cannot be read; the message has its place in the request.
    """
    photos = []
    for i, image in enumerate(images):
        try:
            photos.append(request_image(image, parser.max_megapixels))
        except ValueError as error:
            raise ValueError(f"{IMAGE} {i} of {len(images)} (from 0): {error}") from error
    answers = []
    for parsed in parser.parse_all(photos):
        answer: dict[str, object] = {
            LABELS: base64.b64encode(encode_output(parsed, "labels")).decode(),
            WINDOWS: parsed.named_windows,
            FACES: [face.describe() for face in parsed.faces],
        }
        answers.append(answer | ({LABEL_IDS: parsed.labels} if with_label_ids else {}))
    return answers


def request_image(image: object, max_megapixels: float = DEFAULT_MEGAPIXELS) -> DecodedPhoto:
    """Decodes a photograph.

    Args:
        image: an image file's content as bytes or as base64 text, which may be a data URL, or the
            pixels: `[H, W, 3]` RGB, 0 to 255, a uint8 array or nested lists.
        max_megapixels: the most that are decoded of a file; a larger JPEG is reduced.

    Raises:
        ValueError: it has none of these forms, or is no photograph that is read.
    """
    if isinstance(image, str):
        image = _decode_base64(image)
    if isinstance(image, bytes | bytearray):
        try:
            return open_photo(bytes(image), max_megapixels).decode()
        except RejectedError as error:
            raise ValueError(str(error)) from error
    if isinstance(image, list):
        image = _nested_pixels(image)
    if isinstance(image, np.ndarray):
        return load_photo(image)
    raise ValueError(
        "a photograph must be an image file's content, as bytes or base64, or [H, W, 3] pixels, "
        f"got {type(image).__name__}"
    )


def _decode_base64(text: str) -> bytes:
    content = "".join(text.rpartition(",")[2].split())  # without a data URL's head, line breaks
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"a text must be an image file in base64: {error}") from error


def _nested_pixels(rows: list[object]) -> NDArray[np.uint8]:
    try:
        pixels = np.asarray(rows)
    except ValueError as error:
        raise ValueError("pixels must be [H, W, 3], got lists of unequal lengths") from error
    whole = pixels.dtype.kind in "iu" and pixels.size > 0
    if not whole or pixels.min() < 0 or pixels.max() > 255:
        raise ValueError("pixels must be whole numbers from 0 to 255")
    return pixels.astype(np.uint8)
