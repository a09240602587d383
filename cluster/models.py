"""Finished models in MLflow: naming one, fetching it, and registering a new one."""

import atexit
import logging
import math
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import mlflow.artifacts
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from cluster.places import (
    alone_at_first_use,
    masked,
    probe_tracking,
    resolve_tracking_uri,
    set_client_defaults,
    unavailable,
)

CHAMPION: Final = "champion"
"""The alias of the best model of a data set."""

SCORE: Final = "val/f1_overall"
FINGERPRINT_TAG: Final = "data_fingerprint"
CHAMPION_TAG: Final = "champion"
_PATH_TAG: Final = "artifact_path"

NOT_FOUND: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})
"""MLflow's answers where a run, model, version or alias is not there."""

_DESCRIPTION_LIMIT: Final = 5000  # of the registry's column; sqlite would take more, others not
_FORMS: Final = (
    "a checkpoint file or folder, runs:/RUN_ID/PATH, models:/NAME@ALIAS or models:/NAME/N"
)

_logger = logging.getLogger(__name__)


def resolve_model(model: str, tracking_uri: str | None = None) -> Path:
    """The local checkpoint that `model` names; downloaded where it is in MLflow.

    Args:
        model: a checkpoint file or folder, `runs:/RUN_ID/PATH`, `models:/NAME@ALIAS` or
            `models:/NAME/VERSION`.
        tracking_uri: asked for the last three only; resolved like a job's.

    Returns:
        An absolute path. What was downloaded is removed when this process ends.

    Raises:
        ValueError: where there is no such file, run, model, version, alias or artifact.
        TrackingUnavailableError: where the tracking server does not answer.
    """
    if not model.startswith(("runs:/", "models:/")):
        path = Path(model).expanduser().absolute()
        if path.exists():
            return path
        lack = "that is no form of it" if "://" in model else f"there is no {path}"
        raise ValueError(f"model must be {_FORMS}, got {model!r}: {lack}")
    uri = resolve_tracking_uri(tracking_uri)
    set_client_defaults()
    with alone_at_first_use(uri):
        probe_tracking(uri)
        client = MlflowClient(tracking_uri=uri)
    try:
        source = _run_source(client, model) or _version_source(client, model)
    except MlflowException as error:
        if error.error_code not in NOT_FOUND:
            raise unavailable(uri, error) from error
        raise ValueError(
            f"there is no model {model!r} at {masked(uri, uri)}: {error}; "
            "look at its runs and models, or give another --tracking-uri"
        ) from error
    return _download(model, source, uri)


def origin_of(model: str, tracking_uri: str | None = None) -> str | None:
    """The id of the MLflow run that left a model; None where its name does not tell.

    Args:
        model: as `resolve_model` has taken it.
        tracking_uri: likewise.

    Raises:
        TrackingUnavailableError: where the tracking server does not answer.
    """
    if model.startswith("runs:/"):
        return model.removeprefix("runs:/").partition("/")[0]
    if not model.startswith("models:/"):
        return None
    uri = resolve_tracking_uri(tracking_uri)
    client = MlflowClient(tracking_uri=uri)
    try:
        run_id: str | None = client.get_model_version(*_version(client, model)).run_id
    except MlflowException as error:
        raise unavailable(uri, error) from error
    return run_id


def _run_source(client: MlflowClient, model: str) -> str | None:
    if not model.startswith("runs:/"):
        return None
    match = re.fullmatch(r"runs:/([^/]+)/(.+)", model)
    if not match:
        raise ValueError(
            f"model must be {_FORMS}, got {model!r}: the run's id or the path is missing"
        )
    client.get_run(match[1])
    return model


def _version_source(client: MlflowClient, model: str) -> str:
    return client.get_model_version_download_uri(*_version(client, model))


def _version(client: MlflowClient, model: str) -> tuple[str, str]:
    """The name and the version's number that `models:/…` stands for."""
    match = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", model)
    if not match:
        raise ValueError(f"model must be {_FORMS}, got {model!r}: it names no alias or version")
    name, alias, version = match.groups()
    if alias:
        version = client.get_model_version_by_alias(name, alias).version
    return name, version


