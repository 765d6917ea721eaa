"""Run every benchmark that has `rows(quick, seed)` and write RESULTS.md; one that fails is told there and makes the command fail.

python benchmarks/run.py [--quick] [--only NAME ...] [--out FILE]
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

from table import Row, environment, header, markdown  # noqa: E402

OUT = HERE / "RESULTS.md"


def modules() -> list[Path]:
    """The files of this folder that define `rows`, by name; nothing is imported."""
    return [path for path in sorted(HERE.glob("*.py")) if _defines_rows(path)]


def _defines_rows(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(isinstance(node, ast.FunctionDef) and node.name == "rows" for node in body)


def measured(path: Path, *, quick: bool, seed: int) -> tuple[list[Row], str]:
    """(rows, why there are none) of one benchmark, run as its users run it."""
    with tempfile.TemporaryDirectory(prefix="factory-bench-") as folder:
        out = Path(folder) / "rows.json"
        command = [sys.executable, str(path), "--seed", str(seed), "--json", str(out), *(["--quick"] if quick else [])]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            sys.stderr.write(done.stderr[-4000:])
            return [], f"failed with exit code {done.returncode}: {last}"
        return [Row(**row) for row in json.loads(out.read_text())["rows"]], ""


def main() -> int:
    """Run them, write the file, return 1 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small, to see that all work; the figures mean little")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="file names without .py; all without it")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chosen = [path for path in modules() if not given.only or path.stem in given.only]
    lines = ["# Side by side", "", f"Written by `python benchmarks/run.py {' '.join(sys.argv[1:])}`".rstrip() + ".", ""]
    lines += [f"- {line}" for line in header(given.seed)]
    failed = 0
    for path in chosen:
        started = time.monotonic()
        sys.stderr.write(f"{path.stem} ...\n")
        rows, fault = measured(path, quick=given.quick, seed=given.seed)
        lines += ["", f"## {path.stem}", "", ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).splitlines()[0], ""]
        lines += [fault] if fault else markdown(rows)
        failed += bool(fault)
        given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")  # what is done stays when the next takes too long
        sys.stderr.write(f"{path.stem}: {len(rows)} rows, {time.monotonic() - started:.0f} s wall {fault}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
