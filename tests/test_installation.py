"""What an installation for parsing alone has: the wheel, its dependencies, nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import grimp
import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from sharding.procedural.drawing import draw_face
from sharding.procedural.random_face import random_face
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.model_sources import SHIPPED_MODEL

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "jobs", "cluster", "sharding", "stn_icnn")


@dataclass(frozen=True)
class Installation:
    """A virtual environment with the wheel and its dependencies, and a home of its own."""

    root: Path

    @property
    def site(self) -> Path:
        """The folder of its packages."""
        paths = {"base": str(self.root), "platbase": str(self.root)}
        return Path(sysconfig.get_path("purelib", "venv", paths))

    def run(self, program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Runs a program of its `bin` in the folder above it, without this process' variables."""
        home = {"HOME": str(self.root.parent), "PATH": os.defpath}
        return subprocess.run(
            [self.root / "bin" / program, *map(str, arguments)],
            cwd=self.root.parent,
            env=home,
            capture_output=True,
            text=True,
        )


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel of this tree, installed beside links to what its dependencies have installed."""
    folder = tmp_path_factory.mktemp("installation")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-deps", "--no-index"]
    (folder / "source").mkdir()
    for name in SOURCES:
        _copy(ROOT / name, folder / "source" / name)
    wheels = ["wheel", "--no-build-isolation", "--wheel-dir", folder, folder / "source"]
    subprocess.run([*pip, *wheels, *offline], check=True)
    [wheel] = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    made = Installation(folder / "env")
    for name in _with_dependencies(PROJECT["dependencies"]):
        _link(name, made.site)
    into = ["--python", folder / "env" / "bin" / "python", "install", "--no-compile", wheel]
    subprocess.run([*pip, *into, *offline], check=True)
    return made


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _with_dependencies(requirements: Iterable[str]) -> set[str]:
    """Returns the installed distributions that requirements name, and theirs in turn."""
    found: set[tuple[str, frozenset[str]]] = set()
    left = [Requirement(each) for each in requirements]
    while left:
        needed = left.pop()
        name, extras = canonicalize_name(needed.name), frozenset(needed.extras)
        if (name, extras) in found:
            continue
        try:
            requires = map(Requirement, distribution(name).requires or ())
        except PackageNotFoundError:  # one of another platform's or build's
            continue
        found.add((name, extras))
        contexts = [{"extra": extra} for extra in ("", *extras)]
        left += [
            each for each in requires if not each.marker or any(map(each.marker.evaluate, contexts))
        ]
    return {name for name, _ in found}


def _link(name: str, site: Path) -> None:
    """Links what a distribution has installed into the packages' folder of an environment."""
    installed = distribution(name)
    for top in {Path(file).parts[0] for file in installed.files or ()} - {"..", "__pycache__"}:
        if not (site / top).exists():
            (site / top).symlink_to(str(installed.locate_file(top)))


@pytest.fixture(scope="module")
def photo(installation: Installation) -> Path:
    """A drawn face in the folder where the commands run."""
    rng = np.random.default_rng(0)
    path = installation.root.parent / "photo.png"
    Image.fromarray(draw_face(random_face(rng, "celebamask", 256), rng).image).save(path)
    return path


def declared_packages() -> set[str]:
    """The packages that parsing may import: of the dependencies, and of two extras."""
    extras = PROJECT["optional-dependencies"]
    given = [*PROJECT["dependencies"], *extras["export"], *extras["heic"]]
    names = {canonicalize_name(Requirement(each).name) for each in given}
    owners = packages_distributions()
    return {package for package in owners if names & set(map(canonicalize_name, owners[package]))}


def test_parsing_imports_nothing_that_its_dependencies_do_not_bring() -> None:
    graph = grimp.build_graph(
        "stn_icnn",
        include_external_packages=True,
        exclude_type_checking_imports=True,
        cache_dir=None,
    )
    reached = graph.find_upstream_modules("stn_icnn.inference", as_package=True)
    roots = {module.partition(".")[0] for module in reached} - sys.stdlib_module_names
    assert roots - {"stn_icnn"} <= declared_packages()


@pytest.mark.slow
def test_the_wheel_parses_a_photograph_with_the_model_that_it_brings(
    installation: Installation, photo: Path
) -> None:
    done = installation.run("stn-icnn", "parse", photo.name, "--out", "labels")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parsed"] == 1
    labels = np.asarray(Image.open(photo.with_name("labels") / "photo.png"))
    assert np.array_equal(labels, FaceParser(device="cpu").parse(photo).labels)
    assert len(np.unique(labels)) > 3
    terms = installation.site / "stn_icnn" / "models" / "celebamask" / "LICENSE"
    assert f"for non-commercial research only: {terms}\n" in done.stderr
    again = installation.run("stn-icnn", "parse", photo.name, "--out", "again")
    assert again.returncode == 0
    assert "non-commercial" not in again.stderr


@pytest.mark.slow
def test_python_parses_with_the_model_that_the_wheel_brings(
    installation: Installation, photo: Path
) -> None:
    code = (
        "from stn_icnn import FaceParser\n"
        f"face = FaceParser().parse({photo.name!r})\n"
        "print(face.labels.shape, len(face.windows))"
    )
    done = installation.run("python", "-c", code)
    assert done.stdout == "(256, 256) 6\n", done.stderr


@pytest.mark.slow
def test_the_wheel_holds_the_model_once_with_its_card_and_terms(installation: Installation) -> None:
    [model] = installation.site.glob("**/*.pt")
    assert model.read_bytes() == (SHIPPED_MODEL / "model.pt").read_bytes()
    for name in ("README.md", "config.json", "LICENSE"):
        assert model.with_name(name).read_bytes() == (SHIPPED_MODEL / name).read_bytes()
    [metadata] = installation.site.glob("stn_icnn-*.dist-info")
    said = (metadata / "METADATA").read_text()
    assert re.search("^License-Expression: Apache-2.0 AND LicenseRef-.*non-commercial$", said, re.M)
    kept = metadata / "licenses" / "stn_icnn" / "models" / "celebamask" / "LICENSE"
    assert "non-commercial" in kept.read_text()
    assert (metadata / "licenses" / "LICENSE").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("-m jobs.e2e", "error: this job needs tyro"),
        ("-m jobs.paper table", "error: this job needs tyro"),
        ("-m jobs.shard celebamask", "error: this job needs tyro"),
        ("-m sharding celebamask", "sharding: error: sharding needs "),
        ("-m stn_icnn.inference.command compare a b", "stn-icnn compare: error: comparing runs"),
        (
            "-m stn_icnn.inference.command parse photo.png --model models:/m@a --out new",
            "stn-icnn parse: error: model 'models:/m@a' can't be fetched: mlflow is not installed",
        ),
    ],
)
def test_what_needs_more_says_what_to_install_in_a_line(
    installation: Installation, photo: Path, command: str, words: str
) -> None:
    done = installation.run("python", *command.split())
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith(words)
    assert "pip install 'stn-icnn[train]'" in line
    assert done.stdout == ""
