"""The real command in processes of its own: the same bytes whatever runs it, and whatever kills it.

`STN_ICNN_KILLS=20` kills twenty runs into a folder and twenty into a bucket, of 300 faces.
"""

import itertools
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from sharding.manifest import MANIFEST, PARTS_FOLDER
from sharding.packing.building import WriteShard, build, make_plan
from sharding.packing.recipe import Recipe
from sharding.packing.verify import verify
from sharding.packing.writer import ShardRecord, ShardTask, write_shard
from sharding.procedural.raw_faces import write_faces
from sharding.processes import map_in_processes
from sharding.storage import s3
from sharding.storage.location import open_location
from sharding.storage.s3 import Bucket
from stn_icnn.storage import Folder

NUM_KILLS = int(os.environ.get("STN_ICNN_KILLS", "2"))
NUM_FACES = 300 if NUM_KILLS >= 20 else 40
SHARD_SIZE = 2
SEED = 11
HEX = "0a" * 16
"""In the names of a writer's temporary files."""

Contents = dict[str, bytes]
WaitUntil = Callable[..., None]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces in HELEN's layout, 73 to 119 px."""
    folder = tmp_path_factory.mktemp("raw")
    write_faces("helen", NUM_FACES, folder, size_px=96, workers=1)
    return folder


