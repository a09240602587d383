"""Registers finished models in MLflow, and chooses each data set's champion."""

import logging
import math
from collections.abc import Mapping
from typing import Final

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from cluster.tracking.stored_models import NOT_FOUND

CHAMPION: Final = "champion"
"""The alias of a data set's best model."""

SCORE: Final = "val/f1_overall"
TAGGED: Final = (SCORE, "val/f1_mean")
"""The metrics that are tags of a version too; its card has all."""

FINGERPRINT_TAG: Final = "data_fingerprint"
CHAMPION_TAG: Final = "champion"
_PATH_TAG: Final = "artifact_path"
_DIGITS: Final = 4
_KEPT_BY_SERVER: Final = ("mlflow-artifacts:", "http:", "https:")
"""What the addresses of artifacts begin with that a server keeps."""

_DESCRIPTION_LIMIT: Final = 5000  # of the registry's column; sqlite would take more, others not

_logger = logging.getLogger(__name__)


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
    """Makes a version of the model `name` from a run's artifacts, which may become champion.

    The same result of the same run is registered once, however often this is called.

    Args:
        client: a client of the tracking store.
        name: the registered model's name, `stn-icnn-DATASET`; it is made where it is not there.
        run_id: the id of the run that holds the artifacts.
        artifact_path: the checkpoint's path in them.
        card: the model card, Markdown, which becomes the version's description.
        tags: the version's tags.
        metrics: the model's metrics, of which `val/f1_overall` decides which model is champion;
            those of `TAGGED` become tags, rounded where the run has the score in full.
        data_fingerprint: the fingerprint of the shards that the metrics were measured on.

    Returns:
        The version's number.
    """
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    score = metrics.get(SCORE)
    all_tags = {key: _rounded(metrics[key]) for key in TAGGED if key in metrics}
    if score is not None and _logged_score(client, run_id) != score:
        all_tags[SCORE] = str(score)  # the one place that has it
    all_tags |= {key: str(value) for key, value in tags.items()}
    all_tags |= {FINGERPRINT_TAG: data_fingerprint, _PATH_TAG: artifact_path}
    version = _same_version(client, name, run_id, all_tags, score) or client.create_model_version(
        name,
        source=_source(client, run_id, artifact_path),
        run_id=run_id,
        tags=all_tags,
        description=_cut_to_limit(card),
    )
    _update_champion(client, version, score, data_fingerprint)
    return str(version.version)


def _source(client: MlflowClient, run_id: str, artifact_path: str) -> str:
    """Returns the address of a run's artifact that a version is made from.

    Where the server keeps artifacts, it is their own address: the server, which shows a version's
    signature by it, cannot follow `runs:/` to itself.
    """
    uri = str(client.get_run(run_id).info.artifact_uri)
    if uri.startswith(_KEPT_BY_SERVER):
        return f"{uri}/{artifact_path}"
    return f"runs:/{run_id}/{artifact_path}"


def _same_version(
    client: MlflowClient, name: str, run_id: str, tags: Mapping[str, str], score: float | None
) -> ModelVersion | None:
    """Returns the version of the same run, artifacts, data and score, if there is one."""
    keys = (FINGERPRINT_TAG, _PATH_TAG)
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        same = version.name == name and all(version.tags.get(k) == tags.get(k) for k in keys)
        if same and str(_full_score(client, version)) == str(score):  # NaN is the same as NaN
            return version
    return None


def _full_score(client: MlflowClient, version: ModelVersion) -> float | None:
    """Returns a version's score in full: its run's, where the tag is that one rounded."""
    tag = version.tags.get(SCORE)
    if tag is None:
        return None
    logged = _logged_score(client, version.run_id)
    return logged if logged is not None and _rounded(logged) == tag else float(tag)


def _logged_score(client: MlflowClient, run_id: str | None) -> float | None:
    """Returns the score that a run has logged last; None where there is no run or score."""
    try:
        return client.get_run(run_id).data.metrics.get(SCORE) if run_id else None
    except MlflowException as error:
        if error.error_code not in NOT_FOUND:
            raise
        return None


def _rounded(value: float) -> str:
    return str(round(value, _DIGITS))


def _update_champion(
    client: MlflowClient, version: ModelVersion, score: float | None, data_fingerprint: str
) -> None:
    """Moves the alias `champion` to `version` if it is better, and tags it with what was decided.

    Scores on different data do not compare, so a champion of other data stays: moving the alias
    by hand is then the user's decision.
    """
    champion = _champion(client, version.name)
    if champion is not None and champion.version == version.version:
        return
    best = None if champion is None else _full_score(client, champion)
    refusal = _reason_not_champion(champion, best, score, data_fingerprint)
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


def _reason_not_champion(
    champion: ModelVersion | None, best: float | None, score: float | None, data_fingerprint: str
) -> str | None:
    """Returns why a model is not to be champion in place of one whose score is `best`, or None."""
    if score is None or not math.isfinite(score):
        return f"no: {SCORE} is {score}"
    if champion is None:
        return None
    if champion.tags.get(FINGERPRINT_TAG) != data_fingerprint:
        return f"no: version {champion.version} was scored on other data; move it by hand"
    if best is None:
        return f"no: version {champion.version} has no {SCORE}; move it by hand"
    if score <= best:
        return f"no: version {champion.version} has {SCORE} {_rounded(best)}"
    return None


def _cut_to_limit(card: str) -> str:
    """Returns the card, cut to the registry's limit."""
    if len(card) <= _DESCRIPTION_LIMIT:
        return card
    notice = "\n\n(cut to the registry's limit)"
    return card[: _DESCRIPTION_LIMIT - len(notice)] + notice
