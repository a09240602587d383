"""What tests ask MLflow about tracked runs, and what they log to them."""

import io
import re

from PIL import Image

from cluster.tracking.tracker import Run
from stn_icnn.context import Picture


def logged(run: Run, key: str) -> list[tuple[int, float]]:
    history = run.tracker.client.get_metric_history(run.run_id, key)
    return [(metric.step, metric.value) for metric in history]


def data(run: Run):
    return run.tracker.client.get_run(run.run_id).data


def status(run: Run) -> str:
    return run.tracker.client.get_run(run.run_id).info.status


def artifacts(run: Run, path: str | None = None) -> list[str]:
    return [file.path for file in run.tracker.client.list_artifacts(run.run_id, path)]


def picture(name: str, epoch: int, colour: str = "red") -> Picture:
    content = io.BytesIO()
    Image.new("RGB", (390, 422), colour).save(content, "WEBP")
    return Picture(name, epoch, content.getvalue())


class ArtifactStoreError(Exception):
    """As an artifact store's own client raises."""


def slides(run: Run) -> list[tuple[str, str, str]]:
    """The name, step and kind of each file that the UI's image slider finds."""
    files = [path.removeprefix("images/") for path in artifacts(run, "images")]
    pattern = r"(.+)\+step\+(\d+)\+timestamp\+\d+\+[0-9a-f-]{36}(\+compressed\.webp|\.png)"
    return sorted(re.fullmatch(pattern, file).groups() for file in files)
