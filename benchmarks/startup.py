"""How long the command takes to say its help, to plan a build, and to take its first training step, beside other trainers' commands.

    [PEERS=trl=/a/bin/trl,oumi=/b/bin/oumi,...] python benchmarks/startup.py [--quick] [--json FILE] [--seed N]

Wall seconds (smallest of many runs: what the machine needs when nothing else is in the way) and CPU seconds (user + system, median)
of whole commands. Peers are those that are installed: `trl` beside this interpreter, others by the variable `PEERS`. None of them
has a command that plans without loading a model, so `factory plan` is held against its limit and against their help.

First training step: CPU seconds of all processes of `factory build --domain safety` until the first step of cpt stands in
metrics.jsonl, against one step of each peer. All start from the same base folder, once more ours makes its embedded base as well.
Ours plans, makes its texts, compares them with held-out samples and evaluates before that step; the peers find a JSON-lines file and
do nothing of the kind, so a row tells what of ours is the libraries and the stage itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from table import Row, child_cpu_seconds, compared, environment, limited, main  # noqa: E402

HELP_S, PLAN_S = 0.3, 1.0
RUNS, STEP_RUNS = 15, 5
FACTORY = [sys.executable, "-c", "from factory.cli.app import main; main()"]
HELP = {"trl": ["--help"], "swift": ["sft", "--help"], "llamafactory-cli": ["help"], "oumi": ["--help"]}
STEP_ROWS, STEP_LENGTH = "8", "512"
"""Rows of the first step, and the tokens that a row may have."""


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


def first_step(command: Sequence[str], is_there: Callable[[], bool], **more: str) -> tuple[float, float]:
    """CPU seconds of a build and all its children until `is_there`, and what of it is libraries and the present worker; then it ends."""
    process = subprocess.Popen(
        command, env=environment(**more), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while process.poll() is None and not is_there():
            time.sleep(0.02)
        if not is_there():
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode} before its first step")
        return tree_cpu_seconds(process.pid), fork_cpu_seconds(process.pid)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 15)
        process.wait()


def tree_cpu_seconds(root: int) -> float:
    """User and system seconds of a process and all that descend from it, ended ones included where their parent has seen their end."""
    import psutil

    total = 0.0
    for process in (head := psutil.Process(root), *head.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            spent = process.cpu_times()
            total += spent.user + spent.system + spent.children_user + spent.children_system
    return total


def fork_cpu_seconds(root: int) -> float:
    """User and system seconds of a build's fork server and of the worker that runs now, without those of workers that have ended."""
    import psutil

    server = next(one for one in psutil.Process(root).children() if "factory.launch.forks" in one.cmdline())
    return sum(spent.user + spent.system for spent in (one.cpu_times() for one in (server, *server.children())))


def ours_to_the_first_step(folder: Path, seed: int, base: Path | None) -> tuple[float, float]:
    """Our build: plan, overlap check, base (made, unless one is given), its evaluation, first step of cpt."""
    home = folder / f"home-{time.monotonic_ns()}"
    command = [*FACTORY, "build", "--domain", "safety", "--recipe", "embedded-quick", "--seed", str(seed), "--json"]
    command += ["--base", str(base)] if base else []

    def is_there() -> bool:
        # Evaluations write their progress into a file of the same name.
        return any(path.stat().st_size for path in home.glob("runs/*/stages/*-cpt*/metrics.jsonl"))

    return first_step(command, is_there, FACTORY_HOME=str(home))


