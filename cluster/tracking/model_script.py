"""The script by which MLflow loads a stored model: `FaceParser` as an MLflow pyfunc.

MLflow copies it into the model's folder, beside `model.pt` and with the code of `stn_icnn`, and
runs it there, where nothing else of this project need be installed.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.served_model import IMAGE, LABEL_IDS, answer_images


class FaceParsingModel(PythonModel):
    """Parses the photographs of a column."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the model file beside this script."""
        self.parser = FaceParser.load(Path(__file__).parent)

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Returns a row for each photograph, with the columns that `answer_images` names.

        Raises:
            MlflowException: a photograph cannot be read; a server answers with status 400.
        """
        with_label_ids = bool((params or {}).get(LABEL_IDS))
        try:
            answers = answer_images(self.parser, list(model_input[IMAGE]), with_label_ids)
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return pd.DataFrame(answers, index=model_input.index)


set_model(FaceParsingModel())
