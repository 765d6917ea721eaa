"""Fuzz every reader: `python tests/fuzz/fuzz.py --inputs 100000` (make fuzz). What it finds is written to tests/fuzz/found.

Seeded, so a run can be repeated. Each target runs in a process with a limit on its memory; each input has a limit on its time.
A reader that crashes the process, or hangs inside a library, ends its target; that input is kept too.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from mutate import mutate  # noqa: E402
from targets import LIMIT_S, PACKS, Target, makers  # noqa: E402

from factory.errors import FactoryError  # noqa: E402

FOUND = HERE / "found"
MEMORY = 1 << 30
"""Bytes that a target may need beyond what it starts with."""
LONGEST_S = 120.0
"""Wall time (or up to a tenth less) after which an input ends the process: it waits, or holds the interpreter so that no signal reaches it."""
LAST = "last"
"""The file with the input that is being read."""


class Hung(BaseException):
    """An input took longer than LIMIT_S."""


def stop(*_: Any) -> None:
    """What the alarm clock does."""
    raise Hung


class Watch:
    """Ends the process that reads one input for LONGEST_S, whatever holds its interpreter. Set anew now and then: each time takes a thread."""

    def __init__(self) -> None:
        self.since, self.process = -LONGEST_S, 0

    def see(self) -> None:
        """Another input begins."""
        if time.monotonic() - self.since > LONGEST_S / 10 or self.process != os.getpid():
            self.since, self.process = time.monotonic(), os.getpid()
            faulthandler.dump_traceback_later(LONGEST_S, exit=True)


WATCH = Watch()


def limit_memory() -> None:
    """Let this process take MEMORY bytes more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + MEMORY, pages + MEMORY))


def attempt(target: Target, content: bytes, folder: Path) -> str:
    """What went wrong with one input; empty when it was read or refused."""
    folder.mkdir()
    (folder.parent / LAST).write_bytes(content)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    WATCH.see()
    try:
        target.read(content, folder)
    except FactoryError as err:
        return "" if str(err) else "a refusal without a message"
    except Hung:
        return f"hangs: more than {LIMIT_S:.0f} s of CPU"
    except BaseException:
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        shutil.rmtree(folder)
    return ""


def where(wrong: str) -> str:
    """What makes two faults the same one: the error's type and the last place it was raised at."""
    lines = wrong.strip().splitlines()
    places = [line for line in lines if line.lstrip().startswith("File ")]
    return f"{lines[-1].split(':')[0]} {places[-1] if places else ''}" if lines else ""


def fuzz(name: str, target: Target, inputs: int, seed: int, root: Path) -> int:
    """Run one target; the number of faults that differ (it stops at ten). Call it in a process of its own."""
    signal.signal(signal.SIGPROF, stop)
    limit_memory()
    rng, began, used, faults, slowest = random.Random(f"{name}-{seed}"), time.monotonic(), time.process_time(), 0, 0.0
    kinds: set[str] = set()
    for number in range(inputs):
        content, start = mutate(rng, target.seeds), time.monotonic()
        wrong = attempt(target, content, root / str(number))
        slowest = max(slowest, time.monotonic() - start)
        kind = where(wrong)
        if wrong and kind not in kinds:
            kinds.add(kind)
            faults += 1
            (FOUND / f"{name}-{seed}-{number}").write_bytes(content)
            print(f"{name}: input {number}: {wrong.strip().splitlines()[-1]}\n{wrong}", flush=True)
            if faults >= 10:
                break
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    seconds, used = time.monotonic() - began, time.process_time() - used
    print(
        f"{name:19s} {number + 1:7d} inputs, {faults} faults, {seconds:.0f} s, CPU {used / (number + 1) * 1000:.2f} s per 1000, "
        f"slowest {slowest * 1000:.0f} ms, peak {peak} MiB",
        flush=True,
    )
    return faults


def replay(name: str, target: Target, root: Path) -> int:
    """Every input that was found before for one target; the number that still goes wrong."""
    signal.signal(signal.SIGPROF, stop)
    faults = 0
    for path in sorted(FOUND.glob(f"{name}-*")):
        wrong = attempt(target, path.read_bytes(), root / path.name)
        faults += bool(wrong)
        print(f"{path.name}: {wrong or 'read or refused'}", flush=True)
    return faults


def start(work: Callable[[], int]) -> int:
    """Run `work` in a process of its own, which ends with 1 when that returns more than 0; its id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 2
    try:
        code = int(work() > 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def ended(running: dict[int, tuple[str, Path]]) -> int:
    """Wait for one of the processes; 1 when it found faults or ended otherwise, and then its last input is kept."""
    child, status = os.wait()
    (name, root), code = running.pop(child), os.waitstatus_to_exitcode(status)
    if code not in (0, 1):
        print(f"{name}: ended with {code}")
        if (root / LAST).is_file():
            kept = (root / LAST).read_bytes()
            (FOUND / f"{name}-ended-{zlib.crc32(kept):08x}").write_bytes(kept)
    shutil.rmtree(root, ignore_errors=True)
    return int(code != 0)


def main() -> int:
    """Fuzz; 1 when something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time")
    parser.add_argument("--found", action="store_true", help="only what was found before")
    parser.add_argument("--target", action="append", help="only this one; may be given several times")
    parser.add_argument("--list", action="store_true", help="only name the targets whose libraries are installed")
    asked = parser.parse_args()
    every, left_out = makers()
    if asked.list:
        print(*every, sep="\n")
        return 0
    logging.disable()  # what a load says of bad rows
    for name, why in left_out.items():
        print(f"{name}: left out: {why}")
    chosen = [
        name for name in asked.target or every if name not in left_out and (not asked.found or any(FOUND.glob(f"{name}-*")))
    ]
    for name in chosen:
        if name not in every:
            parser.error(f"no target {name}; there are: {', '.join(every)}")
        if name in PACKS:
            PACKS[name].load_libraries()
    memory = Path("/dev/shm")
    running: dict[int, tuple[str, Path]] = {}
    failed = 0
    for name in chosen:
        if len(running) >= asked.jobs:
            failed += ended(running)
        root = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if os.access(memory, os.W_OK) else None))

        def work(name: str = name, root: Path = root) -> int:
            (root / "seeds").mkdir()
            target = every[name](root / "seeds")
            return replay(name, target, root) if asked.found else fuzz(name, target, asked.inputs, asked.seed, root)

        running[start(work)] = (name, root)
    while running:
        failed += ended(running)
    print(
        f"{len(list(FOUND.glob('*-*')))} inputs were found before, {failed} targets failed"
        if asked.found
        else f"{failed} targets failed"
    )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
