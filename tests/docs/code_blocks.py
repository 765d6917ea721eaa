"""The code blocks of the documentation, with what is known of each: file, line, language, and the mark above it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MARK = re.compile(r"<!-- needs: ([^>]+?) -->")
"""Above a block that cannot run here, with what it needs; the words are those of `run_blocks.NEEDS`."""


@dataclass(frozen=True)
class Block:
    """One fenced block, or lines indented by four spaces (`language` is empty)."""

    path: str
    line: int
    language: str
    text: str
    mark: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


def documents() -> list[Path]:
    """Everything the site shows, and the README."""
    return [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "domains").glob("*/README.md")),
    ]


def blocks() -> Iterator[Block]:
    """All blocks of all documents."""
    for path in documents():
        yield from blocks_of(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())


def blocks_of(text: str, path: str) -> Iterator[Block]:
    """Blocks of one document."""
    lines, number = text.split("\n"), 0
    while number < len(lines):
        line = lines[number]
        fence = re.match(r"^(\s*)(```+)(\S*)", line)
        if fence:
            end = next((i for i in range(number + 1, len(lines)) if lines[i].strip() == fence[2]), len(lines))
            body = "\n".join(one.removeprefix(fence[1]) for one in lines[number + 1 : end])
            mark = MARK.search("\n".join(lines[max(0, number - 2) : number]))
            yield Block(path, number + 1, fence[3], body, mark[1] if mark else "")
            number = end + 1
        elif line.startswith("    ") and not lines[number - 1].strip():
            end = next((i for i in range(number, len(lines)) if lines[i].strip() and not lines[i].startswith("    ")), len(lines))
            mark = MARK.search("\n".join(lines[max(0, number - 2) : number]))
            yield Block(path, number + 1, "", "\n".join(one[4:] for one in lines[number:end]), mark[1] if mark else "")
            number = end
        else:
            number += 1


def command_lines(text: str) -> Iterator[list[str]]:
    """Words after `factory` of every command of ours in a shell block."""
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in joined.split("\n"):
        for part in re.split(r"&&|;(?=\s)|\|(?=\s)", re.sub(r"(^|\s)#.*$", "", line.strip().removeprefix("$ "))):
            try:
                words = shlex.split(part)
            except ValueError:
                continue
            while words and re.fullmatch(r"[A-Z_]+=\S*|srun|time", words[0]):
                words = words[1:]
            if "[OPTIONS]" in words:  # a usage line of the generated reference
                continue
            if words and (words[0] == "factory" or words[0].endswith("/factory")):
                yield [word for word in words[1:] if not re.fullmatch(r"[<>]|2>&1|&", word)]
