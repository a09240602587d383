"""The list of runs: whose it is, which columns it has, and the addresses of its pages."""

import json
from types import SimpleNamespace

import pytest

from cluster.run_notes import BEST_SCORE, origin_sentence, result_note, weakest_class
from cluster.storage.datasets import ShardedData
from cluster.tracking.run_list import COLUMNS, VIEW_TAG, list_url, main
from cluster.tracking.run_pages import run_page
from cluster.tracking.tracker import Tracker
from cluster.tracking.tracking_uri import EXPERIMENT_ENV
from stn_icnn.label_sets import PAPER9


@pytest.fixture(scope="module")
def uri(tmp_path_factory, new_store) -> str:
    return new_store(tmp_path_factory.mktemp("tracking"))


def name_of(tracker: Tracker) -> str:
    return tracker.client.get_experiment(tracker.experiment_id).name


def test_a_team_s_list_is_named_by_option_or_variable(uri, tmp_path, monkeypatch):
    monkeypatch.delenv(EXPERIMENT_ENV, raising=False)
    assert name_of(Tracker.connect(uri, outbox_folder=tmp_path)) == "stn-icnn"
    monkeypatch.setenv(EXPERIMENT_ENV, "eyes")
    assert name_of(Tracker.connect(uri, outbox_folder=tmp_path)) == "eyes"
    assert name_of(Tracker.connect(uri, "lips", outbox_folder=tmp_path)) == "lips"


def test_a_list_shows_results_and_their_reasons_also_one_of_an_earlier_version(uri, tmp_path):
    tracker = Tracker.connect(uri, "older", outbox_folder=tmp_path)
    tracker.client.delete_experiment_tag(tracker.experiment_id, VIEW_TAG)
    Tracker.connect(uri, "older", outbox_folder=tmp_path)
    state = json.loads(tracker.client.get_experiment(tracker.experiment_id).tags[VIEW_TAG])
    assert state["selectedColumns"] == state["columnOrder"] == list(COLUMNS)
    assert {"metrics.`test/f1_overall`", "tags.`weakest_class`", "params.`data`"} < set(COLUMNS)
    assert f"metrics.`{BEST_SCORE}`" in COLUMNS, "what sweeps of all phases have"


@pytest.mark.parametrize(
    ("uri", "server"),
    [
        ("sqlite:////home/a/mlflow.db", "http://127.0.0.1:5000"),
        ("postgresql://u:secret@db/mlflow", "http://127.0.0.1:5000"),
        ("http://u:secret@mlflow:8080", "http://mlflow:8080"),
        ("https://host/mlflow", "https://host/mlflow"),
    ],
)
def test_pages_are_those_of_trained_models_and_their_addresses_hold_no_password(uri, server):
    tracker = SimpleNamespace(uri=uri, experiment_id="3")
    assert run_page(SimpleNamespace(tracker=tracker, run_id="abc")) == (
        f"{server}/#/experiments/3/runs/abc?workflowType=machine_learning"
    )
    assert list_url(uri, "3") == (
        f"{server}/#/experiments/3/runs?workflowType=machine_learning&viewStateShareKey=jobs"
    )


def test_a_run_says_who_started_it_with_what(uri, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["jobs/e2e.py", "demo"])
    monkeypatch.setenv("STN_ICNN_COMMIT", "0123abc-dirty")
    monkeypatch.setenv("LOGNAME", "ann")
    tracker = Tracker.connect(uri, outbox_folder=tmp_path)
    run = tracker.start_or_resume_run("whose")
    tags = tracker.client.get_run(run.run_id).data.tags
    assert tags["mlflow.user"] == "ann"
    assert tags["mlflow.source.name"] == "jobs/e2e.py"
    assert tags["mlflow.source.type"] == "LOCAL"
    assert tags["mlflow.source.git.commit"] == "0123abc"


def test_the_shards_of_a_run_are_its_inputs_once(uri, tmp_path, shards):
    tracker, data = Tracker.connect(uri, outbox_folder=tmp_path), ShardedData.open(str(shards))
    run = tracker.start_or_resume_run("inputs")
    for _ in range(2):  # as where the job is started again
        run.log_data(data, ["train", "test"])
    inputs = tracker.client.get_run(run.run_id).inputs.dataset_inputs
    found = {one.dataset.name: one for one in inputs}
    assert sorted(one.dataset.name for one in inputs) == ["helen test", "helen train"]
    train = found["helen train"].dataset
    assert data.manifest.fingerprint.startswith(train.digest)
    assert json.loads(train.source) == {"uri": data.location.url}
    assert json.loads(train.profile) == {"num_rows": data.manifest.num_samples["train"]}
    assert found["helen test"].tags[0].value == "test"


def test_a_description_begins_with_the_result_and_says_what_to_do_with_the_model():
    note = result_note("F1 0.918", "Trained on 1200 images.", {"parse": "stn-icnn parse PHOTO"})
    assert note == "**F1 0.918**\n\nTrained on 1200 images.\n\n- parse: `stn-icnn parse PHOTO`"


def test_the_weakest_class_is_that_of_the_least_f1_where_any_is_defined():
    rows = {**dict.fromkeys(PAPER9.f1_rows), "overall": 0.5, "upper_lip": 0.8764, "nose": 0.93}
    assert weakest_class(rows, PAPER9) == "upper lip 0.876"
    assert weakest_class(dict.fromkeys(PAPER9.f1_rows), PAPER9) is None


def test_the_list_is_served_at_another_port_where_one_is_given(uri, monkeypatch, capsys):
    started = []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr("os.execv", lambda file, words: started.append(words))
    main(["--port", "5001"])
    main()
    assert [words[words.index("--port") + 1] for words in started] == ["5001", "5000"]
    assert "open http://127.0.0.1:5001/#/experiments/" in capsys.readouterr().out


def test_an_origin_names_each_machine_once_and_only_what_is_known():
    machines = ["a CPU", "a GPU", "a CPU", ""]
    assert origin_sentence("Trained", 8, 1.25, machines) == (
        "Trained on 8 images in 1.2 minutes, on a CPU; a GPU."
    )
    assert origin_sentence("Trained", 8, None, [""]) == "Trained on 8 images."
