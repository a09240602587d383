"""What tests of `stn-icnn parse` share: the photographs' sizes, and how it refuses."""

import pytest

from stn_icnn.inference.command import main

SIZES = {"a.jpg": (60, 44), "b.png": (40, 72)}


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the command says, having exited with status 2."""
    assert main(["parse", *map(str, arguments)]) == 2
    return capsys.readouterr().err
