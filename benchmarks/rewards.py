"""The verifier pool: throughput, what one stuck verifier costs the others, and the step's delay beside TRL's reward loop.

    python benchmarks/rewards.py [--calls 10000] [--workers 2] [--quick] [--json FILE]

Three tables go to standard output; the first and the third are also rows of the common table (`--json`).

1. Calls of a verifier that keeps its core busy for 1 ms. `busy` is verifier work / (workers x wall time).
2. One verifier hangs among quick ones. `delay` is how much later the last of the others is judged than without it.
3. A step: rollouts end one after another, as an engine streams them. `delay` is the time from the end of the last rollout to the
   last reward. TRL (`GRPOTrainer._calculate_rewards`, the installed version, called as it is) judges when generation is over, in
   the trainer's own process; the pool judges meanwhile. Same functions, same completions. Then with one that raises or hangs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from table import Row  # noqa: E402

from factory.contracts import Message, Sample, Status, Verdict  # noqa: E402

PACK = "rewards:VERIFIERS"
LIMIT_S = 2.0


def burn(milliseconds: float) -> None:
    """Keep one core busy for so long, in CPU time of this thread."""
    end = time.thread_time() + milliseconds / 1000
    while time.thread_time() < end:
        pass


def score_of(completion: str) -> float:
    """What all verifiers here think of a completion."""
    return float(completion.endswith("0"))


class Burner:
    """Burns so many milliseconds; on `bad` completions it raises or hangs, if it is that kind."""

    version = "1"

    def __init__(self, name: str, milliseconds: float, fault: str = "") -> None:
        self.name, self.milliseconds, self.fault = name, milliseconds, fault

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """As a verifier of the pool."""
        score = self.reward(completion)
        return Verdict(score, Status.ok if score else Status.wrong, "")

    def reward(self, completion: str) -> float:
        """The score alone."""
        if completion.startswith("bad") and self.fault == "raises":
            raise RuntimeError("backend away")
        if completion.startswith("bad") and self.fault == "hangs":
            time.sleep(3600)
        burn(self.milliseconds)
        return score_of(completion)


VERIFIERS = {
    one.name: one
    for one in (
        Burner("one_ms", 1.0), Burner("ten_ms", 10.0), Burner("raises", 10.0, "raises"), Burner("hangs", 10.0, "hangs"),
    )
}  # fmt: skip


def sample(number: int) -> Sample:
    """A question of its own."""
    return Sample(id=str(number), task="t", messages=(Message("user", f"question {number}"),), reference="0")


def opened(workers: int, **settings: Any) -> Any:
    """A pool whose workers have all loaded."""
    from factory.rewards.pool import VerifierPool

    pool = VerifierPool(PACK, workers=workers, **{"timeout_s": LIMIT_S, "max_error_rate": 1.0} | settings)
    pool.start()
    pool.score([(f"warm {i}", sample(0), ["one_ms"]) for i in range(64 * workers)])
    time.sleep(1.0)
    return pool


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print one table."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    print(f"\n{title}")
    for row in (head, ["-" * width for width in widths], *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    sys.stdout.flush()


def throughput(calls: int, workers: int, repeats: int) -> Row:
    """Table 1, and its best round as calls per second beside what the workers could do."""
    samples = [sample(i) for i in range(256)]
    rows = [(f"text {i}", samples[i % 256], ["one_ms"]) for i in range(calls)]
    walls, parents = [], []
    pool = opened(workers)
    try:
        for _ in range(repeats):
            started, spent = time.perf_counter(), time.process_time()
            found = pool.score(rows)
            walls.append(time.perf_counter() - started)
            parents.append((time.process_time() - spent) / calls)
            assert [row["one_ms"].score for row in found] == [score_of(text) for text, _, _ in rows]
        cut_off = f"network {pool.network}, processes {pool.processes}"
    finally:
        pool.close()
    wall = min(walls)
    cells = [str(calls), str(workers), f"{wall:.2f}", f"{calls / wall:.0f}", f"{calls * 0.001 / (workers * wall):.1%}"]
    head = ["calls of 1 ms", "workers", "best wall s", "calls/s", "busy", "all walls s", "trainer CPU us/call"]
    cells += [" ".join(f"{one:.2f}" for one in walls), f"{statistics.median(parents) * 1e6:.0f}"]
    table(f"1. Throughput ({cut_off})", head, [cells])
    rates, most = sorted(calls / one for one in walls), workers / 0.001
    return Row(
        "reward scoring, verifier of 1 ms", f"{workers} workers always busy", "", rates[-1], most, rates[-1] / most,
        rates[0] / most, rates[-1] / most, "calls/s wall", f"best of {repeats}; {cut_off}",
    )  # fmt: skip


def stuck(workers: int) -> None:
    """Table 2."""
    rows = []
    for number in sorted({1, workers}):
        walls = {}
        for word in ("good", "bad"):
            pool = opened(number)
            try:
                started = time.perf_counter()
                for i in range(400):
                    name = "hangs" if i == 20 else "one_ms"
                    pool.submit(i, f"{word if i == 20 else 'good'} {i}", sample(i), [name])
                last_other, status = 0.0, ""
                for key, verdicts in pool.results():
                    if key == 20:
                        status = verdicts["hangs"].status.value
                    else:
                        last_other = time.perf_counter() - started
            finally:
                pool.close()
            walls[word] = last_other
        rows.append([
            str(number), f"{LIMIT_S:g}", f"{walls['good']:.2f}", f"{walls['bad']:.2f}", f"{walls['bad'] - walls['good']:.2f}", status,
        ])  # fmt: skip
    head = ["workers", "limit s", "without it s", "with it s", "delay s", "its status"]
    table("2. One stuck verifier among 399 quick ones", head, rows)


def completions(count: int, *, is_faulty: bool) -> list[str]:
    """Texts of one step, of which the third is bad if asked for."""
    return [f"{'bad' if is_faulty and i == 2 else 'good'} {i}" for i in range(count)]


def trl_delay(texts: Sequence[str], name: str) -> str:
    """Seconds that TRL's own reward loop takes once generation is over, or what became of it."""
    import accelerate
    import torch
    from trl import GRPOTrainer

    def reward(completions: Sequence[str], **_: Any) -> list[float]:
        return [VERIFIERS[name].reward(text) for text in completions]

    trainer = SimpleNamespace(
        accelerator=accelerate.Accelerator(cpu=True), reward_funcs=[reward], reward_processing_classes=[None], reward_func_names=[name],
        state=SimpleNamespace(global_step=0), environments=None, args=SimpleNamespace(report_to=[]), _log_completion_extra=None, _log_metric=None,
    )  # fmt: skip
    inputs = [{"prompt": "q"} for _ in texts]
    outcome: list[str] = []

    def work() -> None:
        started = time.perf_counter()
        try:
            found = GRPOTrainer._calculate_rewards(trainer, inputs, ["q"] * len(texts), list(texts), [[0]] * len(texts))
        except Exception as err:  # what would end a training run; told in the table
            outcome.append(f"the run ends ({type(err).__name__}: {err})")
            return
        assert torch.equal(found[:, 0], torch.tensor([score_of(text) for text in texts]))
        outcome.append(f"{time.perf_counter() - started:.3f}")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout=3 * LIMIT_S)
    if not outcome and not thread.is_alive():
        raise AssertionError("TRL's reward loop gave other rewards than the verifier, see above")
    return outcome[0] if outcome else f"none in {3 * LIMIT_S:g} s, hangs"


