"""What is said where a package of an extra is not installed."""

import tomllib
from pathlib import Path
from typing import get_args

import pytest

from stn_icnn.extras import OWN_PACKAGES, Extra, needing

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())


def test_a_missing_package_is_named_with_the_extra_that_brings_it() -> None:
    words = r"charts needs not_there_at_all, not installed here: pip install 'stn-icnn\[train\]'"
    with pytest.raises(ValueError, match=words), needing("train", "charts"):
        import not_there_at_all  # type: ignore[import-not-found] # noqa: F401


def test_a_module_of_our_own_that_is_missing_is_no_matter_of_installing() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"cluster\.nowhere"), needing("train", "it"):
        import cluster.nowhere  # type: ignore[import-not-found] # noqa: F401


def test_what_is_named_can_be_installed() -> None:
    assert set(get_args(Extra)) <= PROJECT["project"]["optional-dependencies"].keys()
    included = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {pattern.rstrip("*") for pattern in included} == OWN_PACKAGES
