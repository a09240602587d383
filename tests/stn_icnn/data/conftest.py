"""Shards of twelve samples."""

from pathlib import Path

import pytest

from tests.sample_shards import members, write_shard


@pytest.fixture
def twelve(tmp_path: Path) -> list[str]:
    """Twelve samples in three shards."""
    return [
        write_shard(
            tmp_path / f"{shard}.tar", {f"face{i:02d}": members(i) for i in range(shard, 12, 3)}
        )
        for shard in range(3)
    ]
