"""Commands that other installed packages add to `stn-icnn`."""

from pathlib import Path

import pytest

from stn_icnn.inference.command import COMMANDS, main


@pytest.fixture
def greeting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that adds the command `greet`, and one whose need is missing."""
    metadata = tmp_path / "greeting-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        f"[{COMMANDS}]\ngreet = greeting_command:add\nlack = not_there_at_all:add\n"
    )
    (tmp_path / "greeting_command.py").write_text(
        "def add(commands):\n"
        "    parser = commands.add_parser('greet', help='say hello')\n"
        "    parser.add_argument('name')\n"
        "    parser.set_defaults(run=greet)\n"
        "def greet(args):\n"
        "    if args.name == 'nobody':\n"
        "        raise ValueError('there is nobody')\n"
        "    print('hello', args.name)\n"
        "    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("greeting")
@pytest.mark.slow
def test_an_installed_command_runs_like_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["greet", "you"]) == 3
    assert capsys.readouterr().out == "hello you\n"
    assert main(["greet", "nobody"]) == 2
    assert capsys.readouterr().err == "stn-icnn greet: error: there is nobody\n"


@pytest.mark.usefixtures("greeting")
def test_help_lists_installed_commands_that_can_be_loaded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert "greet" in shown
    assert "say hello" in shown
    assert "lack" not in shown
