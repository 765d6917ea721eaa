"""Fuzz every reader: `python tests/fuzz/fuzz.py --inputs 100000` (make fuzz). What it finds is written to tests/fuzz/found.

Seeded, so a run can be repeated. Each target runs in a process with a limit on its memory; each input has a limit on its time.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from mutate import mutate  # noqa: E402
from targets import LIMIT_S, Target, targets  # noqa: E402

from factory.errors import FactoryError  # noqa: E402

FOUND = HERE / "found"
MEMORY = 1 << 30
"""Bytes that a target may need beyond what it starts with."""


class Hung(BaseException):
    """An input took longer than LIMIT_S."""


def _alarm(*_: Any) -> None:
    raise Hung


def attempt(target: Target, content: bytes, folder: Path) -> str:
    """What went wrong with one input; empty when it was read or refused."""
    folder.mkdir()
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        target.read(content, folder)
    except FactoryError as err:
        return "" if str(err) else "a refusal without a message"
    except Hung:
        return f"hangs: more than {LIMIT_S:.0f} s"
    except BaseException:
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        shutil.rmtree(folder)
    return ""


def fuzz(name: str, target: Target, inputs: int, seed: int, root: Path) -> int:
    """Run one target; the number of faults (it stops at ten). Call it in a process of its own."""
    signal.signal(signal.SIGALRM, _alarm)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + MEMORY, pages + MEMORY))
    rng, began, refused, faults = random.Random(f"{name}-{seed}"), time.monotonic(), 0, 0
    slowest = 0.0
    for number in range(inputs):
        content, start = mutate(rng, target.seeds), time.monotonic()
        wrong = attempt(target, content, root / "one")
        slowest = max(slowest, time.monotonic() - start)
        refused += not wrong
        if wrong:
            faults += 1
            (FOUND / f"{name}-{seed}-{number}").write_bytes(content)
            print(f"{name}: input {number}: {wrong.strip().splitlines()[-1]}\n{wrong}", flush=True)
            if faults >= 10:
                break
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    seconds = time.monotonic() - began
    print(
        f"{name:9s} {number + 1:7d} inputs, {faults} faults, {seconds:.0f} s, slowest {slowest * 1000:.0f} ms, peak {peak} MiB",
        flush=True,
    )
    return faults


def replay(every: dict[str, Target], root: Path) -> int:
    """Every input that was found before; the number that still goes wrong."""
    signal.signal(signal.SIGALRM, _alarm)
    paths, faults = sorted(FOUND.glob("*-*")), 0
    for path in paths:
        wrong = attempt(every[path.name.split("-")[0]], path.read_bytes(), root / "one")
        faults += bool(wrong)
        if wrong:
            print(f"{path.name}: {wrong}")
    print(f"{len(paths)} inputs were found before, {faults} faults")
    return faults


def main() -> int:
    """Fuzz; 1 when something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--found", action="store_true", help="only what was found before")
    parser.add_argument("--target", action="append", help="only this one; may be given several times")
    asked = parser.parse_args()
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if os.access(memory, os.W_OK) else None))
    every, failed = targets(root / "seeds"), 0
    if asked.found:
        failed = replay(every, root)
    for name in [] if asked.found else asked.target or every:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            code = 2
            try:
                code = int(fuzz(name, every[name], asked.inputs, asked.seed, root) > 0)
            finally:
                sys.stdout.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        failed += code != 0
        if code not in (0, 1):
            print(f"{name}: ended with {code}")
    shutil.rmtree(root, ignore_errors=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
