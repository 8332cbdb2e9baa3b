"Help fits a terminal of 80 columns"

import pytest
import typer
from typer.testing import CliRunner

from fine_tune_llm.cli import program  # noqa: F401  # all commands
from fine_tune_llm.cli.app import app


def _commands(command, path=()):
    yield path
    for name, sub in getattr(command, "commands", {}).items():
        yield from _commands(sub, (*path, name))


@pytest.mark.parametrize("path", list(_commands(typer.main.get_command(app))))
def test_no_line_is_wider(path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = CliRunner().invoke(app, [*path, "--help"], terminal_width=80)
    assert said.exit_code == 0
    assert [line for line in said.output.splitlines() if len(line) > 80] == []
