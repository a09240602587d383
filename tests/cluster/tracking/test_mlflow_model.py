import base64
import contextlib
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel
from PIL import Image

from cluster.tracking.mlflow_model import MODEL_ARTIFACT, log_mlflow_model, save_mlflow_model
from cluster.tracking.stored_models import FetchedModel
from cluster.tracking.tracker import Tracker
from stn_icnn.config import TrainConfig
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.outputs.parsed_photo import ParsedPhoto
from stn_icnn.networks.checkpoint import Checkpoint, DataFacts, save_checkpoint
from stn_icnn.networks.model import STNiCNN

ELSEWHERE = """
import sys
from pathlib import Path
for name in ("cluster", "sharding", "jobs", "ray", "boto3", "webdataset", "simplejpeg", "tyro"):
    sys.modules[name] = None  # as if it were not installed
import mlflow.pyfunc
model = mlflow.pyfunc.load_model(sys.argv[1])
import stn_icnn
assert Path(stn_icnn.__file__).is_relative_to(sys.argv[1]), stn_icnn.__file__
model.predict(model.input_example).to_json(sys.argv[2], orient="records")
"""


@pytest.fixture(scope="module")
def model_file(tiny_config: TrainConfig, sure_model: STNiCNN) -> bytes:
    file = io.BytesIO()
    data = DataFacts(dataset="helen", fingerprint="abc", scale_px=96, scale_fit="at_most")
    save_checkpoint(file, Checkpoint(sure_model, tiny_config, data, "end_to_end"))
    return file.getvalue()


@pytest.fixture(scope="module")
def stored(model_file: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an MLflow model."""
    folder = tmp_path_factory.mktemp("stored model")  # with a space
    save_mlflow_model(folder, model_file)
    return folder


@pytest.fixture(scope="module")
def loaded(stored: Path) -> PyFuncModel:
    return mlflow.pyfunc.load_model(str(stored))


@pytest.fixture(scope="module")
def parser(stored: Path) -> FaceParser:
    return FaceParser.load(stored)


@pytest.fixture(scope="module")
def example(stored: Path) -> bytes:
    """The JPEG of the model's input example."""
    request = json.loads((stored / "serving_input_example.json").read_text())
    return base64.b64decode(request["dataframe_split"]["data"][0][0])


def read_label_map(labels: str) -> np.ndarray:
    image = Image.open(io.BytesIO(base64.b64decode(labels)))
    assert image.mode == "P"
    return np.asarray(image)


def require_answer(answer: dict, face: ParsedPhoto) -> None:
    """Checks labels and windows, which are to be those of the parser to the last bit."""
    assert np.unique(face.labels).size > 3
    assert np.array_equal(read_label_map(answer["labels"]), face.labels)
    parts = [part.name for part in face.label_set.parts]
    assert list(answer["windows"]) == parts
    assert np.array_equal([answer["windows"][part] for part in parts], face.windows)
    assert answer["faces"] == [each.describe() for each in face.faces]


@pytest.mark.slow
def test_saving_leaves_mlflow_s_own_lines_as_they_were(model_file, tmp_path, caplog):
    logger = logging.getLogger("mlflow.pyfunc")
    with caplog.at_level(logging.INFO, logger.name):
        save_mlflow_model(tmp_path, model_file)
        assert logger.level == logging.INFO
    assert not [record for record in caplog.records if record.name == logger.name]


def test_predicts_what_the_parser_does(loaded, parser, example):
    wide = np.random.default_rng(0).integers(0, 256, (60, 110, 3), dtype=np.uint8)
    images = [example, base64.b64encode(example).decode(), wide, wide.tolist()]
    jpeg = Image.open(io.BytesIO(example))
    faces = parser.parse_all([jpeg, jpeg, wide, wide])
    answers = loaded.predict(pd.DataFrame({"image": images}, index=[3, 5, 7, 9]))
    assert list(answers.columns) == ["labels", "windows", "faces"]
    assert list(answers.index) == [3, 5, 7, 9]
    for answer, face in zip(answers.to_dict("records"), faces, strict=True):
        require_answer(answer, face)


def test_takes_a_tensor_of_photographs_and_gives_class_ids(loaded, parser):
    images = np.random.default_rng(1).integers(0, 256, (2, 50, 40, 3), dtype=np.uint8)
    answers = loaded.predict({"image": images}, params={"label_ids": True})
    for ids, face in zip(answers["label_ids"], parser.parse_all(list(images)), strict=True):
        assert np.array_equal(ids, face.labels)


def test_refuses_what_is_no_photograph(loaded):
    with pytest.raises(MlflowException, match=r"image 0 of 1 .*not an image") as refused:
        loaded.predict(pd.DataFrame({"image": [b"text"]}))
    assert refused.value.get_http_status_code() == 400


def test_holds_no_model_but_its_own(stored):
    assert [path.name for path in stored.rglob("*.pt")] == ["model.pt"]


def test_says_what_it_takes_and_gives(stored):
    described = Model.load(str(stored))
    assert described.get_input_schema().input_names() == ["image"]
    assert described.get_output_schema().input_names() == [
        "labels",
        "windows",
        "faces",
        "label_ids",
    ]
    assert described.metadata["classes"]["upper_lip"] == 7
    assert described.metadata["parts"][-1] == "mouth"
    assert described.model_size_bytes > (stored / "model.pt").stat().st_size
    pins = dict(line.split("==") for line in (stored / "requirements.txt").read_text().split())
    assert set(pins) == {"mlflow", "numpy", "pandas", "pillow", "torch"}
    assert not any("+" in version for version in pins.values())
    assert not list(stored.rglob("*.pkl"))
    assert str(Path(__file__).parents[3]) not in (stored / "MLmodel").read_text()


@pytest.mark.slow
def test_loads_where_this_project_is_not_installed(stored, parser, example, tmp_path):
    out = tmp_path / "answers.json"
    command = [sys.executable, "-c", ELSEWHERE, str(stored), str(out)]
    subprocess.run(command, cwd=tmp_path, env=_without_this_project(), check=True)
    (answer,) = json.loads(out.read_text())
    face = parser.parse(Image.open(io.BytesIO(example)))
    assert np.array_equal(read_label_map(answer["labels"]), face.labels)


def _without_this_project() -> dict[str, str]:
    """Returns the environment of a process that finds MLflow's commands, and not this checkout.

    It computes on one core, as tests do: with more, the last bits of windows are other ones.
    """
    here = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return here | {"PATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def tracker(
    tmp_path: Path, new_store: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tracker]:
    tracker = Tracker.connect(new_store(tmp_path), outbox_folder=tmp_path / "outbox")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracker.uri)
    yield tracker
    mlflow.set_tracking_uri(before)


