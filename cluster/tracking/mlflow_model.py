"""A trained model as an MLflow model, for `mlflow.pyfunc.load_model` and `mlflow models serve`.

It is a pyfunc of code alone, without pickles: `model_script.py`, the code of `stn_icnn`, and
`model.pt`, which lies where it lies in every folder of a model.
"""

import io
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array, Map
from PIL import Image

import stn_icnn
from cluster.tracking.tracker import Run
from sharding.procedural.drawing import draw_face
from sharding.procedural.random_face import random_face
from stn_icnn.inference.model_sources import SHIPPED_MODEL
from stn_icnn.inference.served_model import FACES, IMAGE, LABEL_IDS, LABELS, WINDOWS
from stn_icnn.networks.checkpoint import MODEL_FILE, load_checkpoint

MODEL_ARTIFACT: Final = "model"
"""The path of a run's model in its artifacts."""

REQUIREMENTS: Final = ("mlflow", "numpy", "pandas", "pillow", "torch")
"""The packages that the stored model imports."""

EXAMPLE_PX: Final = 128
PACKAGE: Final = Path(stn_icnn.__file__).parent
SCRIPT: Final = Path(__file__).with_name("model_script.py")

SIGNATURE: Final = ModelSignature(
    inputs=Schema([ColSpec(AnyType(), IMAGE)]),  # type: ignore[no-untyped-call]
    outputs=Schema(
        [
            ColSpec(DataType.string, LABELS),
            ColSpec(Map(Array(DataType.double)), WINDOWS),
            ColSpec(AnyType(), FACES),  # type: ignore[no-untyped-call]
            ColSpec(Array(Array(DataType.integer)), LABEL_IDS, required=False),
        ]
    ),
    params=ParamSchema([ParamSpec(LABEL_IDS, DataType.boolean, default=False)]),
)
"""Photographs in, a row for each out. An image may be base64, bytes, an array or nested lists, for
which MLflow has no type in common but `any` (tried in 3.17): a `TensorSpec` of `[-1, -1, -1, 3]`
uint8 refuses base64, a column of `binary` refuses a record with pixels, and one of `string` would
say of pixels what they are not. The card states the forms."""


def log_model_file(run: Run, model: bytes) -> None:
    """Stores the content of a model file in a run as its model, without what serving needs."""
    run.log_file(MODEL_FILE, model, MODEL_ARTIFACT)


def log_mlflow_model(run: Run, model: bytes) -> None:
    """Stores the content of a model file in a run as its model, which MLflow can load and serve."""
    with tempfile.TemporaryDirectory() as folder:
        save_mlflow_model(Path(folder), model)
        run.log_artifacts(folder, MODEL_ARTIFACT)


def save_mlflow_model(folder: Path, model: bytes) -> None:
    """Writes an MLflow model.

    Args:
        folder: an empty folder.
        model: the content of a model file.
    """
    label_set = load_checkpoint(model).model.label_set
    described = Model()
    with _without_lines_of_steps():
        mlflow.pyfunc.save_model(
            str(folder),
            mlflow_model=described,
            python_model=str(SCRIPT),
            code_paths=[str(PACKAGE)],
            # Both are given: what MLflow infers, it infers by running the model.
            pip_requirements=pinned_requirements(),
            signature=SIGNATURE,
            input_example=pd.DataFrame({IMAGE: [_example_photo()]}),
            metadata={
                "classes": {label_set.class_names[i]: i for i in label_set.model_classes},
                "parts": [part.name for part in label_set.parts],
            },
        )
    (folder / MODEL_FILE).write_bytes(model)
    # The model that comes along with the code has no place, and other terms, in another's folder.
    shutil.rmtree(folder / "code" / SHIPPED_MODEL.parent.relative_to(PACKAGE.parent))
    # MLflow wrote this machine's path of the script, of which it uses the name alone.
    described.flavors[mlflow.pyfunc.FLAVOR_NAME][mlflow.pyfunc.MODEL_CODE_PATH] = SCRIPT.name
    files = [path for path in folder.rglob("*") if path.is_file()]
    described.model_size_bytes = sum(file.stat().st_size for file in files)
    described.save(str(folder / MLMODEL_FILE_NAME))


@contextmanager
def _without_lines_of_steps() -> Iterator[None]:
    """Keeps MLflow from a line in the log for each step of saving a model."""
    logger = logging.getLogger(mlflow.pyfunc.__name__)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def pinned_requirements() -> list[str]:
    """Returns the packages that the stored model imports, at the versions that are installed here.

    A version's local part, as in `2.13.0+cpu`, is left out: other machines need another build.
    """
    return [f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS]


def _example_photo() -> bytes:
    """Draws a small face, the same one each time; returns it as a JPEG."""
    rng = np.random.default_rng(0)
    drawn = draw_face(random_face(rng, "celebamask", EXAMPLE_PX), rng)
    file = io.BytesIO()
    Image.fromarray(drawn.image).save(file, "JPEG")
    return file.getvalue()
