"""Files that are read ahead of their use, while their server comes and goes."""

import io
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sharding.storage import read_ahead
from sharding.storage.read_ahead import read_blocks
from stn_icnn.storage import Folder

CONTENT = bytes(range(256)) * 40


@dataclass
class CuttingServer:
    """Serves `CONTENT`, but cuts connections: each gives so many bytes, or is refused."""

    connections: list[int]
    asked: list[int] = field(default_factory=list)
    """The byte from which each connection was asked to read."""

    def open(self, path: str) -> "Connection":
        if not self.connections:
            return Connection(self, len(CONTENT))
        num_bytes = self.connections.pop(0)
        if not num_bytes:
            raise OSError("s3://faces/0.tar: connection refused")
        return Connection(self, num_bytes)


class Connection(io.BytesIO):
    def __init__(self, server: CuttingServer, num_bytes: int) -> None:
        super().__init__(CONTENT)
        self.server, self.left = server, num_bytes

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.server.asked.append(offset)
        return super().seek(offset, whence)

    def read(self, size: int | None = -1) -> bytes:
        if self.left <= 0:
            raise OSError("s3://faces/0.tar: connection broken")
        self.left -= size
        return super().read(size)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(read_ahead, "LONGEST_PAUSE_S", 0.0)


def test_a_cut_connection_is_taken_up_at_the_byte_that_was_reached(
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = CuttingServer([3000, 0, 0, 2000])
    assert b"".join(read_blocks(server, "0.tar")) == CONTENT
    assert server.asked == [0, 3000, 5000]
    told = capsys.readouterr().err.splitlines()
    assert told == ["s3://faces/0.tar: connection broken; tried again for 600 s"] * 2


def test_a_server_that_stays_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "PATIENCE_S", 0.0)
    with pytest.raises(OSError, match="connection refused"):
        list(read_blocks(CuttingServer([0] * 5), "0.tar"))


def test_what_is_not_there_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"0\.tar"):
        list(read_blocks(Folder(tmp_path), "0.tar"))