def _download(model: str, source: str, uri: str) -> Path:
    folder = tempfile.mkdtemp(prefix="stn-icnn-model-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        path = mlflow.artifacts.download_artifacts(source, dst_path=folder, tracking_uri=uri)
    except (MlflowException, OSError) as error:
        raise ValueError(
            f"the artifacts of model {model!r} ({source}) could not be fetched from "
            f"{masked(uri, uri)}: {masked(str(error), uri)}; check the path in the MLflow UI"
        ) from error
    return Path(path).absolute()


def register(
    client: MlflowClient,
    *,
    name: str,
    run_id: str,
    artifact_path: str,
    card: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    data_fingerprint: str,
) -> str:
    """Makes a version of the model `name` from a run's artifacts; it may become champion.

    The same result of the same run is registered once, however often this is called.

    Args:
        client: of the tracking store.
        name: `stn-icnn-DATASET`; made where it is not there.
        run_id: the run that holds the artifacts.
        artifact_path: the checkpoint's path in them.
        card: the model card, Markdown; the version's description.
        tags: of the version.
        metrics: become tags too; `val/f1_overall` decides who is champion.
        data_fingerprint: of the shards that the metrics were measured on.

    Returns:
        The version's number.
    """
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    marks = {key: str(value) for key, value in {**tags, **metrics}.items()}
    marks |= {FINGERPRINT_TAG: data_fingerprint, _PATH_TAG: artifact_path}
    version = _same_version(client, name, run_id, marks) or client.create_model_version(
        name,
        source=f"runs:/{run_id}/{artifact_path}",
        run_id=run_id,
        tags=marks,
        description=_fitted(card),
    )
    _crown(client, version, metrics.get(SCORE), data_fingerprint)
    return str(version.version)


def _same_version(
    client: MlflowClient, name: str, run_id: str, marks: Mapping[str, str]
) -> ModelVersion | None:
    keys = (FINGERPRINT_TAG, _PATH_TAG, SCORE)
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        if version.name == name and all(version.tags.get(k) == marks.get(k) for k in keys):
            return version
    return None


def _crown(
    client: MlflowClient, version: ModelVersion, score: float | None, data_fingerprint: str
) -> None:
    """Moves the alias `champion` to `version` if it is better, and tags it with what was decided.

    Scores on different data do not compare, so a champion of other data stays: moving the alias
    by hand is then the user's decision.
    """
    champion = _champion(client, version.name)
    if champion is not None and champion.version == version.version:
        return
    refusal = _refusal(champion, score, data_fingerprint)
    if refusal is None:
        client.set_registered_model_alias(version.name, CHAMPION, version.version)
    decision = refusal or (f"since version {champion.version}" if champion else "the first")
    client.set_model_version_tag(version.name, version.version, CHAMPION_TAG, decision)
    _logger.info("%s version %s as champion: %s", version.name, version.version, decision)


def _champion(client: MlflowClient, name: str) -> ModelVersion | None:
    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code not in NOT_FOUND:
            raise
        return None


def _refusal(
    champion: ModelVersion | None, score: float | None, data_fingerprint: str
) -> str | None:
    """Why a model of this score is not to be champion; None if it is."""
    if score is None or not math.isfinite(score):
        return f"no: {SCORE} is {score}"
    if champion is None:
        return None
    if champion.tags.get(FINGERPRINT_TAG) != data_fingerprint:
        return f"no: version {champion.version} was scored on other data; move it by hand"
    best = champion.tags.get(SCORE)
    if best is None:
        return f"no: version {champion.version} has no {SCORE}; move it by hand"
    if score <= float(best):
        return f"no: version {champion.version} has {SCORE} {best}"
    return None


def _fitted(card: str) -> str:
    if len(card) <= _DESCRIPTION_LIMIT:
        return card
    notice = "\n\n(cut to the registry's limit)"
    return card[: _DESCRIPTION_LIMIT - len(notice)] + notice
