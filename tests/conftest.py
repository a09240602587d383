"""Tiny data and settings that several packages' tests share."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from filelock import FileLock

from sharding.packing.building import build
from sharding.packing.recipe import Recipe
from sharding.procedural.raw_faces import write_faces
from stn_icnn.config import AugmentConfig, ModelConfig, OptimConfig, TrainConfig
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.inference.command import main
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.checkpoint import Checkpoint, DataFacts, save_checkpoint
from stn_icnn.networks.model import STNiCNN, build_model
from tests.ray_forks import RayForks

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

POLL_S = 0.02
SPLITS = {"train": range(8), "val": range(8, 10), "test": range(10, 12)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the modules that take longest first, so that both processes have work until the end.

    The more of a module's tests need Ray, or are slow, the longer it is taken to take.
    """
    weights = {"ray": 10, "slow": 1}
    weight = Counter[Path]()
    for item in items:
        weight[item.path] += sum(weights.get(mark.name, 0) for mark in item.iter_markers())
    items.sort(key=lambda item: -weight[item.path])


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny tensors are no faster on many threads, and sums no longer depend on how many."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is remembered of shards and of terms goes to folders of the tests, not to the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STN_ICNN_CACHE", str(tmp_path_factory.mktemp("own-cache")))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("own-state")))
        yield


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., None]:
    """wait_until(happened, process): returns as soon as `happened()` is true.

    It fails where `process`, if one is given, ends before, and where nothing happens for so long
    that something must be stuck.
    """

    def wait(happened: Callable[[], object], process: subprocess.Popen | None = None) -> None:
        give_up_at = time.monotonic() + 600
        while time.monotonic() < give_up_at:
            if happened():
                return
            if process is not None and process.poll() is not None:
                assert happened(), f"{process.args} ended with status {process.returncode}"
                return
            time.sleep(POLL_S)
        pytest.fail("it never happened")

    return wait


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """made_once(name, make): a folder that `make(folder)` has filled, once for all processes."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # then the root above is this process's own
        root = root.parent

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder = root / f"made-{name}"
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                half = Path(tempfile.mkdtemp(dir=root))
                make(half)
                half.rename(folder)
        return folder

    return made


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sharded data set of procedural faces, 73 to 119 px: 8 to train on, 2 and 2 held out."""
    root = tmp_path_factory.mktemp("faces")
    write_faces("helen", 12, root / "raw", size_px=96, workers=1)
    names = {split: [f"{i:06d}_1" for i in some] for split, some in SPLITS.items()}
    (root / "split.json").write_text(json.dumps(names))
    build(
        root / "raw",
        root / "shards",
        Recipe(layout="helen", split=str(root / "split.json"), shard_size=3),
    )
    return root / "shards"


@pytest.fixture(scope="session")
def tiny_config() -> TrainConfig:
    """A training of seconds: no augmentation but the paper's, two epochs a phase."""
    return TrainConfig(
        model=ModelConfig(
            coarse_px=32,
            window_px={"brow": 33, "eye": 33, "nose": 41, "mouth": 49},
            patch_px={"brow": 17, "eye": 17, "nose": 21, "mouth": 25},
        ),
        augment=AugmentConfig(rotation_deg=5, shift=0.05, scale_min=0.95, scale_max=1.05),
        optim=OptimConfig(global_batch=4, epochs_coarse=2, epochs_localizer=2, epochs_end_to_end=2),
        precision="fp32",
    )


@pytest.fixture(scope="session")
def tiny_faces(shards: Path, tiny_config: TrainConfig) -> Callable[[str, bool], ShardedFaces]:
    """tiny_faces(split, augmented): the faces of a split of `shards`."""

    def faces(split: str, augmented: bool = False) -> ShardedFaces:
        return ShardedFaces(
            [str(path) for path in sorted((shards / split).glob("*.tar"))],
            PAPER9,
            augment=tiny_config.augment if augmented else None,
            seed=tiny_config.seed,
        )

    return faces


