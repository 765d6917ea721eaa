"""Print what a project and some of its extras need, one requirement a line: so that an image can install that before it holds our code.

python3 requirements.py pyproject.toml all
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path


def requirements(project: dict, extras: list[str]) -> list[str]:
    """The dependencies and those of `extras`; an extra that names extras of the project itself stands for those."""
    own = re.compile(rf"{re.escape(project['name'])}\[([\w,\s-]+)\]")
    found, todo, done = list(project["dependencies"]), list(extras), set()
    while todo:
        extra = todo.pop(0)
        if extra in done:
            continue
        done.add(extra)
        for line in project["optional-dependencies"][extra]:
            if named := own.fullmatch(line):
                todo += [name.strip() for name in named.group(1).split(",")]
            else:
                found.append(line)
    return sorted(set(found))


if __name__ == "__main__":
    print("\n".join(requirements(tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"], sys.argv[2:])))
