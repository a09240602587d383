"""The settings of the jobs: dataclasses whose fields are the options of a command line."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final, Literal

import tyro

from stn_icnn.checks import require
from stn_icnn.config import Precision, TrainConfig
from stn_icnn.inference.outputs.output_files import DEFAULT_KINDS
from stn_icnn.inference.parse_options import Framing
from stn_icnn.inference.photos.decoding import DEFAULT_MEGAPIXELS

UNPREFIXED: Final = tyro.conf.arg(name="")
"""Marks settings whose options do not bear the name of the field that holds them: `--storage`, not
`--locations.storage`. In a `--config` file they lie at the top as well."""

VERBOSE_ENV: Final = "STN_ICNN_VERBOSE"
"""The environment variable by which the processes of a job know of its option `--verbose`."""

Reading = Literal["auto", "copy", "stream"]
"""How a training split of a bucket is read."""

PLACE: Final = ("data", "run_name", "storage", "tracking_uri", "experiment")
"""The options that say on what a job works, and where it leaves what comes of it."""


def is_verbose() -> bool:
    """Tells whether the job of this process shows what Ray and MLflow say, too."""
    return bool(os.environ.get(VERBOSE_ENV))


def require_in_order(name: str, given: Sequence[str], allowed: Sequence[str]) -> None:
    """Refuses a list other than one or more of some words, in their order, each once.

    Raises:
        ValueError: naming the setting, the words and what was given.
    """
    require(
        len(given) > 0 and tuple(given) == tuple(word for word in allowed if word in given),
        name,
        f"one or more of {', '.join(allowed)}, in this order, each once",
        " ".join(given) or "none",
    )


@dataclass(frozen=True, kw_only=True)
class ScalingConfig:
    """How much of the cluster a job takes."""

    num_workers: int | Literal["auto"] = "auto"
    """Workers that train together. `auto`: one a GPU, or one a CPU where there is none, but each
    has at least 4 images of a batch."""
    cpus_per_worker: int | Literal["auto"] = "auto"
    """CPUs (and threads) of each worker. `auto`: the cluster's divided evenly, at least 1."""
    use_gpu: bool | Literal["auto"] = "auto"
    """Whether each worker has a GPU. `auto`: where the cluster has any."""
    loader_processes: int | Literal["auto"] = "auto"
    """Processes that decode for a worker. `auto`: none on CPUs, where they would take from the
    training; on GPUs one less than the worker's CPUs."""
    min_workers: int | None = None
    """Fewest workers that a phase goes on with while nodes are lost; it takes further ones, up to
    `num_workers`, when there are any. None: it waits until all are there."""
    lost_node_wait_s: float = 3600.0
    """How long a phase waits for nodes that are lost, or used by other jobs, until the job ends,
    seconds."""
    resize_interval_s: float = 60.0
    """Seconds between two looks for further workers, with `min_workers`. A phase restarts from its
    last checkpoint to take them."""
    max_failures: int = 2
    """Times that a phase is restarted from its last checkpoint when a worker dies."""
    wait_s: float = 60.0
    """How long to wait for resources that a running cluster does not have yet, seconds."""

    def __post_init__(self) -> None:
        for name, least in (("num_workers", 1), ("cpus_per_worker", 1), ("loader_processes", 0)):
            value = getattr(self, name)
            allowed = f"auto or at least {least}"
            require(value == "auto" or value >= least, f"scaling.{name}", allowed, value)
        require(self.max_failures >= 0, "scaling.max_failures", "0 or more", self.max_failures)
        if self.min_workers is not None:
            most = self.num_workers
            require(most != "auto", "scaling.num_workers", "a number, with min_workers", most)
            fits = 1 <= self.min_workers <= int(most)
            require(fits, "scaling.min_workers", f"1 to num_workers ({most})", self.min_workers)
        for name in ("lost_node_wait_s", "resize_interval_s"):
            value = getattr(self, name)
            require(value > 0, f"scaling.{name}", "more than 0", value)


@dataclass(frozen=True, kw_only=True)
class LocationsConfig:
    """Where a job stores checkpoints and tracks runs, and how it reads shards."""

    storage: str | None = None
    """Checkpoints: a folder, or s3://… (STN_ICNN_STORAGE). All nodes must see the folder."""
    tracking_uri: str | None = None
    """MLflow's server or database (MLFLOW_TRACKING_URI)."""
    experiment: str | None = None
    """MLflow's list of runs (MLFLOW_EXPERIMENT_NAME). Default: stn-icnn."""
    verify_shards: bool = True
    """Checks a folder's shards, once a node."""