def one_step_of(name: str, program: str, base: str, data: Path, out: str, seed: str) -> list[str]:
    """The command of a peer that trains a local model for one step on the texts of `data`, and keeps nothing more than it must."""
    common = ["--output_dir", out, "--per_device_train_batch_size", STEP_ROWS, "--max_steps", "1", "--logging_steps", "1",
              "--save_strategy", "no", "--report_to", "none", "--seed", seed]  # fmt: skip
    if name == "trl":
        return [program, "sft", "--model_name_or_path", base, "--dataset_name", str(data / "texts"), *common, "--use_cpu", "--bf16", "False",
                "--gradient_checkpointing", "False", "--eos_token", "<|im_end|>", "--max_length", STEP_LENGTH]  # fmt: skip
    if name == "llamafactory-cli":
        return [program, "train", "--stage", "pt", "--do_train", "--model_name_or_path", base, "--dataset_dir", str(data), "--dataset",
                "texts", "--finetuning_type", "full", *common, "--use_cpu", "--bf16", "false", "--cutoff_len", STEP_LENGTH, "--template",
                "empty", "--disable_gradient_checkpointing", "true"]  # fmt: skip
    if name == "swift":
        return [program, "pt", "--model", base, "--model_type", "qwen3", "--template", "dummy", "--dataset", str(data / "messages.jsonl"),
                "--tuner_type", "full", "--torch_dtype", "float32", *common, "--use_cpu", "true", "--max_length", STEP_LENGTH,
                "--gradient_checkpointing", "false", "--eval_strategy", "no"]  # fmt: skip
    settings = {
        "model": {"model_name": base, "torch_dtype_str": "float32", "model_max_length": int(STEP_LENGTH)},
        "data": {"train": {"datasets": [{"dataset_name": "text_sft_jsonl", "dataset_path": str(data / "asked.jsonl")}]}},
        "training": {
            "trainer_type": "TRL_SFT", "output_dir": out, "per_device_train_batch_size": int(STEP_ROWS), "max_steps": 1, "logging_steps": 1,
            "save_steps": 0, "save_final_model": False, "enable_gradient_checkpointing": False, "seed": int(seed),
        },
    }  # fmt: skip
    Path(f"{out}.yaml").write_text(json.dumps(settings))
    return [program, "train", "-c", f"{out}.yaml"]


def write_texts(folder: Path, seed: int) -> None:
    """The same 64 texts in the form that each peer reads. trl reads every file of a folder, so its own lies apart."""
    from toy_texts import documents

    texts = [document.text for document in documents(64, seed)]
    rows = {
        "texts/train.jsonl": [{"text": text} for text in texts],
        "messages.jsonl": [{"messages": [{"role": "assistant", "content": text}]} for text in texts],
        "asked.jsonl": [
            {"messages": [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": text}]} for text in texts
        ],
    }
    (folder / "texts").mkdir(parents=True)
    for name, found in rows.items():
        (folder / name).write_text("\n".join(json.dumps(row) for row in found))
    (folder / "dataset_info.json").write_text(
        json.dumps({"texts": {"file_name": "texts/train.jsonl", "columns": {"prompt": "text"}}})
    )


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
    """The first training step of ours and of each peer."""
    found = peers()
    if not found:
        return []
    from toy_texts import make_base

    base = make_base(folder / "base", vocabulary=768, hidden=128, layers=3, seed=seed)
    write_texts(folder / "data", seed)
    ours, whole, others = [], [], {name: [] for name in found}
    for number in range(STEP_RUNS):  # in turns: the machine is faster at some times than at others
        ours.append(ours_to_the_first_step(folder, seed, base))
        whole.append(ours_to_the_first_step(folder, seed, None)[0])
        for name, program in found.items():
            command = one_step_of(name, program, str(base), folder / "data", str(folder / f"{name}-{number}"), str(seed))
            others[name].append(child_cpu_seconds(command, DISABLE_VERSION_CHECK="1")[0])
    own, stage = zip(*ours, strict=True)
    rows = [compared("first training step, embedded base made too", "ours, base given", "", whole, own, "CPU s")]
    for name, other in others.items():
        noted = "ours with plan, overlap check and first evaluation"
        rows.append(compared("first training step", name, "ratio < 1", own, other, "CPU s", noted))
        rows.append(compared("first training step, libraries and stage alone", name, "", stage, other, "CPU s"))
    return rows


if __name__ == "__main__":
    main(rows, __doc__)