def register(tracker: Tracker, model_file: bytes) -> str | None:
    run = tracker.start_or_resume_run("a job")
    log_mlflow_model(run, model_file)
    version = run.register_model(
        "stored", MODEL_ARTIFACT, card="# Card", metrics={}, data_fingerprint="d", tags={}
    )
    run.finish("FINISHED")
    return version


@pytest.mark.slow
def test_a_registered_model_is_loaded_by_its_name(
    tracker, model_file, parser, example, monkeypatch
):
    assert register(tracker, model_file) == "1"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)
    run_id = tracker.client.get_model_version("stored", "1").run_id
    for name in ("models:/stored/1", f"runs:/{run_id}/model"):
        answers = mlflow.pyfunc.load_model(name).predict(pd.DataFrame({"image": [example]}))
        require_answer(answers.to_dict("records")[0], parser.parse(Image.open(io.BytesIO(example))))
        assert FetchedModel.fetch(name, tracker.uri).content == model_file
        photo = Image.open(io.BytesIO(example))
        assert np.array_equal(FaceParser(name).parse(photo).labels, parser.parse(photo).labels)


@pytest.mark.slow
def test_a_model_that_had_to_wait_for_the_server_is_whole(tracker, model_file, monkeypatch):
    calls, upload = [], tracker.client.log_artifacts

    def away_at_first(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise OSError("no route to host")
        upload(*arguments)

    monkeypatch.setattr(tracker.client, "log_artifacts", away_at_first)
    assert register(tracker, model_file) is None
    assert tracker.undelivered is None
    mlflow.pyfunc.load_model("models:/stored/1")
    assert FetchedModel.fetch("models:/stored/1", tracker.uri).content == model_file


@pytest.fixture
def server(stored: Path, tmp_path: Path, wait_until: Callable[..., None]) -> Iterator[str]:
    """The address of `mlflow models serve`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, log = f"http://127.0.0.1:{port}", tmp_path / "log"
    options = ["-m", str(stored), "--env-manager", "local", "--port", str(port)]
    command = [sys.executable, "-m", "mlflow", "models", "serve", *options]

    def answers() -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/ping") as answer:
            return answer.status == 200
        return False

    with (
        log.open("wb") as file,
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=_without_this_project(),
            stdout=file,
            stderr=file,
            start_new_session=True,
        ) as process,
    ):
        try:
            wait_until(answers, process)
            yield address
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def post(server: str, request: dict) -> list[dict]:
    body, head = json.dumps(request).encode(), {"Content-Type": "application/json"}
    with urllib.request.urlopen(
        urllib.request.Request(f"{server}/invocations", body, head), timeout=600
    ) as answer:
        return json.load(answer)["predictions"]


@pytest.mark.slow
def test_a_server_answers_posted_faces(server, stored, parser, example):
    face = parser.parse(Image.open(io.BytesIO(example)))
    photo = {"image": base64.b64encode(example).decode()}
    (answer,) = post(server, json.loads((stored / "serving_input_example.json").read_text()))
    require_answer(answer, face)
    (answer,) = post(server, {"dataframe_records": [photo], "params": {"label_ids": True}})
    require_answer(answer, face)
    assert np.array_equal(answer["label_ids"], face.labels)

    images = np.random.default_rng(2).integers(0, 256, (2, 30, 40, 3), dtype=np.uint8)
    answers = post(server, {"dataframe_records": [{"image": images[0].tolist()}, photo]})
    for answer, labels in zip(answers, (parser.parse(images[0]).labels, face.labels), strict=True):
        assert np.array_equal(read_label_map(answer["labels"]), labels)
    answers = post(server, {"inputs": images.tolist()})
    for answer, face in zip(answers, parser.parse_all(list(images)), strict=True):
        assert np.array_equal(read_label_map(answer["labels"]), face.labels)

    with pytest.raises(urllib.error.HTTPError) as refused:
        post(server, {"dataframe_records": [photo, {"image": "bm8="}]})
    assert refused.value.code == 400
    assert "image 1 of 2 (from 0): image does not decode" in refused.value.read().decode()