@dataclass(frozen=True, kw_only=True)
class TrainingJobConfig:
    """The settings of a job that trains."""

    COMMON_OPTIONS: ClassVar[tuple[str, ...]] = (
        *PLACE,
        "optim.lr_fine",
        "optim.epochs_end_to_end",
        "scaling.num_workers",
    )
    """The options that `--help` shows; `--help-all` shows all."""

    data: str | None = None
    """Shards: a folder or s3://BUCKET/PREFIX. The preset `demo` makes its own where none is
    given."""
    reading: Reading = "auto"
    """How the training split of a bucket is read. `copy`: copied to each node first. `stream`: as
    it arrives; a stop then costs an epoch some of its samples. `auto`: streamed where a node's
    disk, or its STN_ICNN_CACHE_GB, does not hold the data."""
    run_name: str | None = None
    """Names the run; the same command and name go on with it."""
    training: Annotated[TrainConfig, UNPREFIXED] = field(default_factory=TrainConfig)
    """Everything that the result depends on, but the data."""
    locations: Annotated[LocationsConfig, UNPREFIXED] = field(default_factory=LocationsConfig)
    """Where checkpoints are stored and runs are tracked."""
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    """How much of the cluster the job takes."""


@dataclass(frozen=True, kw_only=True)
class ScoringJobConfig:
    """The settings of a job that scores a model."""

    COMMON_OPTIONS: ClassVar = (
        *PLACE, "model", "split", "framing", "precision", "scaling.num_workers"
    )  # fmt: skip

    model: str
    """A checkpoint file or folder, runs:/RUN_ID/PATH, or models:/NAME@ALIAS."""
    data: str
    """Shards: a folder or s3://BUCKET/PREFIX."""
    split: Literal["train", "val", "test"] = "test"
    """Which split of them."""
    reading: Reading = "auto"
    """How a bucket's training split is read for the mean label map: see the main job."""
    framing: Framing = "whole"
    """What is scored: each image as a face (`whole`), or scenes made of the faces, which the finder
    searches (`found`)."""
    precision: Precision | None = None
    """Arithmetic to score in: auto, fp32 or bf16. None: the model's own setting."""
    run_name: str | None = None
    """Begins the run's name in MLflow; each scoring is a run of its own."""
    locations: Annotated[LocationsConfig, UNPREFIXED] = field(default_factory=LocationsConfig)
    """Where the Ray run is stored and the scores are tracked."""
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    """How much of the cluster the job takes."""


@dataclass(frozen=True, kw_only=True)
class ParsingJobConfig:
    """The settings of a job that parses photographs."""

    COMMON_OPTIONS: ClassVar = (
        "model", "input", "out", "write", "framing", "boxes", "tracking_uri", "scaling.num_workers"
    )  # fmt: skip

    model: str | None = None
    """A checkpoint file or folder, runs:/RUN_ID/PATH, or models:/NAME@ALIAS; none: the model that
    comes along."""
    input: str
    """Photographs: a folder that all nodes mount, or s3://BUCKET/PREFIX; folders in it too."""
    out: str
    """Where the results go: such a folder, or s3://BUCKET/PREFIX."""
    write: str = DEFAULT_KINDS
    """Which of labels, overlay, windows, masks, probabilities and crops, separated by commas."""
    framing: Framing | None = None
    """What is a face: `whole`, the whole photograph, or `found`, what is found in it, which is the
    default where the model has a finder."""
    boxes: str | None = None
    """A file that says where faces are, as another detector sees them: CSV or JSON with the
    photograph's name, x0 y0 x1 y1, and perhaps five landmarks."""
    min_confidence: float = 0.0
    """Faces that are less sure are left out, of a model that tells."""
    max_megapixels: float = DEFAULT_MEGAPIXELS
    """The most megapixels that are decoded of a photograph; each takes 24 MB of memory. JPEG files
    with more are reduced while they are decoded, and labelled at their own size."""
    tracking_uri: str | None = None
    """MLflow, for a model that is there (MLFLOW_TRACKING_URI)."""
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    """How much of the cluster the job takes; `auto` workers have at least 32 photographs each, and
    `max_failures` is the deaths of one worker."""
