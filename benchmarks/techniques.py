"""Every RL preset on a seeded task, from the same start, with the same budget of generated tokens.

    python benchmarks/techniques.py --out FOLDER [--task words|images] [--seeds 0 1 2] [--processes 2] [--only dapo grpo ...]

Two tasks: `words` for presets that take any pack (`toy_task.py`, the embedded text base), `images` for those that want images or a form
of answer (`toy_images.py`, the embedded vision-language base), with GRPO beside them. Each run is one process with one thread.
Held-out questions decide; they choose nothing. Finished runs are kept in FOLDER, so a stopped benchmark goes on. The tables go to
standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import toy_images  # noqa: E402
import toy_task  # noqa: E402

EPOCHS, SFT_LR = 10, 2e-3
GAIN = 0.08
"""Tokens to threshold: to this much more held-out accuracy than the start."""


@dataclass(frozen=True)
class Setup:
    """One toy task and the settings that all of its runs share."""

    task: ModuleType
    base: str
    lessons: int
    lr: float
    budget: int
    """Generated tokens of a run."""
    eval_every: int
    """Generated tokens between two looks at the held-out questions."""
    held_out: int
    prompts: int
    max_new_tokens: int
    most_steps: int
    one_start: bool = False
    """True: one start for all seeds, because teaching it is most of the cost."""


SETUPS = {
    "words": Setup(toy_task, "embedded-text", 360, 3e-4, 40_000, 10_000, 400, 16, 12, 120),
    "images": Setup(toy_images, "embedded-vl", 420, 2e-4, 30_000, 10_000, 200, 16, 60, 40, one_start=True),
}

NEEDS_ELSE = {"judge_part": "a judge's score", "second_policy": "a second model"}
"""Needs that no toy task can meet, in words for the table."""

BESIDE_IMAGES = {"grpo on images": "grpo"}
"""What the presets of the image task are compared with; name -> preset."""

WITHOUT: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "dapo_oversample - filter": ("dapo_oversample", {"supply": "fixed"}),
    "dapo - refills": ("dapo", {"supply": "fixed"}),
    "rlcs - curriculum": ("rlcs", {"supply": "fixed", "sampler": "shuffled"}),
    "kimi_sampler - priority": ("kimi_sampler", {"sampler": "shuffled"}),
    "vl_rethinker - replay": ("vl_rethinker", {"resample": {"ssr": None}}),
    "exgrpo - replay": ("exgrpo", {"inject": None, "pool": None}),
    "arpo - replay": ("arpo", {"inject": None}),
}
"""Ablations: a preset without the piece that is said to save tokens; name -> (preset, changes)."""


def preset_of(name: str) -> tuple[str, Mapping[str, Any]]:
    """(preset, changes) of a row's name."""
    return WITHOUT.get(name, (BESIDE_IMAGES.get(name, name), {}))


def setup_of(name: str) -> Setup:
    """The task of a row: images for presets that hide parts of one, zoom, or ask for a form of their own."""
    from factory.stages.rl.config import RlConfig
    from factory.stages.rl.presets import resolve

    preset, changes = preset_of(name)
    chosen = resolve(RlConfig(preset=preset, pieces=dict(changes)))
    wants_images = "masked_view" in chosen.needs() or chosen.one("format").key != "format.pack"
    return SETUPS["images" if wants_images or name in BESIDE_IMAGES else "words"]


def context(workdir: Path, model: Path, seed: int, task: ModuleType) -> Any:
    """A RunContext of the toy pack."""
    from factory.contracts import DataRequest, RunContext

    workdir.mkdir(parents=True, exist_ok=True)
    build = {"precision": "fp32", "mixture": {}, "launch": {}, "pool": {"workers": 1}}
    return RunContext(
        stage=workdir.name, workdir=workdir, model_dir=model, pack=task.pack(), domain=f"{task.__name__}:VERIFIERS", seed=seed,
        request=DataRequest(), build=build, log=lambda **_: None,
    )  # fmt: skip


