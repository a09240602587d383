"""The files of `cluster/deploy`: they load, fit this code and each other, and open no door.

What else checked them, and what could not be run, is in docs/cluster.md.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from cluster.config import ParsingJobConfig, TrainingJobConfig
from cluster.sweep.config import SweepJobConfig
from jobs.command_line import parse_settings
from jobs.options import parse_job

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "cluster" / "deploy"
TEXTS = [path for path in DEPLOY.rglob("*") if path.is_file() and path.name != ".env"]


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


@pytest.fixture(scope="module")
def ray_cluster_spec() -> dict[str, Any]:
    return next(
        one for one in documents("kubernetes/raycluster.yaml") if one["kind"] == "RayCluster"
    )


def pods(ray_cluster_spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    spec = ray_cluster_spec["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        yield group["template"]["spec"]


@pytest.mark.parametrize("job", ["e2e", "tune", "parse"])
def test_a_ray_job_s_command_is_one_of_ours(job: str, ray_cluster_spec: dict[str, Any]) -> None:
    (manifest,) = documents(f"kubernetes/rayjob-{job}.yaml")
    assert manifest["spec"]["clusterSelector"] == {
        "ray.io/cluster": ray_cluster_spec["metadata"]["name"]
    }
    python, script, *arguments = shlex.split(manifest["spec"]["entrypoint"])
    assert (python, script) == ("python", f"jobs/{job}.py")
    if job == "parse":
        parse_settings(ParsingJobConfig, None, arguments)
        return
    kind = SweepJobConfig if job == "tune" else TrainingJobConfig
    settings, _ = parse_job(kind, None, arguments)
    group = ray_cluster_spec["spec"]["workerGroupSpecs"][0]
    gpus = int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
    assert settings.scaling.num_workers <= gpus * group["maxReplicas"]
    assert settings.run_name


def test_images_and_ray_are_of_the_pinned_versions(ray_cluster_spec: dict[str, Any]) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {
        one.name: str(one.specifier) for one in map(Requirement, (x for x in lines if x[0] != "#"))
    }
    assert f"=={ray_cluster_spec['spec']['rayVersion']}" == pinned["ray"]
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    for install in re.findall(r"pip install [^&]*", dockerfile):
        assert "--constraint constraints.txt" in install


def test_no_container_is_root_or_may_become_it(ray_cluster_spec: dict[str, Any]) -> None:
    for pod in pods(ray_cluster_spec):
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert not container["securityContext"]["allowPrivilegeEscalation"]
    (user,) = re.findall(r"^USER (\S+)", (DEPLOY / "Dockerfile").read_text(), re.M)
    assert int(user) > 0


def test_every_cluster_asks_for_a_token(ray_cluster_spec: dict[str, Any]) -> None:
    assert ray_cluster_spec["spec"]["authOptions"] == {"mode": "token"}
    services = documents("compose.yaml")[0]["services"]
    for name in ("head", "worker"):
        assert services[name]["environment"]["RAY_AUTH_MODE"] == "token"
    assert "RAY_AUTH_MODE=token" in (DEPLOY / "slurm.sh").read_text()
    aws = documents("autoscaler-aws.yaml")[0]
    assert "--env RAY_AUTH_MODE=token" in aws["docker"]["run_options"]
    assert any("auth_token" in path for path in aws["file_mounts"])


def test_containers_publish_ports_on_loopback_alone() -> None:
    services = documents("compose.yaml")[0]["services"].values()
    published = [port for service in services for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_no_file_holds_a_secret() -> None:
    """Each is a variable, or what a command gives."""
    for path in TEXTS:
        for name, value in re.findall(
            r"(?<![{\w])(\w*(?:TOKEN|PASSWORD|SECRET_KEY))[=:] *(\S+)", path.read_text()
        ):
            assert value.startswith("$"), f"{path.name}: {name}"


def test_the_files_that_are_named_are_there() -> None:
    for path in TEXTS:
        for named in re.findall(r"(?:cluster/deploy|jobs)/[\w./-]*\w", path.read_text()):
            assert (ROOT / named).exists() or named.endswith(".env"), f"{path.name} names {named}"


def test_shell_scripts_parse_and_secrets_differ() -> None:
    for script in ("slurm.sh", "make-env"):
        subprocess.run(["bash", "-n", DEPLOY / script], check=True)
    made = [subprocess.check_output([DEPLOY / "make-env"], text=True).split() for _ in range(2)]
    values = [line.partition("=")[2] for lines in made for line in lines]
    wanted = set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text()))
    assert {line.partition("=")[0] for line in made[0]} == wanted
    assert len(set(values)) == len(values) == 2 * len(wanted)
    assert min(map(len, values)) >= 48


FAKES = {
    "scontrol": "echo host",
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
    "hostname": "echo 10.0.0.1 fe80::1",
    # A head that lasts, or ends at once.
    "ray": """
        if [ "$1" = start ]; then
            echo $$ "$RAY_AUTH_MODE" "$RAY_AUTH_TOKEN" >>started; exec sleep "${HEAD_S:-1000}"
        fi
        test -s started && [ -z "${HEAD_S:-}" ]""",
}
"""What the Slurm script calls, as one node has it."""


@pytest.fixture
def slurm_job(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """slurm_job(command, **variables): runs the script in an empty folder, on such a node."""
    for name, text in FAKES.items():
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)

    def run(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        given = {
            "PATH": f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin",
            "SLURM_JOB_ID": str(os.getpid()),
            "SLURM_JOB_NODELIST": "host",
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_CPUS_PER_TASK": "2",
            "MLFLOW_TRACKING_URI": "http://mlflow:5000",
            "STN_ICNN_STORAGE": "/shared",
        }
        return subprocess.run(
            ["bash", DEPLOY / "slurm.sh", "sh", "-c", command],
            env=given | variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return run


def test_a_slurm_job_ends_as_its_command_does(
    slurm_job: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = slurm_job("echo at $RAY_ADDRESS; test -d $RAY_TMPDIR; echo $RAY_TMPDIR; exit 3")
    assert done.returncode == 3, done.stderr
    address, folder = done.stdout.split()[1:]
    assert address == f"10.0.0.1:{20000 + os.getpid() % 10000}"
    assert not Path(folder).exists()
    head, mode, token = (tmp_path / "started").read_text().split()
    assert mode == "token"
    assert len(token) == 64
    assert token not in done.stdout + done.stderr
    assert not Path("/proc", head).exists()


def test_a_slurm_job_whose_head_ends_does_not_wait(
    slurm_job: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = slurm_job("echo never", HEAD_S="0")
    assert done.returncode == 1
    assert "error: Ray's head has ended" in done.stderr
    assert "never" not in done.stdout


@pytest.mark.slow
def test_ray_loads_the_autoscaler_s_configuration() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(documents("autoscaler-aws.yaml")[0])
    validate_config(prepared)
    assert prepared["available_node_types"]["gpu"]["resources"]["GPU"] == 4


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="no docker-compose here")
def test_compose_takes_its_file_with_its_secrets_and_not_without(tmp_path: Path) -> None:
    made = tmp_path / "env"
    made.write_bytes(subprocess.check_output([DEPLOY / "make-env"]))
    command = ["docker-compose", "--env-file", made, "-f", DEPLOY / "compose.yaml", "config", "-q"]
    subprocess.run(command, check=True)
    made.write_text("")
    assert subprocess.run(command, capture_output=True).returncode
