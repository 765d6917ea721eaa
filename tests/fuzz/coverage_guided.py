"""The same targets led by coverage: `python tests/fuzz/coverage_guided.py --target biology_vcf --runs 100000`. Needs atheris.

atheris (libFuzzer) keeps every input that reaches a new branch of `factory` and changes it further, half of the time in our ways
(`mutate.py`). The limits are those of `fuzz.py`, and what is found is written to the same folder.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import zlib
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]
LONGEST = 1 << 16
"""Bytes of the longest input."""


def run(name: str, runs: int, seed: int, root: Path) -> int:
    """Fuzz one target in this process; libFuzzer ends it after `runs` inputs. Faults are kept as they come."""
    import atheris

    with atheris.instrument_imports(include=["factory"]):
        import fuzz
        from mutate import mutate
        from targets import makers

        corpus = root / "corpus"
        for folder in (corpus, root / "seeds"):
            folder.mkdir()
        target = makers()[0][name](root / "seeds")
    for number, content in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(content)
    kinds: set[str] = set()

    def one(content: bytes) -> None:
        wrong = fuzz.attempt(target, content, root / "one")
        kind = fuzz.where(wrong)
        if wrong and kind not in kinds:
            kinds.add(kind)
            (fuzz.FOUND / f"{name}-guided-{zlib.crc32(content):08x}").write_bytes(content)
            print(f"{name}: {wrong}", flush=True)

    def change(content: bytes, longest: int, chance: int) -> bytes:
        rng = random.Random(chance)
        if rng.random() < 0.5:
            return bytes(atheris.Mutate(content, longest))
        return mutate(rng, [content, content, *target.seeds])[:longest]

    logging.disable()  # what a load says of bad rows
    fuzz.limit_memory()
    signal.signal(signal.SIGPROF, fuzz.stop)
    limits = [
        f"-timeout={fuzz.LONGEST_S:.0f}",
        "-rss_limit_mb=0",
        f"-max_len={LONGEST}",
        "-print_final_stats=1",
        f"-artifact_prefix={root}/",
    ]
    atheris.Setup([sys.argv[0], f"-runs={runs}", f"-seed={seed}", *limits, str(corpus)], one, custom_mutator=change)
    atheris.Fuzz()
    return len(kinds)


def main(arguments: list[str] | None = None) -> int:
    """Fuzz the targets one after another, each in a process of its own; 1 when something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", action="append", help="only this one; may be given several times")
    asked = parser.parse_args(arguments)
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed, so nothing was fuzzed by coverage: pip install atheris (Linux, Python 3.11 to 3.13).")
        return 0
    failed = 0
    for name in asked.target or _names():
        failed += _in_child(name, asked)
    print(f"{failed} targets failed")
    return int(failed > 0)


def _names() -> list[str]:
    """All targets whose libraries are there; asked for in a child, because this process must load nothing of `factory` first."""
    import subprocess

    ask = "import logging, targets; print(*targets.makers()[0])"
    done = subprocess.run([sys.executable, "-c", ask], cwd=HERE, env=_environment(), capture_output=True, text=True, check=True)
    return done.stdout.split()


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": f"{HERE.parent.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


def _in_child(name: str, asked: Any) -> int:
    """1 when the target's process found something new, or ended otherwise than by itself."""
    import os

    found = HERE / "found"
    before, root = set(found.glob(f"{name}-*")), Path(tempfile.mkdtemp(prefix="guided-"))
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            run(name, asked.runs, asked.seed, root)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(2)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code and (root / "last").is_file():
        kept = (root / "last").read_bytes()
        (found / f"{name}-guided-{zlib.crc32(kept):08x}").write_bytes(kept)
    shutil.rmtree(root, ignore_errors=True)
    new = sorted(path.name for path in set(found.glob(f"{name}-*")) - before)
    print(
        f"{name}: {asked.runs} runs, ended with {code}, new: {', '.join(new) or 'nothing'}; CPU of all so far {used.ru_utime:.0f} s",
        flush=True,
    )
    return int(bool(code or new))


if __name__ == "__main__":
    sys.exit(main())
