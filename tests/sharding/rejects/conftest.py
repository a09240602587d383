"""The tiny raw data sets, with the record of what is to be made of them."""

from pathlib import Path

import pytest

from tests.sharding.rejects.spoiled_data import Raw


@pytest.fixture
def raw_celebamask(celebamask: Path) -> Raw:
    return Raw(celebamask, good={f"{number:05d}" for number in range(1995, 2005)})


@pytest.fixture
def raw_lapa(lapa: Path) -> Raw:
    return Raw(lapa, good={f"{number}_0" for number in range(1, 7)})


@pytest.fixture
def raw_folder(plain_folder: Path) -> Raw:
    return Raw(plain_folder, good={f"face-{number}" for number in range(10)})


@pytest.fixture
def raw_helen(helen: Path) -> Raw:
    return Raw(helen, good={"11_1", "12_1", "13_1", "14_2", "21_1", "31_1"})