def pool_delay(texts: Sequence[str], name: str, workers: int, generation_s: float) -> tuple[str, str]:
    """Seconds from the end of the last rollout to the last verdict, and the masked share."""
    pool = opened(workers)
    try:
        samples = [sample(i) for i in range(len(texts))]
        started = time.perf_counter()
        for i, text in enumerate(texts):
            # An accelerator generates: this process waits, as it does for a server or a kernel.
            time.sleep(max(0.0, started + (i + 1) * generation_s / len(texts) - time.perf_counter()))
            pool.submit(i, text, samples[i], [name])
        ended = time.perf_counter()
        found = dict(pool.results())
        delay = time.perf_counter() - ended
    finally:
        pool.close()
    masked = sum(row[name].status.is_masked for row in found.values())
    assert all(found[i][name].score == score_of(text) for i, text in enumerate(texts) if not found[i][name].status.is_masked)
    return f"{delay:.3f}", f"{masked} of {len(texts)}"


def step_delay(workers: int, rollouts: int, generation_s: float) -> list[Row]:
    """Table 3; its rows for the common table are those in which both sides end."""
    from importlib.metadata import version

    rows, common = [], []
    for label, name, is_faulty in (
        ("10 ms each", "ten_ms", False), ("one raises", "raises", True), ("one hangs", "hangs", True),
    ):  # fmt: skip
        texts = completions(rollouts, is_faulty=is_faulty)
        theirs = trl_delay(texts, name)
        ours, masked = pool_delay(texts, name, workers, generation_s)
        ratio = f"{float(theirs) / float(ours):.1f}x" if theirs[0].isdigit() else "-"
        rows.append([label, theirs, ours, masked, ratio])
        if theirs[0].isdigit():
            delays = (float(ours), float(theirs), float(ours) / float(theirs))
            notes = f"{rollouts} rollouts that end within {generation_s:g} s"
            common.append(
                Row(f"delay of a step by rewards, {label}", f"TRL {version('trl')}", "", *delays, None, None, "s wall", notes)
            )
    head = ["verifier", f"TRL {version('trl')} delay s", "pool delay s", "masked", "TRL / pool"]
    table(f"3. A step of {rollouts} rollouts that end within {generation_s:g} s, limit {LIMIT_S:g} s", head, rows)
    return common


def rows(quick: bool, seed: int) -> list[Row]:
    """What the common table takes up; nothing here is drawn from a seed."""
    del seed
    return measured(1_000 if quick else 10_000, 2, 1 if quick else 3, quick=quick)


def measured(calls: int, workers: int, repeats: int, *, quick: bool) -> list[Row]:
    """All three tables."""
    first = throughput(calls, workers, repeats)
    stuck(workers)
    return [first, *step_delay(workers, 32 if quick else 256, 1.0 if quick else 4.0)]


def main() -> None:
    """Run all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of it, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows of the common table here")
    parser.add_argument("--seed", type=int, default=0, help="not used: nothing is drawn")
    given = parser.parse_args()
    calls, repeats = (given.calls // 10, 1) if given.quick else (given.calls, given.repeats)
    found = measured(calls, given.workers, repeats, quick=given.quick)
    if given.json:
        given.json.write_text(json.dumps({"rows": [asdict(row) for row in found]}, indent=1))


if __name__ == "__main__":
    main()
