"""Fetches trained models that are named as a file or in MLflow."""

import atexit
import contextlib
import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import mlflow.artifacts
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from cluster.tracking.tracking_uri import connect, resolve_tracking_uri, without_password
from stn_icnn.config import Network
from stn_icnn.networks.checkpoint import Checkpoint, find_model_file, load_checkpoint
from stn_icnn.training.phases import PHASES, require_trained, require_usable

NOT_FOUND: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})
"""The errors of MLflow where a run, model, version or alias is not there."""

_FORMS: Final = (
    "a checkpoint file or folder, runs:/RUN_ID/PATH, models:/NAME@ALIAS or models:/NAME/N"
)


@dataclass(frozen=True)
class FetchedModel:
    """A model file and its origin."""

    given: str
    """The name by which it was fetched."""
    content: bytes
    """The file's content."""
    checkpoint: Checkpoint
    """The checkpoint in it."""
    run_id: str | None = None
    """The id of the MLflow run that left it, where its name tells."""

    @classmethod
    def fetch(cls, given: str, tracking_uri: str | None = None) -> Self:
        """Fetches and reads a model.

        Args:
            given: the model's name, as `resolve_model` takes it.
            tracking_uri: the tracking store's address, likewise.

        Raises:
            ValueError: where there is none, or it is no model of STN-iCNN.
            TrackingUnavailableError: where the tracking server does not answer.
        """
        path, run_id = _find(given, tracking_uri)
        content = find_model_file(path).read_bytes()
        return cls(given, content, load_checkpoint(content), run_id)

    @classmethod
    def fetch_trained(
        cls, given: str, tracking_uri: str | None, user: str, needed: Iterable[Network]
    ) -> Self:
        """Fetches and reads a model, and refuses one of which a network has learnt nothing.

        Args:
            given: the model's name, as `resolve_model` takes it.
            tracking_uri: the tracking store's address, likewise.
            user: what needs the networks, for the message.
            needed: the networks that it needs.

        Raises:
            ValueError: where there is no such model, or naming the networks that are not trained,
                and the phases whose models have them.
            TrackingUnavailableError: where the tracking server does not answer.
        """
        model = cls.fetch(given, tracking_uri)
        phase = model.checkpoint.phase
        user = f"{given} is a model of the phase {phase}, but {user}"
        require_trained(user, needed, PHASES[phase].trained_networks)
        return model

    @classmethod
    def fetch_usable(cls, given: str, tracking_uri: str | None, user: str) -> Self:
        """Fetches and reads a model, and refuses one that could only label at random.

        Args:
            given: the model's name, as `resolve_model` takes it.
            tracking_uri: the tracking store's address, likewise.
            user: what is to use the model, for the message.

        Raises:
            ValueError: where there is no such model, or a network that it uses is not trained.
            TrackingUnavailableError: where the tracking server does not answer.
        """
        model = cls.fetch(given, tracking_uri)
        checkpoint = model.checkpoint
        require_usable(given, user, checkpoint.phase, checkpoint.config.model)
        return model

    @cached_property
    def sha256(self) -> str:
        """The file's digest: the same name, such as an alias, may stand for other models later."""
        return hashlib.sha256(self.content).hexdigest()


def resolve_model(model: str, tracking_uri: str | None = None) -> Path:
    """Returns the path of the checkpoint that `model` names, downloaded where it is in MLflow.

    Args:
        model: a checkpoint file or folder, `runs:/RUN_ID/PATH`, `models:/NAME@ALIAS` or
            `models:/NAME/VERSION`.
        tracking_uri: the tracking store's address, resolved like a job's; it is asked for the last
            three only.

    Returns:
        An absolute path. What was downloaded is removed when this process ends.

    Raises:
        ValueError: where there is no such file, run, model, version, alias or artifact.
        TrackingUnavailableError: where the tracking server does not answer.
    """
    return _find(model, tracking_uri)[0]


