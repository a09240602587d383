"""The settings of the paper's experiments, which train or measure."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, get_args

from cluster.config import (
    PLACE,
    UNPREFIXED,
    LocationsConfig,
    TrainingJobConfig,
    require_in_order,
)
from stn_icnn.checks import require
from stn_icnn.config import ModelConfig
from stn_icnn.label_sets import PAPER9
from stn_icnn.training.phases import System

ALL_SYSTEMS: tuple[System, ...] = get_args(System)


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """The settings of every measuring experiment."""

    run_name: str | None = None
    """Names the run; the same command with the same name gives the same result again."""
    locations: Annotated[LocationsConfig, UNPREFIXED] = field(default_factory=LocationsConfig)
    """Where results are stored and the run is tracked."""


@dataclass(frozen=True, kw_only=True)
class SamplesConfig(ExperimentConfig):
    """The settings of an experiment with a few faces."""

    data: str | None = None
    """Shards with photographs: a folder or s3://BUCKET/PREFIX. None: faces are drawn."""
    split: Literal["train", "val", "test"] = "test"
    """Which split of them."""


@dataclass(frozen=True, kw_only=True)
class SplitConfig(ExperimentConfig):
    """The settings of an experiment that tries a model on the faces of a split."""

    model: str
    """A model with a trained localization network (`windows` needs its fine networks too): a
    checkpoint file or folder, runs:/RUN_ID/PATH, or models:/NAME@ALIAS."""
    data: str
    """Shards: a folder or s3://BUCKET/PREFIX."""
    split: Literal["train", "val", "test"] = "test"
    """Which split of them."""
    num_faces: int | None = None
    """Faces of the split that are taken, from its start. None: all."""

    def __post_init__(self) -> None:
        allowed = self.num_faces is None or self.num_faces >= 1
        require(allowed, "num_faces", "at least 1, or none for all", self.num_faces)


@dataclass(frozen=True, kw_only=True)
class TableConfig(TrainingJobConfig):
    """The paper's Tables 2 and 3: trains its systems, with the same settings.

    python jobs/paper.py table celebamask --data SHARDS --seeds 2
    """

    COMMON_OPTIONS: ClassVar = ("seeds", "systems", *PLACE, "scaling.num_workers")

    seeds: int = 2
    """Trainings of each system, with seeds one apart from `seed`. More may be asked for when a run
    goes on."""
    systems: tuple[System, ...] = ALL_SYSTEMS
    """Which of the paper's systems: iCNN (two stages), STN-iCNN* (before end-to-end training),
    STN-iCNN."""

    def __post_init__(self) -> None:
        require(self.seeds >= 1, "seeds", "at least 1", self.seeds)
        require_in_order("systems", self.systems, ALL_SYSTEMS)


@dataclass(frozen=True, kw_only=True)
class CoarseSizeConfig(TrainingJobConfig):
    """The paper's Figure 6: trains with small and large inputs of the coarse network.

    python jobs/paper.py coarse-size helen --data SHARDS
    """

    COMMON_OPTIONS: ClassVar = ("sizes", *PLACE, "scaling.num_workers")

    sizes: tuple[int, ...] = (64, 128)
    """Sides of the coarse network's input, px (the paper: 64 and 128); they replace
    `model.coarse_px`. More may be asked for when a run goes on."""

    def __post_init__(self) -> None:
        distinct = len(set(self.sizes)) == len(self.sizes) > 0
        require(distinct, "sizes", "one or more, each once", list(self.sizes))
        for px in self.sizes:
            ModelConfig(coarse_px=px)  # refuses what can't be


@dataclass(frozen=True, kw_only=True)
class OcclusionConfig(SplitConfig):
    """The paper's Figure 5: how both croppers cut where parts are covered.

    python jobs/paper.py occlusion --model MODEL --data SHARDS
    """

    num_covered: int = 2
    """Parts covered a face, 1 to 5, of those that it has."""
    num_examples: int = 6
    """Faces in the picture, drawn at random from those."""
    seed: int = 0
    """Seed of the choice of parts and of faces in the picture, and of the intervals."""

    def __post_init__(self) -> None:
        super().__post_init__()
        most = PAPER9.num_parts - 1
        require(1 <= self.num_covered <= most, "num_covered", f"1 to {most}", self.num_covered)
        require(self.num_examples >= 1, "num_examples", "at least 1", self.num_examples)
        require(self.seed >= 0, "seed", "0 or more", self.seed)


@dataclass(frozen=True, kw_only=True)
class ParityConfig(SamplesConfig):
    """The paper's Figures 7 and 8: compares the model's cropper with integer slicing.

    python jobs/paper.py parity --data SHARDS
    """

    num_faces: int = 16
    """Faces whose parts are cut."""
    patch_px: tuple[int, ...] = (80, 81, 126, 127)
    """Sides of the patches, px (the paper: 81 for HELEN, 127 for CelebAMask-HQ)."""

    def __post_init__(self) -> None:
        require(self.num_faces >= 1, "num_faces", "at least 1", self.num_faces)
        allowed = bool(self.patch_px) and min(self.patch_px) >= 1
        require(allowed, "patch_px", "one or more sides of at least 1 px", self.patch_px)


@dataclass(frozen=True, kw_only=True)
class TimingConfig(SamplesConfig):
    """The paper's section 3.1: times both pipelines, one face and many at a time.

    python jobs/paper.py timing --model MODEL --data SHARDS
    """

    model: str
    """A checkpoint file or folder, runs:/RUN_ID/PATH, or models:/NAME@ALIAS."""
    num_faces: int = 16
    """Faces that are parsed at a time, beside one (the paper's batches are of 16 a GPU)."""
    rounds: int = 11
    """Times that each is timed, in turn."""

    def __post_init__(self) -> None:
        require(self.num_faces >= 2, "num_faces", "at least 2", self.num_faces)
        require(self.rounds >= 1, "rounds", "at least 1", self.rounds)


@dataclass(frozen=True, kw_only=True)
class WindowsConfig(SplitConfig):
    """What better windows would be worth: labels faces in windows of several kinds.

    python jobs/paper.py windows --model MODEL --data SHARDS
    """

    errors: tuple[float, ...] = (0.005, 0.01, 0.02, 0.04)
    """How far off the true centres windows are laid: standard deviations as shares of the image's
    sides. Windows that lie exactly on them are always tried."""

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = len(set(self.errors)) == len(self.errors) and all(0 < e < 1 for e in self.errors)
        require(allowed, "errors", "shares above 0 and below 1, each once", list(self.errors))
