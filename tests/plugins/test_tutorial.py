"""docs/write-a-pack.md, run line by line in a fresh environment: it ends with a trained, evaluated, exported model."""

import re
import subprocess
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "write-a-pack.md"
BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MOST_LINES = 120
"""Lines of the author's own that the pack may take."""


def blocks():
    """(language, file or empty, text) of every block of the page, in order."""
    return BLOCK.findall(PAGE.read_text(encoding="utf-8"))


def test_the_pack_takes_few_lines_of_the_authors_own():
    own = [text for _, file, text in blocks() if file]
    assert len(own) >= 4 and sum(len(text.splitlines()) for text in own) <= MOST_LINES


def test_every_block_is_a_file_or_commands():
    assert {(language, bool(file)) for language, file, _ in blocks()} == {("python", True), ("yaml", True), ("sh", False)}


@pytest.mark.slow
def test_the_tutorial_runs_line_by_line(fresh, tmp_path):
    here = tmp_path / "work"
    here.mkdir()
    said = ""
    for _, file, text in blocks():
        if file:
            (here / file).write_text(text)
            continue
        for line in text.splitlines():
            # Each line in the same shell's folder: `cd` is kept.
            done = subprocess.run(
                ["bash", "-c", f"set -e\n{line}\npwd > {tmp_path}/pwd"],
                cwd=here,
                env=fresh,
                capture_output=True,
                text=True,
                timeout=900,
            )
            assert done.returncode == 0, f"$ {line}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
            here, said = Path((tmp_path / "pwd").read_text().strip()), said + done.stdout
    assert "geology: 20 of 20 checks passed" in said and "factory-pack-geology 0.1.0" in said
    run = tmp_path / "home" / "runs" / "rocks"
    assert (run / "report.html").is_file() and (run / "result.json").is_file()
    assert list((tmp_path / "work" / "rocks-model").glob("*.safetensors"))
