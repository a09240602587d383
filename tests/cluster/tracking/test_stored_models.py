import math
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from cluster.tracking.model_card import model_card
from cluster.tracking.provenance import command_line, flatten, git_commit
from cluster.tracking.registry import register
from cluster.tracking.stored_models import FetchedModel, resolve_model
from cluster.tracking.tracker import Tracker
from stn_icnn.inference.model_sources import find_model


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[Path], str]) -> Tracker:
    folder = tmp_path_factory.mktemp("tracking place")  # with a space
    return Tracker.connect(new_store(folder), outbox_folder=folder / "outbox")


@pytest.fixture
def run_id(tracker: Tracker, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A run with `checkpoint/model.pt` among its artifacts."""
    run = tracker.start_or_resume_run(request.node.name)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "model.pt").write_text(request.node.name)
    run.log_artifacts(tmp_path / "made", "checkpoint")
    return run.run_id


def champion(client: MlflowClient, name: str) -> str:
    return str(client.get_model_version_by_alias(name, "champion").version)


def enter(tracker: Tracker, name: str, run_id: str, score, data: str = "data-1") -> str:
    metrics = {} if score is None else {"val/f1_overall": score}
    return register(
        tracker.client,
        name=name,
        run_id=run_id,
        artifact_path="checkpoint",
        card="# A card",
        tags={"preset": "demo"},
        metrics=metrics,
        data_fingerprint=data,
    )


def test_champion_moves_only_to_the_better(tracker, run_id):
    entered = [enter(tracker, "moves", run_id, score) for score in (0.5, 0.4, 0.5000001, 0.3)]
    assert entered == ["1", "2", "3", "4"]
    assert champion(tracker.client, "moves") == "3"
    decisions = [tracker.client.get_model_version("moves", v).tags["champion"] for v in entered]
    assert decisions[0] == "the first"
    assert decisions[1] == "no: version 1 has val/f1_overall 0.5"
    assert decisions[2] == "since version 1"


def test_a_fetched_model_knows_the_run_that_left_it(tracker, tiny_model):
    run = tracker.start_or_resume_run("a real model")
    run.log_artifacts(tiny_model.parent, "checkpoint")
    run_id = run.run_id
    version = enter(tracker, "from-a-run", run_id, 0.5)
    for name in (
        f"runs:/{run_id}/checkpoint",
        f"models:/from-a-run/{version}",
        "models:/from-a-run@champion",
    ):
        model = FetchedModel.fetch(name, tracker.uri)
        assert (model.run_id, model.given) == (run_id, name)
        assert model.content == tiny_model.read_bytes()
    assert FetchedModel.fetch(str(tiny_model), tracker.uri).run_id is None


def test_a_tie_leaves_the_champion(tracker, run_id):
    enter(tracker, "ties", run_id, 0.5)
    other = tracker.start_or_resume_run("another of the same score").run_id
    assert enter(tracker, "ties", other, 0.5) == "2"
    assert champion(tracker.client, "ties") == "1"


def test_a_champion_of_other_data_stays(tracker, run_id):
    enter(tracker, "others", run_id, 0.5, data="data-1")
    version = enter(tracker, "others", run_id, 0.9, data="data-2")
    assert champion(tracker.client, "others") == "1"
    tags = tracker.client.get_model_version("others", version).tags
    assert "other data" in tags["champion"]
    assert tags["data_fingerprint"] == "data-2"


@pytest.mark.parametrize("score", [None, math.nan])
def test_a_model_without_a_score_is_no_champion(tracker, run_id, score):
    name = f"scoreless-{score}"
    enter(tracker, name, run_id, score)
    assert tracker.client.get_registered_model(name).aliases == {}
    assert enter(tracker, name, run_id, 0.1) == champion(tracker.client, name) == "2"


def test_the_same_result_is_registered_once(tracker, run_id):
    assert enter(tracker, "once", run_id, 0.5) == enter(tracker, "once", run_id, 0.5) == "1"
    assert len(tracker.client.search_model_versions("name = 'once'")) == 1


def test_version_holds_card_and_tags(tracker, run_id):
    enter(tracker, "holds", run_id, 0.5)
    version = tracker.client.get_model_version("holds", "1")
    assert version.description == "# A card"
    assert version.tags["val/f1_overall"] == "0.5"
    assert version.tags["preset"] == "demo"
    assert version.run_id == run_id


def test_scores_are_read_rounded_and_compared_in_full(tracker):
    def finished(name: str, score: float) -> str:
        run = tracker.start_or_resume_run(name)
        run.log_metrics({"val/f1_overall": score}, step=0)
        return enter(tracker, "rounded", run.run_id, score)

    scores = {"less": 0.88918033, "more": 0.88918034, "between": 0.889180335}
    assert [finished(name, score) for name, score in scores.items()] == ["1", "2", "3"]
    assert champion(tracker.client, "rounded") == "2"
    assert finished("less", scores["less"]) == "1"
    for number in "123":
        tags = tracker.client.get_model_version("rounded", number).tags
        assert tags["val/f1_overall"] == "0.8892"
        assert not any("0.8891" in value for value in tags.values())


def test_a_version_from_before_is_compared_by_its_full_score(tracker, run_id):
    client = tracker.client
    client.create_registered_model("old")
    tags = {
        "val/f1_overall": "0.88918034",
        "data_fingerprint": "data-1",
        "artifact_path": "checkpoint",
    }
    client.create_model_version("old", f"runs:/{run_id}/checkpoint", run_id, tags=tags)
    client.set_registered_model_alias("old", "champion", "1")
    assert enter(tracker, "old", run_id, 0.88918034) == "1"
    assert enter(tracker, "old", run_id, 0.88918033) == "2"
    assert champion(client, "old") == "1"
    assert enter(tracker, "old", run_id, 0.88918035) == champion(client, "old") == "3"


def test_resolves_every_form(tracker, run_id, tmp_path, monkeypatch, request):
    enter(tracker, "forms", run_id, 0.5)
    for model in (f"runs:/{run_id}/checkpoint", "models:/forms@champion", "models:/forms/1"):
        folder = resolve_model(model, tracker.uri)
        assert folder.is_absolute()
        assert (folder / "model.pt").read_text() == request.node.name
        fetched = find_model(model, tracker.uri)  # by the entry points of the installed project
        assert (fetched / "model.pt").read_text() == request.node.name
    assert resolve_model(f"runs:/{run_id}/checkpoint/model.pt", tracker.uri).is_file()
    monkeypatch.chdir(tmp_path)
    assert resolve_model("made", "http://not-asked") == tmp_path / "made"
    assert resolve_model("made/model.pt") == tmp_path / "made" / "model.pt"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nowhere/model.pt", r"model must be a checkpoint file or folder, .* there is no /"),
        ("s3://bucket/model", r"got 's3://bucket/model': that is no form"),
        ("runs:/abc", r"got 'runs:/abc': the run's id or the path is missing"),
        ("runs:/abc/checkpoint", r"no model 'runs:/abc/checkpoint' at sqlite.*id=abc not found"),
        ("models:/unknown@champion", r"no model 'models:/unknown@champion' at .*name=unknown"),
        ("models:/known@best", r"no model 'models:/known@best' at .* alias best not found"),
        ("models:/known/99", r"no model 'models:/known/99' at .*version=99"),
        ("models:/known/latest", r"got 'models:/known/latest': it names no alias or version"),
    ],
)
def test_names_what_is_not_there(tracker, run_id, model, message):
    enter(tracker, "known", run_id, 0.5)
    with pytest.raises(ValueError, match=message):
        resolve_model(model, tracker.uri)


def test_names_artifacts_that_are_not_there(tracker, run_id):
    with pytest.raises(
        ValueError, match=r"artifacts of model 'runs:/.*/nothing' .* check the path"
    ):
        resolve_model(f"runs:/{run_id}/nothing", tracker.uri)


def test_artifacts_that_were_moved_are_missed_where_they_were(tracker, run_id, tmp_path):
    enter(tracker, "moved", run_id, 0.5)
    folder = Path(tracker.client.get_run(run_id).info.artifact_uri)
    folder.rename(tmp_path / "elsewhere")
    for model in (f"runs:/{run_id}/checkpoint", "models:/moved@champion"):
        with pytest.raises(ValueError, match=f"left in {folder}, which is not there: put them b"):
            resolve_model(model, tracker.uri)


def test_a_name_without_a_version_is_told_those_there_are(tracker, run_id):
    for score in (0.5, 0.4):
        enter(tracker, "two", run_id, score)
    for model in ("models:/two/latest", "models:/two"):
        with pytest.raises(ValueError, match=r"there are models:/two@champion, models:/two/2, the"):
            resolve_model(model, tracker.uri)


CARD = {
    "name": "stn-icnn-helen",
    "dataset": "helen",
    "data_fingerprint": "abc123",
    "num_images": 2000,
    "started_from": "the preset helen",
    "config": {"optim": {"lr_coarse": 0.001}},
    "tracking_uri": "http://mlflow:5000",
    "val_f1": {"overall": 0.91234, "skin": None},
    "test_f1": {"overall": 0.9},
}


def test_model_card_says_what_it_is():
    card = model_card(**CARD, run_id="r1", commit="c1")
    assert card.startswith("# stn-icnn-helen\n")
    lines = [line.split() for line in card.splitlines()]
    assert ["F1", "validation", "test"] in lines
    assert ["overall", "0.9123", "0.9000"] in lines
    assert ["skin", "-", "-"] in lines
    assert "- Data set: helen, 2000 training images" in card
    assert "- Started from: the preset helen" in card
    assert "- `optim.lr_coarse`: 0.001" in card
    for form in ('{"dataframe_records": [{"image": "', '{"inputs": [[[['):  # of a request
        assert form in card
    assert "stn-icnn parse PHOTO --model models:/stn-icnn-helen@champion" in card
    assert "`r1`" in card
    assert "non-commercial" not in card
    assert "MLflow run" not in model_card(**CARD)


def test_model_card_tells_where_the_model_is_registered():
    assert "\nexport MLFLOW_TRACKING_URI=http://mlflow:5000\n" in model_card(**CARD)
    card = model_card(**CARD | {"tracking_uri": "http://u:secret@mlflow:5000"})
    assert "export MLFLOW_TRACKING_URI='http://u:***@mlflow:5000'" in card
    assert "secret" not in card


def test_model_card_of_celebamask_is_for_research():
    assert "non-commercial research only" in model_card(**CARD | {"dataset": "celebamask"})


def test_model_card_says_whether_the_model_finds_faces():
    without = model_card(**CARD)
    assert "It finds no faces" in without
    assert "- One face a photograph" in without
    assert "scenes" not in without
    card = model_card(**CARD, finds_faces=True, faces_f1=0.98765)
    assert "the finder, looks for faces" in card
    assert "It finds faces and tells no person" in card
    assert "One face a photograph" not in card
    assert "faces found in scenes made of the validation images: F1 0.9877." in card
    assert "scenes" not in model_card(**CARD, finds_faces=True), "where it was not measured"


def test_a_long_card_is_cut_where_the_settings_are(tracker, run_id):
    settings = {f"setting_{i:03d}": "x" * 20 for i in range(200)}
    card = model_card(**CARD | {"config": settings})
    register(
        tracker.client,
        name="long",
        run_id=run_id,
        artifact_path="checkpoint",
        card=card,
        tags={},
        metrics={},
        data_fingerprint="d",
    )
    description = tracker.client.get_model_version("long", "1").description
    assert len(description) == 5000
    assert description.endswith("(cut to the registry's limit)")
    assert description.index("## Settings") > description.index("## How to load it")


def test_flatten_joins_names_and_cuts_values():
    nested = {"a": {"b": 1, "c": {"d": None}}, "e": [1, 2], "f": "x" * 9000, "g": {}}
    flat = flatten(nested)
    assert flat | {"f": ""} == {"a.b": "1", "a.c.d": "None", "e": "[1, 2]", "f": ""}
    assert len(flat["f"]) == 5000


def test_the_command_is_told_without_passwords(monkeypatch):
    uri = "--tracking-uri=postgresql://me:secret@host:5432/runs"
    monkeypatch.setattr("sys.argv", ["jobs/e2e.py", "demo", "--run-name", "a b", uri])
    shown = "--tracking-uri=postgresql://me:***@host:5432/runs"
    assert command_line() == f"python jobs/e2e.py demo --run-name 'a b' '{shown}'"


def test_git_commit_is_that_of_this_code_alone(tmp_path, monkeypatch):
    commit = git_commit()
    assert commit is None or len(commit.removesuffix("-dirty")) == 40
    monkeypatch.setattr("cluster.tracking.provenance.__file__", str(tmp_path / "provenance.py"))
    assert git_commit() is None
    monkeypatch.setenv("STN_ICNN_COMMIT", "told")
    assert git_commit() == "told"