def make_start(folder: Path, seed: int, setup: Setup) -> Path:
    """The model all runs of a seed start from."""
    from factory.config.schema import OptimConfig
    from factory.stages.models.embedded import make_embedded
    from factory.stages.sft.config import SftConfig
    from factory.stages.sft.train import train

    seed, task = 0 if setup.one_start else seed, setup.task
    model = folder / f"start-{task.__name__}-{seed}" / "model"
    if not model.is_dir():
        images = task.images() if setup.base == "embedded-vl" else ()
        raw = folder / f"base-{task.__name__}-{seed}"
        base = make_embedded(setup.base, raw, seed=seed, texts=task.texts(), images=images)
        optim = OptimConfig(lr=SFT_LR, warmup_steps=20, checkpoint_every=0)
        train(
            SftConfig(lessons=setup.lessons, epochs=EPOCHS, batch_size=32, optim=optim), context(model.parent, base, seed, task)
        )
    return model


def answers(loaded: Any, setup: Setup) -> list[int]:
    """1 or 0 for each held-out word, greedy."""
    import torch

    from factory.contracts import DataRequest
    from factory.stages.models.generate import generate

    samples = setup.task.samples("test", 99, DataRequest(limit=setup.held_out))
    prompts, right = [loaded.codec.prompt(sample.messages) for sample in samples], [0] * len(samples)
    was_training = loaded.model.training
    loaded.model.eval()
    for one in generate(loaded, prompts, max_new_tokens=setup.max_new_tokens, temperature=0.0, generator=torch.Generator()):
        said = loaded.codec.completion(one.ids).split()
        right[one.prompt_index] = int(said == str(samples[one.prompt_index].reference).split())
    loaded.model.train(was_training)
    return right


def answers_in_form(loop: Any, setup: Setup) -> list[int]:
    """1 or 0 for each held-out question in the preset's own form, greedy, its zooms answered; rewards are left out."""
    from factory.contracts import DataRequest
    from factory.stages.rl.presets import resolve

    collector, config = loop.collector, loop.config
    bare = resolve(replace(config, pieces={**config.pieces, "reward": None, "group_reward": None, "kl": None}))
    samples = setup.task.samples("test", 99, DataRequest(limit=setup.held_out))
    ctx = replace(loop.context(0), group_size=1, temperature=0.0, metrics={})
    greedy = replace(collector.sampling, temperature=0.0, top_p=1.0, top_k=0)
    collector = replace(collector, chosen=bare, sampling=greedy, watch=None, _prompts={})
    return [int(group.rollouts[0].right) for group in collector.roll_out(ctx, samples, 0)]


def cpu_seconds() -> float:
    """Of this process and its finished and waited-for children."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def config_of(name: str, setup: Setup) -> Any:
    """The stage's config: everything but the pieces is the same for all."""
    from factory.config.schema import OptimConfig, Schedule
    from factory.stages.rl.config import RlConfig
    from factory.stages.rl.presets import resolve

    preset, changes = preset_of(name)
    optim = OptimConfig(lr=setup.lr, warmup_steps=5, schedule=Schedule.constant, weight_decay=0.0, checkpoint_every=0)
    config = RlConfig(
        preset=preset, pieces=dict(changes), num_steps=setup.most_steps, samples=1000, prompts_per_step=setup.prompts, group_size=8,
        max_new_tokens=setup.max_new_tokens, optim=optim,
    )  # fmt: skip
    if "demonstrations" in resolve(config).needs():
        config.prompts_from = "lessons"
    return config