def _find(model: str, tracking_uri: str | None) -> tuple[Path, str | None]:
    """Returns a model's path and, where its name tells, the id of the MLflow run that left it."""
    if not model.startswith(("runs:/", "models:/")):
        path = Path(model).expanduser().absolute()
        if path.exists():
            return path, None
        lack = "that is no form of it" if "://" in model else f"there is no {path}"
        raise ValueError(f"model must be {_FORMS}, got {model!r}: {lack}")
    uri = resolve_tracking_uri(tracking_uri)
    with connect(uri) as client:
        try:
            source, run_id = _find_source(client, model)
        except MlflowException as error:
            if error.error_code not in NOT_FOUND:
                raise
            raise ValueError(
                f"there is no model {model!r} at {without_password(uri, uri)}: {error}; "
                "look at its runs and models, or give another --tracking-uri"
            ) from error
    return _download(model, source, run_id, uri), run_id


def _find_source(client: MlflowClient, model: str) -> tuple[str, str | None]:
    """Returns the URI of a model's artifacts, and the id of the run that left it."""
    if match := re.fullmatch(r"runs:/([^/]+)/.+", model):
        client.get_run(match[1])
        return model, match[1]
    match = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", model)
    if not match:
        is_run = model.startswith("runs:/")
        lack = "the run's id or the path is missing" if is_run else _versions_instead(client, model)
        raise ValueError(f"model must be {_FORMS}, got {model!r}: {lack}")
    name, alias, version = match.groups()
    if alias:
        version = client.get_model_version_by_alias(name, alias).version
    source = client.get_model_version_download_uri(name, version)
    return source, client.get_model_version(name, version).run_id


def _versions_instead(client: MlflowClient, model: str) -> str:
    """Says that a registered model's name has no alias or version, and which there are."""
    name = re.split("[@/]", model.removeprefix("models:/"))[0]
    lack = "it names no alias or version"
    try:
        aliases = sorted(client.get_registered_model(name).aliases)
        newest = max(int(found.version) for found in client.search_model_versions(f"name='{name}'"))
    except (MlflowException, ValueError):
        return lack
    names = [f"models:/{name}@{alias}" for alias in aliases]
    return f"{lack}; there are {', '.join([*names, f'models:/{name}/{newest}, the newest'])}"


def _download(model: str, source: str, run_id: str | None, uri: str) -> Path:
    folder = tempfile.mkdtemp(prefix="stn-icnn-model-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    instead = ", or name the model's file where it is now"
    with explaining_loss(f"model {model!r}", source, run_id, uri, instead):
        path = mlflow.artifacts.download_artifacts(source, dst_path=folder, tracking_uri=uri)
    return Path(path).absolute()


@contextlib.contextmanager
def explaining_loss(
    owner: str, source: str, run_id: str | None, uri: str, instead: str = ""
) -> Iterator[None]:
    """Explains, where artifacts cannot be fetched in the block, which, from where, and why.

    Args:
        owner: what the artifacts belong to.
        source: their URI.
        run_id: the id of the run that left them, where it is known.
        uri: the tracking store's address.
        instead: what may be done besides putting back those that are not there.

    Raises:
        ValueError: with the reason.
        TrackingUnavailableError: where the tracking server has gone away.
    """
    try:
        yield
    except (MlflowException, OSError) as error:
        lost = _lost_folder(source, run_id, uri)
        if lost:
            raise ValueError(
                f"the artifacts of {owner} were left in {lost}, which is not there: put them back"
                f"{instead}"
            ) from error
        raise ValueError(
            f"the artifacts of {owner} ({source}) could not be fetched from "
            f"{without_password(uri, uri)}: {without_password(str(error), uri)}; check the path in "
            "the MLflow UI"
        ) from error


def _lost_folder(source: str, run_id: str | None, uri: str) -> Path | None:
    """Returns the folder of a model's artifacts, where it is on this machine and not there."""
    if source.startswith("runs:/") and run_id is not None:
        with connect(uri) as client:
            source = client.get_run(run_id).info.artifact_uri
    source = source.removeprefix("file://")
    folder = Path(source)
    return folder if folder.is_absolute() and not folder.exists() else None