@pytest.fixture(scope="session")
def tiny_model(tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an untrained model."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.pt"
    data = DataFacts(dataset="helen", fingerprint="abc", scale_px=1024, scale_fit="at_most")
    save_checkpoint(path, Checkpoint(build_model(tiny_config.model), tiny_config, data, "coarse"))
    return path


@pytest.fixture(scope="session")
def tiny_parent(tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a model that says it has been through all phases, on other faces."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("parent") / "model.pt"
    data = DataFacts(dataset="elsewhere", fingerprint="xyz", scale_px=1024, scale_fit="at_most")
    model = build_model(tiny_config.model)
    save_checkpoint(path, Checkpoint(model, tiny_config, data, "end_to_end"))
    return path


@pytest.fixture(scope="session")
def sure_model(tiny_config: TrainConfig) -> STNiCNN:
    """Untrained, but sure of its labels, so that there are many; its windows depend on the face."""
    torch.manual_seed(0)
    model = build_model(tiny_config.model)
    with torch.no_grad():
        for _ in range(30):  # else batch norm lets next to nothing of the face through
            model.localizer(model.coarse(torch.rand(4, 3, 32, 32)).softmax(dim=1))
        model.eval()
        for network in model.fine.values():
            network.head[-1].weight.mul_(200)
            network.head[-1].bias.zero_()
        model.coarse.head[-1].weight.mul_(10)
        model.localizer.head.weight.mul_(300)
    return model


@pytest.fixture(scope="session")
def sure_parent(
    tiny_config: TrainConfig, sure_model: STNiCNN, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The file of `sure_model`, which says that it has been through all phases."""
    path = tmp_path_factory.mktemp("sure") / "model.pt"
    data = DataFacts(dataset="helen", fingerprint="abc", scale_px=96, scale_fit="at_most")
    save_checkpoint(path, Checkpoint(sure_model, tiny_config, data, "end_to_end"))
    return path


@pytest.fixture(scope="session")
def finding_parent(
    tiny_config: TrainConfig, sure_model: STNiCNN, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The file of `sure_model` with a finder of 64 px, which knows a mean face but nothing else."""
    config = replace(tiny_config, model=replace(tiny_config.model, finder_px=64))
    torch.manual_seed(2)
    model = build_model(config.model)
    model.load_state_dict(sure_model.state_dict(), strict=False)
    assert model.finder is not None
    model.finder.average(torch.rand(1, 6, 2), torch.ones(1, 6, dtype=torch.bool))
    with torch.no_grad():
        for _ in range(30):  # else batch norm lets next to nothing of the photograph through
            model.finder(torch.rand(4, 3, 64, 64))
        model.finder.network.head[-1].bias[-2] += 2  # cells agree about upright
    path = tmp_path_factory.mktemp("finding") / "model.pt"
    data = DataFacts(dataset="helen", fingerprint="abc", scale_px=96, scale_fit="at_most")
    save_checkpoint(path, Checkpoint(model, config, data, "finder"))
    return path


@pytest.fixture(scope="session")
def exported(finding_parent: Path, made_once: Callable[..., Path]) -> Path:
    """A folder with `model.pt` and, by the command, `new/model.onnx` and the file of its finder.

    Half a minute's work.
    """

    def make(folder: Path) -> None:
        shutil.copyfile(finding_parent, folder / "model.pt")
        out = folder / "new" / "model.onnx"
        assert main(["export", "--model", str(folder), "--out", str(out)]) == 0

    return made_once("exported", make)


@pytest.fixture(scope="session")
def new_store(made_once: Callable[..., Path]) -> Callable[[Path], str]:
    """new_store(folder): the address of an MLflow store in it, a copy of an empty one.

    MLflow would need seconds to make its tables.
    """

    def make(folder: Path) -> None:
        import mlflow

        mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}").search_experiments()

    empty = made_once("store", make) / "mlflow.db"

    def store(folder: Path) -> str:
        shutil.copyfile(empty, folder / "mlflow.db")
        return f"sqlite:///{folder / 'mlflow.db'}"

    return store


@pytest.fixture(scope="session")
def ray_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the workers of this process's Ray cluster keep what they fetch from buckets."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def _ray_head(s3_server: str, ray_cache: Path) -> Iterator["Cluster"]:
    """A Ray cluster with two CPUs whatever the machine has, for this process alone.

    It is started here, whatever head may run on this machine. Its workers know the S3 server and
    have a cache of their own.
    """
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:  # its processes have what is set as they start
        _set_bucket_variables(patch, s3_server)
        patch.setenv("STN_ICNN_CACHE", str(ray_cache))
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # a report may take as long
        patch.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # a process less a run
        head = {"num_cpus": 2, "include_dashboard": True, "dashboard_port": None}  # a free one
        cluster = Cluster(initialize_head=True, head_node_args=head)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def ray_cluster(
    _ray_head: "Cluster", request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of this process's Ray cluster, which the module is connected to as a job is.

    The module's functions go to workers by value, as they can't import it. Workers are forks of one
    process. What the module leaves running on the cluster ends with it.
    """
    import ray

    from cluster.workers.process_setup import SETUP_HOOK

    ray.cloudpickle.register_pickle_by_value(request.module)
    forks = RayForks(tmp_path_factory.mktemp("ray"))
    environment = {"worker_process_setup_hook": SETUP_HOOK, "py_executable": forks.command}
    ray.init(address=_ray_head.address, runtime_env=environment)
    raylet = _ray_head.head_node.all_processes["raylet"][0].process
    with forks.serving(raylet.pid, ray.get_runtime_context().get_job_id()):
        yield _ray_head.address
        ray.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(request.module)


@pytest.fixture(scope="session")
def s3_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the S3 server writes a line for each request that it answers."""
    return tmp_path_factory.mktemp("s3") / "log"


@pytest.fixture(scope="session")
def s3_server(s3_log: Path, wait_until: Callable[..., None]) -> Iterator[str]:
    """The address of an S3 server, a process of its own: other processes can use it too."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with s3_log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as server:
        try:
            address = re.compile(r"Running on (http://\S+)")
            wait_until(lambda: address.search(s3_log.read_text()), server)
            yield address.findall(s3_log.read_text())[0]
        finally:
            server.kill()


def _set_bucket_variables(patch: pytest.MonkeyPatch, server: str) -> None:
    """For a client of the S3 server."""
    patch.setenv("AWS_ENDPOINT_URL", server)
    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """`s3://faces`, empty, for this process and those that it starts."""
    import boto3

    from sharding.storage import s3

    _set_bucket_variables(monkeypatch, s3_server)
    s3._client.cache_clear()
    urllib.request.urlopen(f"{s3_server}/moto-api/reset", data=b"", timeout=60).close()
    boto3.client("s3").create_bucket(Bucket="faces")
    yield "s3://faces"
    s3._client.cache_clear()


@pytest.fixture
def answered(bucket: str, s3_log: Path) -> Callable[[], list[tuple[str, str]]]:
    """answered(): method and path of each request that the server has answered in this test."""
    start = len(s3_log.read_text())

    def found() -> list[tuple[str, str]]:
        lines = s3_log.read_text()[start:]
        return re.findall(r"(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP", lines)

    return found