@pytest.fixture(scope="module")
def straight(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """What one undisturbed process writes into a folder."""
    out = tmp_path_factory.mktemp("straight")
    build(raw, out, Recipe(layout="helen", shard_size=SHARD_SIZE))
    return contents(str(out))


@pytest.fixture(params=["folder", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the shards go, below it. In the bucket, every overwriting is to be seen."""
    if request.param == "folder":
        return str(tmp_path)
    bucket = request.getfixturevalue("bucket")
    s3._client(os.getpid()).put_bucket_versioning(
        Bucket="faces", VersioningConfiguration={"Status": "Enabled"}
    )
    return bucket


def contents(url: str) -> Contents:
    location = open_location(url)
    return {path: location.read(path) for path in location.list()}


def start(
    raw: Path, out: str, workers: int = 2, shard_size: int = SHARD_SIZE
) -> subprocess.Popen[bytes]:
    """The command, in a session of its own, by which its processes are known."""
    options = ("--source", raw, "--out", out, "--shard-size", shard_size, "--workers", workers)
    command = [sys.executable, "-m", "sharding", "helen", *map(str, options)]
    return subprocess.Popen(command, start_new_session=True)


def finish(run: subprocess.Popen[bytes]) -> None:
    try:
        assert run.wait(timeout=600) == 0
    finally:
        run.kill()


def killed(
    run: subprocess.Popen[bytes], after_s: float, out: str, num_shards: int, wait_until: WaitUntil
) -> bool:
    """Kills the run, and not its workers, when some time has passed and some shards are finished.

    False if it ends before.
    """
    try:
        run.wait(timeout=after_s)
    except subprocess.TimeoutExpired:
        wait_until(lambda: run.poll() is not None or len(finished_shards(out)) >= num_shards)
    if run.poll() is not None:
        return False
    run.kill()
    run.wait()
    return True


def still_running(session: int) -> dict[int, str]:
    """The id and command of each of its processes, where the system has /proc."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state not in "XZ":
                found[int(stat.parent.name)] = (stat.parent / "cmdline").read_text()
    return found


def finished_shards(url: str) -> dict[str, object]:
    """The shards that a killed run has finished, each with what shows whether it is redone."""
    location = open_location(url)
    paths = location.list()
    shards = [path for path in paths if path.endswith(".tar")]
    if MANIFEST not in paths:
        shards = [p for p in shards if f"{PARTS_FOLDER}/{p[:-4].replace('/', '-')}.json" in paths]
    return {path: stamp(location, path) for path in shards}


def stamp(location: Folder | Bucket, path: str) -> object:
    """Changes whenever the file is written, also with the same bytes."""
    if isinstance(location, Folder):
        return (location.root / path).stat().st_mtime_ns
    client = s3._client(os.getpid())
    return client.head_object(Bucket=location.bucket, Key=f"{location.prefix}/{path}")["VersionId"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 8])
def test_same_bytes_whatever_runs_it(workers: int, raw: Path, straight: Contents, bucket: str):
    """Two workers, into a folder and into a bucket, have the test below."""
    finish(start(raw, f"{bucket}/out", workers))
    assert contents(f"{bucket}/out") == straight


@pytest.mark.slow
def test_killed_run_is_finished_by_the_same_command(
    raw: Path, straight: Contents, root: str, wait_until: WaitUntil
):
    """Killed with no warning at random moments, and begun again at once."""
    began = time.monotonic()
    finish(start(raw, f"{root}/undisturbed"))
    duration_s = time.monotonic() - began
    assert contents(f"{root}/undisturbed") == straight

    rng = random.Random(SEED)
    num_shards = len(straight) - 1
    num_finished = []
    for kill in range(NUM_KILLS):
        at_work = kill % 2 == 1  # much of a short run is the start of its processes
        for attempt in itertools.count():
            out = f"{root}/{kill}-{attempt}"
            run = start(raw, out)
            after_s = 0 if at_work else rng.uniform(0, duration_s * 0.8**attempt)
            num_before = rng.randint(1, num_shards // 2) * at_work
            was_running = killed(run, after_s, out, num_before, wait_until)
            finished = finished_shards(out)
            if was_running and not (at_work and len(finished) == num_shards):
                break
        num_finished.append(len(finished))
        assert len(finished) == num_shards or not open_location(out).exists(MANIFEST)

        again = start(raw, out)
        wait_until(lambda: not still_running(run.pid))  # noqa: B023
        finish(again)
        assert contents(out) == straight
        location = open_location(out)
        assert {path: stamp(location, path) for path in finished} == finished
    print(f"shards finished when killed: {num_finished} of {num_shards}")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="sees open files in /proc")
def test_run_killed_within_a_shard_leaves_no_temporary_file(
    raw: Path, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
):
    """Killed while it writes its one shard of training faces."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    run = start(raw, f"{root}/out", workers=1, shard_size=NUM_FACES)  # two would not start together
    wait_until(lambda: num_open_files(run.pid, temporary), run)
    run.kill()
    run.wait()
    wait_until(lambda: not still_running(run.pid))
    assert list(temporary.iterdir()) == []


def num_open_files(session: int, folder: Path) -> int:
    """Number of a folder's files without a name that a session's processes have open."""
    found = 0
    for pid in still_running(session):
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(OSError):
                found += re.fullmatch(f"{folder}/.*\\(deleted\\)", str(link.readlink())) is not None
    return found


@pytest.mark.slow
def test_what_a_killed_run_leaves_half_written_is_redone(raw: Path, straight: Contents, root: str):
    """Which rename and S3 rule out, but a lost disk cache, or a copy, may bring."""

    def stopped(write: WriteShard, tasks: Sequence[ShardTask]) -> Iterator[ShardRecord]:
        yield from map(write, tasks[:6])
        raise KeyboardInterrupt

    url = f"{root}/out"
    out = open_location(url)
    recipe = Recipe(layout="helen", shard_size=SHARD_SIZE)
    with pytest.raises(KeyboardInterrupt):
        build(raw, url, recipe, map_tasks=stopped)
    records = [f"{PARTS_FOLDER}/train-{index:06d}.json" for index in range(6)]
    out.write("train/000000.tar", straight["train/000000.tar"][:5000])
    out.write(records[1], out.read(records[1])[:100])
    out.write(records[2], b"")
    out.write(records[3], b"null")
    out.delete("train/000004.tar")
    for leftover in (
        f"train/.000007.tar.{HEX}.tmp",
        f".manifest.json.{HEX}.tmp",
        f".parts/.plan.json.{HEX}.tmp",
    ):
        out.write(leftover, b"half")
    if isinstance(out, Bucket):
        s3._client(os.getpid()).create_multipart_upload(
            Bucket=out.bucket, Key="out/train/000007.tar"
        )
    finished = stamp(out, "train/000005.tar")

    build(raw, url, recipe)
    assert contents(url) == straight
    assert stamp(out, "train/000005.tar") == finished
    assert verify(url) == []
    if isinstance(out, Bucket):
        assert "Uploads" not in s3._client(os.getpid()).list_multipart_uploads(Bucket="faces")


def test_run_killed_while_it_writes_its_plan_is_finished(raw: Path, straight: Contents, root: str):
    open_location(f"{root}/out").write(f"{PARTS_FOLDER}/.plan.json.{HEX}.tmp", b"half")
    build(raw, f"{root}/out", Recipe(layout="helen", shard_size=SHARD_SIZE))
    assert contents(f"{root}/out") == straight


@pytest.mark.parametrize("plan", [b"", b"{", b"null", b'{"plan": 1}'])
def test_damaged_plan_is_told(raw: Path, tmp_path: Path, plan: bytes):
    (tmp_path / PARTS_FOLDER).mkdir()
    (tmp_path / PARTS_FOLDER / "plan.json").write_bytes(plan)
    with pytest.raises(ValueError, match=r"holds an unfinished data set of other items or setti"):
        build(raw, tmp_path, Recipe(layout="helen", shard_size=SHARD_SIZE))


def test_task_that_outlives_its_job_changes_nothing(raw: Path, straight: Contents, tmp_path: Path):
    """As on a node that was cut off when another run finished the data set."""
    recipe = Recipe(layout="helen", shard_size=SHARD_SIZE)
    late = make_plan(raw, tmp_path, recipe).tasks[0]
    build(raw, tmp_path, recipe)
    with pytest.raises(ValueError, match="has been finished by another run"):
        write_shard(late)
    assert contents(str(tmp_path)) == straight


def test_death_of_a_worker_is_told():
    with pytest.raises(OSError, match=r"a worker process died .*the same command goes on"):
        list(map_in_processes(os._exit, [1, 1], num_workers=2))