def run_one(folder: Path, name: str, seed: int, budget: int) -> dict[str, Any]:
    """Train until the budget of generated tokens is spent; held-out accuracy on the way."""
    from factory.stages.rl.assemble import assembled

    setup = setup_of(name)
    config = config_of(name, setup)
    curve: list[tuple[int, float]] = []
    tokens, zero, replayed, asked, eval_s = 0, [], [], 0, 0.0
    began, start_model = cpu_seconds(), make_start(folder, seed, setup)
    with assembled(config, context(folder / "runs" / f"{name}-{seed}", start_model, seed, setup.task)) as loop:

        def look() -> list[int]:
            return answers(loop.learner.loaded, setup) if setup.task is toy_task else answers_in_form(loop, setup)

        before = cpu_seconds()
        right = start = look()
        eval_s += cpu_seconds() - before
        loop.rollout_log.begin()
        for step in range(config.num_steps):
            _, figures = loop.step(step)
            tokens += int(figures["generated_tokens"])
            zero.append(figures["zero_advantage_share"])
            replayed.append(figures.get("replay_share", 0.0))
            is_last = tokens >= budget or step + 1 == config.num_steps
            if is_last or tokens // setup.eval_every > asked:
                asked, before = tokens // setup.eval_every, cpu_seconds()
                right = look()
                curve.append((tokens, sum(right) / len(right)))
                eval_s += cpu_seconds() - before
            if is_last:
                break
    return {
        "name": name, "seed": seed, "start": start, "right": right, "curve": curve, "tokens": tokens, "steps": len(zero),
        "cpu_s": cpu_seconds() - began - eval_s, "zero": statistics.mean(zero), "replay": statistics.mean(replayed),
    }  # fmt: skip


def to_threshold(run: Mapping[str, Any]) -> int | None:
    """Generated tokens until the held-out accuracy first was `GAIN` above the start; None if never."""
    wanted = sum(run["start"]) / len(run["start"]) + GAIN
    return next((tokens for tokens, accuracy in run["curve"] if accuracy >= wanted), None)


def paired_interval(runs: Sequence[Mapping[str, Any]], resamples: int = 2000) -> tuple[float, float, float]:
    """Mean gain over seeds and questions with a 95 % bootstrap interval over questions (the same ones for all seeds)."""
    per_question = [
        statistics.mean(after - before for before, after in pairs)
        for pairs in zip(*(zip(run["start"], run["right"], strict=True) for run in runs), strict=True)
    ]
    rng, size = random.Random(0), len(per_question)
    means = sorted(statistics.fmean(rng.choices(per_question, k=size)) for _ in range(resamples))
    return statistics.fmean(per_question), means[int(0.025 * resamples)], means[int(0.975 * resamples)]


