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
_EXACT_SCORE_TAG: Final = "mlflow.stn_icnn.score"
"""The score in full, by which versions are compared. The UI does not show tags of this prefix; of
those that it shows, `val/f1_overall` is rounded, but for versions from before this tag was."""

_DIGITS: Final = 4

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
            those of `TAGGED` become tags, rounded.
        data_fingerprint: the fingerprint of the shards that the metrics were measured on.

    Returns:
        The version's number.
    """
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    all_tags = {key: _rounded(metrics[key]) for key in TAGGED if key in metrics}
    all_tags |= {key: str(value) for key, value in tags.items()}
    all_tags |= {FINGERPRINT_TAG: data_fingerprint, _PATH_TAG: artifact_path}
    if SCORE in metrics:
        all_tags[_EXACT_SCORE_TAG] = str(metrics[SCORE])
    version = _same_version(client, name, run_id, all_tags) or client.create_model_version(
        name,
        source=f"runs:/{run_id}/{artifact_path}",
        run_id=run_id,
        tags=all_tags,
        description=_cut_to_limit(card),
    )
    _update_champion(client, version, metrics.get(SCORE), data_fingerprint)
    return str(version.version)


def _same_version(
    client: MlflowClient, name: str, run_id: str, tags: Mapping[str, str]
) -> ModelVersion | None:
    """Returns the version of the same run, artifacts, data and score, if there is one."""
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        if version.name == name and _identity(version.tags) == _identity(tags):
            return version
    return None


def _identity(tags: Mapping[str, str]) -> tuple[str | None, ...]:
    """Returns what tells the results of a run apart: data, artifacts and score."""
    return tags.get(FINGERPRINT_TAG), tags.get(_PATH_TAG), _exact_score(tags)


def _exact_score(tags: Mapping[str, str]) -> str | None:
    """Returns the score in a version's tags, in full; None where it has none."""
    return tags.get(_EXACT_SCORE_TAG, tags.get(SCORE))


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
    refusal = _reason_not_champion(champion, score, data_fingerprint)
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
    champion: ModelVersion | None, score: float | None, data_fingerprint: str
) -> str | None:
    """Returns why a model of this score is not to be champion; None if it is."""
    if score is None or not math.isfinite(score):
        return f"no: {SCORE} is {score}"
    if champion is None:
        return None
    if champion.tags.get(FINGERPRINT_TAG) != data_fingerprint:
        return f"no: version {champion.version} was scored on other data; move it by hand"
    best = _exact_score(champion.tags)
    if best is None:
        return f"no: version {champion.version} has no {SCORE}; move it by hand"
    if score <= float(best):
        return f"no: version {champion.version} has {SCORE} {_rounded(float(best))}"
    return None


def _cut_to_limit(card: str) -> str:
    """Returns the card, cut to the registry's limit."""
    if len(card) <= _DESCRIPTION_LIMIT:
        return card
    notice = "\n\n(cut to the registry's limit)"
    return card[: _DESCRIPTION_LIMIT - len(notice)] + notice
