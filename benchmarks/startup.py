"""How long the command takes to say its help, to plan a build, and to take its first training step, beside other trainers' commands.

    [PEERS=trl=/a/bin/trl,oumi=/b/bin/oumi,...] python benchmarks/startup.py [--quick] [--json FILE] [--seed N]

Wall seconds (smallest of many runs: what the machine needs when nothing else is in the way) and CPU seconds (user + system, median)
of whole commands. Peers are those that are installed: `trl` beside this interpreter, others by the variable `PEERS`. None of them
has a command that plans without loading a model, so `factory plan` is held against its limit and against their help.

First training step: CPU seconds of all processes of `factory build --domain safety` until the first step stands in metrics.jsonl,
against `trl sft` with one step on a model of the same shape and a JSON-lines file. Ours makes its base, its data and a first
evaluation before that step; trl finds model and data ready and evaluates nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from table import Row, child_cpu_seconds, compared, environment, limited, main  # noqa: E402

HELP_S, PLAN_S = 0.3, 1.0
RUNS = 15
FACTORY = [sys.executable, "-c", "from factory.cli.app import main; main()"]
HELP = {"trl": ["--help"], "swift": ["--help"], "llamafactory-cli": ["help"], "oumi": ["--help"]}


def peers() -> dict[str, str]:
    """Name -> program of each other command that is there."""
    given = dict(pair.split("=", 1) for pair in os.environ.get("PEERS", "").split(",") if "=" in pair)
    beside = Path(sys.executable).parent / "trl"
    found = {"trl": str(beside)} if beside.is_file() else {}
    return {**found, **{name: path for name, path in given.items() if shutil.which(path)}}


def timed(command: Sequence[str], runs: int, **more: str) -> tuple[list[float], list[float]]:
    """(CPU, wall) seconds of each run after one warm-up, which fills the disk cache and writes compiled modules."""
    spent = [child_cpu_seconds(command, **more) for _ in range(runs + 1)][1:]
    return [cpu for cpu, _ in spent], [wall for _, wall in spent]


def first_step(command: Sequence[str], is_there: Callable[[], bool], **more: str) -> float:
    """CPU seconds of a command and all its children until `is_there`; then it is ended."""
    process = subprocess.Popen(
        command, env=environment(**more), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while process.poll() is None and not is_there():
            time.sleep(0.02)
        if not is_there():
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode} before its first step")
        return group_cpu_seconds(process.pid)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 15)
        process.wait()


def group_cpu_seconds(group: int) -> float:
    """User and system seconds of the processes of a session, with those of their children that have ended. Linux only."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[3]) == group:
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def ours_to_the_first_step(folder: Path, seed: int) -> float:
    """Our build: plan, embedded base, first step of sft."""
    home = folder / f"home-{time.monotonic_ns()}"
    command = [*FACTORY, "build", "--domain", "safety", "--recipe", "embedded-quick", "--seed", str(seed), "--json"]

    def is_there() -> bool:
        return any(path.stat().st_size for path in home.glob("runs/*/stages/*/metrics.jsonl"))

    return first_step(command, is_there, FACTORY_HOME=str(home))


def trl_to_the_first_step(trl: str, base: Path, folder: Path, seed: int) -> float:
    """`trl sft` on a local model of the embedded size and a JSON-lines file of texts."""
    out = folder / f"trl-{time.monotonic_ns()}"
    command = [
        trl, "sft", "--model_name_or_path", str(base), "--dataset_name", str(folder / "data"), "--output_dir", str(out),
        "--per_device_train_batch_size", "8", "--max_steps", "1", "--logging_steps", "1", "--save_strategy", "no", "--report_to",
        "none", "--use_cpu", "--bf16", "False", "--gradient_checkpointing", "False", "--eos_token", "<|im_end|>", "--seed", str(seed),
    ]  # fmt: skip
    return child_cpu_seconds(command)[0]


def rows(quick: bool, seed: int) -> list[Row]:
    """Help, plan, first step."""
    runs, found = (1 if quick else RUNS), []
    with tempfile.TemporaryDirectory() as folder:
        home = {"FACTORY_HOME": str(Path(folder) / "home")}
        own_cpu, own_wall = timed([*FACTORY, "--help"], runs, **home)
        found.append(
            limited("factory --help", f"ours < {HELP_S}", [min(own_wall)], "wall s, smallest", f"CPU {min(own_cpu):.2f} s")
        )
        plan_cpu, plan_wall = timed([*FACTORY, "plan", "--domain", "pathology"], runs, **home)
        found.append(
            limited("factory plan", f"ours < {PLAN_S}", [min(plan_wall)], "wall s, smallest", f"CPU {min(plan_cpu):.2f} s")
        )
        if quick:
            return found
        for name, program in peers().items():
            cpu, wall = timed([program, *HELP[name]], 5, DISABLE_VERSION_CHECK="1")
            found.append(
                compared(
                    "help", name, "ratio < 1", own_cpu, cpu, "CPU s", f"smallest wall {min(own_wall):.2f} and {min(wall):.2f} s"
                )
            )
            found.append(compared("factory plan, their help", name, "ratio < 1", plan_cpu, cpu, "CPU s"))
        found += first_steps(Path(folder), seed)
    return found


def first_steps(folder: Path, seed: int) -> list[Row]:
    """The first training step of ours and of trl."""
    trl = peers().get("trl")
    if trl is None:
        return []
    import json

    from toy_texts import documents, make_base

    base = make_base(folder / "base", vocabulary=768, hidden=128, layers=3, seed=seed)
    (folder / "data").mkdir()
    lines = [json.dumps({"text": document.text}) for document in documents(64, seed)]
    (folder / "data" / "train.jsonl").write_text("\n".join(lines))
    own = [ours_to_the_first_step(folder, seed) for _ in range(3)]
    other = [trl_to_the_first_step(trl, base, folder, seed) for _ in range(3)]
    return [
        compared(
            "first training step", "trl sft", "ratio < 1", own, other, "CPU s", "ours with its base, data and first evaluation"
        )
    ]


if __name__ == "__main__":
    main(rows, __doc__)
