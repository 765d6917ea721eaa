"""The commands and options that docs/evaluate.md, interop.md and tracking.md show exist."""

import re
import shlex
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
LINES = [
    (name, line.strip().split("  #")[0]) for name in ("evaluate", "interop", "tracking")
    for line in (DOCS / f"{name}.md").read_text().splitlines() if re.match(r"    (\w+=\S+ )*factory ", line)
]  # fmt: skip


@pytest.mark.parametrize(("page", "line"), LINES)
def test_a_shown_command_has_these_options(page, line):
    from typer.main import get_command

    from factory.cli.app import app

    words = shlex.split(line[line.index("factory ") :])[1:]
    command = get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("-")} <= known


def test_the_pages_show_commands():
    assert {name for name, _ in LINES} == {"evaluate", "interop", "tracking"} and len(LINES) >= 15