def table(results: Mapping[str, list[dict[str, Any]]], skipped: Mapping[str, str]) -> str:
    """One row a preset, best first; those that do not learn and those that were not run are listed as such."""
    lines = [
        "| preset | start, by seed | held-out, by seed | gain | 95 % interval | learns | tokens to +8 points, by seed | steps | CPU s | zero-advantage share | replayed |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = []
    for name, runs in results.items():
        gain, low, high = paired_interval(runs)
        rows.append((gain, [
            f"`{name}`", ", ".join(f"{100 * sum(r['start']) / len(r['start']):.1f}" for r in runs),
            ", ".join(f"{100 * sum(r['right']) / len(r['right']):.1f}" for r in runs), f"{100 * gain:+.1f}",
            f"[{100 * low:+.1f}, {100 * high:+.1f}]", "yes" if low > 0 else ("**harms**" if high < 0 else "**no**"),
            ", ".join(f"{t / 1000:.0f} k" if (t := to_threshold(r)) else "-" for r in runs),
            f"{statistics.mean(r['steps'] for r in runs):.0f}", f"{statistics.median(r['cpu_s'] for r in runs):.0f}",
            f"{statistics.mean(r['zero'] for r in runs):.2f}", f"{statistics.mean(r['replay'] for r in runs):.2f}",
        ]))  # fmt: skip
    lines += ["| " + " | ".join(cells) + " |" for _, cells in sorted(rows, key=lambda row: -row[0])]
    lines += [f"| `{name}` | not run: {why} | | | | | | | | | |" for name, why in skipped.items()]
    return "\n".join(lines)


def savings(results: Mapping[str, list[dict[str, Any]]]) -> str:
    """Tokens to the threshold with a piece over tokens without it, seed by seed; and the difference in what was reached."""
    lines = [
        "| with | without | tokens to threshold, with / without by seed | final accuracy, with - without (points, 95 %) |",
        "| --- | --- | --- | --- |",
    ]
    for ablation, (preset, _) in WITHOUT.items():
        if preset not in results or ablation not in results:
            continue
        ratios = []
        for one, other in zip(results[preset], results[ablation], strict=True):
            a, b = to_threshold(one), to_threshold(other)
            ratios.append(f"{a / b:.2f}" if a and b else ("only with" if a else "only without" if b else "neither"))
        pairs = [{"start": o["right"], "right": w["right"]} for w, o in zip(results[preset], results[ablation], strict=True)]
        gain, low, high = paired_interval(pairs)
        lines.append(
            f"| `{preset}` | `{ablation}` | {', '.join(ratios)} | {100 * gain:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] |"
        )
    return "\n".join(lines)


def chosen_names(only: Sequence[str], task: str) -> tuple[list[str], dict[str, str]]:
    """(what to run on a task, what cannot be run and why)."""
    from factory.stages.rl.presets import presets, resolve

    names, skipped = [], {}
    for name in [*presets(), *WITHOUT, *BESIDE_IMAGES]:
        if (only and name not in only) or preset_of(name)[0] not in presets() or setup_of(name) is not SETUPS[task]:
            continue
        needs = resolve(config_of(name, SETUPS[task])).needs()
        lacking = [NEEDS_ELSE[need] for need in sorted(needs) if need in NEEDS_ELSE]
        if lacking:
            skipped[name] = "it needs " + " and ".join(lacking)
        else:
            names.append(name)
    return names, skipped


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--task", choices=sorted(SETUPS), default="", help="only this task")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budget", type=int, default=0, help="generated tokens of a run; 0: the task's own")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        name, seed = arguments.one[0], int(arguments.one[1])
        print(json.dumps(run_one(arguments.out, name, seed, arguments.budget)))
        return
    for task in [arguments.task] if arguments.task else ["words", "images"]:
        print(f"## {task}\n\n{measured(arguments, task)}\n")


def measured(arguments: argparse.Namespace, task: str) -> str:
    """The tables of one task, after what is missing was run."""
    names, skipped = chosen_names(arguments.only, task)
    setup, began = SETUPS[task], time.monotonic()
    budget = arguments.budget or setup.budget
    jobs = [(name, seed) for seed in arguments.seeds for name in names]
    for seed in arguments.seeds if jobs else []:
        make_start(arguments.out, seed, setup)
    with ThreadPoolExecutor(arguments.processes) as pool:
        done = dict(zip(jobs, pool.map(lambda job: finished(arguments.out, *job, budget), jobs), strict=True))
    failed = {name: text for (name, _), text in done.items() if isinstance(text, str)}
    results = {name: [done[name, seed] for seed in arguments.seeds] for name in names if name not in failed}
    skipped |= {name: f"it stopped: {text}" for name, text in failed.items()}
    lines = [f"seeds {arguments.seeds}, {budget} generated tokens a run (at most {setup.most_steps} steps), {setup.held_out} held-out "
             f"questions, {time.monotonic() - began:.0f} s in all", table(results, skipped)]  # fmt: skip
    return "\n\n".join([*lines, savings(results)] if any(name in results for name in WITHOUT) else lines)


def finished(out: Path, name: str, seed: int, budget: int) -> dict[str, Any] | str:
    """The result of one run, from `out` or from a new process; its last error line when it failed."""
    path = out / f"{name.replace(' ', '')}-{seed}-{budget}.json"
    if not path.is_file():
        command = [sys.executable, __file__, "--out", str(out), "--budget", str(budget), "--one", name, str(seed)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if ran.returncode:
            return (ran.stderr.strip().splitlines() or ["no message"])[-1][:200]
        path.write_text(ran.stdout.strip().splitlines()[-1])
    return json.loads(path.read_text())


if __name__ == "__main__":
    main()
