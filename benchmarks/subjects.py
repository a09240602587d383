"""The subjects of measurements: faces, a parser, a phase's training, in a preset's sizes."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from benchmarks.measure import DEVICE
from sharding.manifest import load_manifest
from sharding.packing.building import build
from sharding.packing.recipe import Recipe
from sharding.procedural.raw_faces import write_faces
from stn_icnn.config import TrainConfig
from stn_icnn.context import LocalContext, TrainContext
from stn_icnn.data.batch import Batch
from stn_icnn.data.loading import load_batches
from stn_icnn.data.plan import Request, rank_share
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.networks.checkpoint import Checkpoint, DataFacts
from stn_icnn.networks.model import STNiCNN, build_model
from stn_icnn.presets import PRESETS
from stn_icnn.training.loop import PhaseRun, start_training, train_epoch, train_step
from stn_icnn.training.phases import PHASES, PhaseName
from stn_icnn.training.state import Progress

NUM_FACES = 32
"""The number of procedural faces, three fifths of which are for training."""
BATCH = 16
STEPS = 16
FACTS = DataFacts(dataset="bench", fingerprint="", scale_px=1024, scale_fit="at_most")


def bench_config() -> TrainConfig:
    """Returns the paper's HELEN preset, six windows and patches of 81 px, in batches of 16."""
    config = PRESETS["helen"]()
    return replace(config, optim=replace(config.optim, global_batch=BATCH))


@dataclass(frozen=True)
class Setup:
    """The settings that all groups of figures share; it can be pickled, for other processes."""

    shards: Path
    """A sharded data set."""
    scratch: Path
    """An empty folder."""
    rounds: int
    reference: Path | None = None
    """The authors' checkout."""
    raw: Path | None = None
    """A folder in CelebAMask-HQ's layout."""
    model: Path | None = None
    """A trained model for `export`; None measures random weights."""
    config: TrainConfig = field(default_factory=bench_config)
    steps: int = STEPS
    """The number of steps of a round of training."""
    image_px: int = 512
    """The side of the photographs that are parsed."""
    batch: int = BATCH
    """The number of photographs parsed at a time."""

    def describe(self) -> str:
        """Describes the faces in a word, with the start of their fingerprint."""
        manifest = load_manifest(self.shards)
        return f"{manifest.dataset}, {manifest.fingerprint[:12]}"


def procedural_shards(scratch: Path) -> Path:
    """Draws a few faces at 512 x 512, shards them and returns the folder."""
    write_faces("celebamask", NUM_FACES, scratch / "raw")
    build(scratch / "raw", scratch / "shards", Recipe(layout="celebamask"))
    return scratch / "shards"


def train_faces(setup: Setup, num: int, with_labels: bool = True) -> ShardedFaces:
    """Returns `num` augmented faces of the training split, which repeat if there are fewer."""
    paths = [str(path) for path in sorted((setup.shards / "train").glob("*.tar"))]
    label_set, augment = load_manifest(setup.shards).label_set, setup.config.augment
    faces = ShardedFaces(paths, label_set, augment=augment, with_labels=with_labels)
    faces.samples = list(itertools.islice(itertools.cycle(faces.samples), num))
    return faces


def photographs(setup: Setup, num: int, px: int | None = None) -> list[NDArray[np.uint8]]:
    """Returns `num` faces as square photographs, uint8 `[px, px, 3]` RGB."""
    side = px or setup.image_px
    faces = train_faces(setup, num)
    images = (Image.fromarray(_pixels(faces, i)) for i in range(num))
    return [np.array(image.resize((side, side))) for image in images]


def _pixels(faces: ShardedFaces, index: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(faces[Request(index)].images[0].permute(1, 2, 0).numpy())


def checkpoint(config: TrainConfig) -> Checkpoint:
    """Builds an untrained model that is sure of its labels, so that there is something to paste."""
    torch.manual_seed(0)
    model = build_model(config.model).eval()
    with torch.no_grad():
        for network in model.fine.values():
            last = [m for m in network.modules() if isinstance(m, nn.Conv2d)][-1]
            assert last.bias is not None
            last.weight.mul_(200)
            last.bias.zero_()
    return Checkpoint(model, config, FACTS, "end_to_end")


def face_parser(config: TrainConfig, photos: Sequence[NDArray[np.uint8]]) -> FaceParser:
    """Builds a parser and asserts that it labels something in the first photograph."""
    parser = FaceParser(checkpoint(config), DEVICE)
    assert parser.parse(photos[0]).labels.any(), "a parser that finds nothing pastes nothing"
    return parser


def plain_parser(config: TrainConfig, photos: Sequence[NDArray[np.uint8]]) -> FaceParser:
    """Builds the same parser without threads: a profile then tells operations from one another."""
    parser = face_parser(config, photos)
    parser.model.execution = replace(parser.model.execution, threads=None)
    return parser


class PhaseBenchmark:
    """A phase's training from its start, on the first few batches of the training split.

    Args:
        setup: faces, config and number of steps.
        phase: the phase that is trained.
        context: the process's rank among others; alone by default.
    """

    def __init__(self, setup: Setup, phase: PhaseName, context: TrainContext | None = None) -> None:
        config = setup.config
        self.batch = config.optim.global_batch
        self.num_images = setup.steps * self.batch
        faces = train_faces(setup, self.num_images, PHASES[phase].needs_labels)
        self.faces = faces
        context = context or LocalContext(device=DEVICE)
        self.run = PhaseRun(
            phase=PHASES[phase],
            config=config,
            train_faces=faces,
            val_faces=faces,
            data=FACTS,
            context=context,
            log=lambda line: None,
        )
        torch.manual_seed(config.seed)
        self.model: STNiCNN = build_model(config.model)
        self.state = start_training(self.run, self.model)
        self.wait_shares: list[float] = []
        self.steps = setup.steps
        self.memory = replace(next(self._load()).to(context.device), augmentation=None)

    def _load(self) -> Iterator[Batch]:
        """Loads this process's part of the batches."""
        starts = range(0, self.num_images, self.batch)
        plan = [[Request(i) for i in range(at, at + self.batch)] for at in starts]
        share = rank_share(plan, self.run.context.rank, self.run.context.world_size)
        return load_batches(self.faces, share)

    def from_shards(self) -> None:
        """Trains for an epoch of a few batches, read and augmented as training does it."""
        metrics = train_epoch(self.run, self.state)
        self.wait_shares.append(metrics["train/data_wait_fraction"])
        self.state.epoch, self.state.progress = self.state.epoch + 1, Progress()

    def read(self) -> None:
        """Reads the batches of `from_shards` and does nothing with them."""
        for _ in self._load():
            pass

    def step(self) -> None:
        """Trains for a step on the batch in memory, not augmented."""
        train_step(self.run, self.state, self.memory, self.batch)

    def from_memory(self) -> None:
        """Trains for as many steps as `from_shards`, on the batch in memory."""
        for _ in range(self.steps):
            self.step()
