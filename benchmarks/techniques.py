"""Every RL preset on the same seeded task, from the same start, with the same budget of generated tokens.

    python benchmarks/techniques.py --out FOLDER [--seeds 0 1 2] [--budget 40000] [--processes 2] [--only dapo grpo ...]

Start: the embedded text base, taught by a few lessons of `toy_task.py`. Each run is one process with one thread. Held-out words decide;
they choose nothing. Finished runs are kept in FOLDER, so a stopped benchmark goes on. The table goes to standard output.
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
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import toy_task  # noqa: E402

LESSONS, EPOCHS, SFT_LR, RL_LR = 360, 10, 2e-3, 3e-4
HELD_OUT, EVAL_EVERY_TOKENS, MAX_NEW_TOKENS, MOST_STEPS = 400, 10_000, 12, 120
GAIN = 0.08
"""Tokens to threshold: to this much more held-out accuracy than the start."""

NEEDS_ELSE = {"masked_view": "images", "judge_part": "a judge's score", "second_policy": "a second model"}
"""Needs that the toy task cannot meet, in words for the table."""

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


def context(workdir: Path, model: Path, seed: int, log: Any = lambda **_: None) -> Any:
    """A RunContext of the toy pack."""
    from factory.contracts import DataRequest, RunContext

    workdir.mkdir(parents=True, exist_ok=True)
    build = {"precision": "fp32", "mixture": {}, "launch": {}, "pool": {"workers": 1}}
    return RunContext(
        stage=workdir.name, workdir=workdir, model_dir=model, pack=toy_task.pack(), domain="toy_task:VERIFIERS", seed=seed,
        request=DataRequest(), build=build, log=log,
    )  # fmt: skip


def make_start(folder: Path, seed: int) -> Path:
    """The model all runs of a seed start from."""
    from factory.config.schema import OptimConfig
    from factory.stages.models.embedded import make_embedded
    from factory.stages.sft.config import SftConfig
    from factory.stages.sft.train import train

    model = folder / f"start-{seed}" / "model"
    if not model.is_dir():
        base = make_embedded("embedded-text", folder / f"base-{seed}", seed=seed, texts=toy_task.texts())
        optim = OptimConfig(lr=SFT_LR, warmup_steps=20, checkpoint_every=0)
        train(SftConfig(lessons=LESSONS, epochs=EPOCHS, batch_size=32, optim=optim), context(model.parent, base, seed))
    return model


def answers(loaded: Any) -> list[int]:
    """1 or 0 for each held-out question, greedy."""
    import torch

    from factory.contracts import DataRequest
    from factory.stages.models.generate import generate

    samples = toy_task.samples("test", 99, DataRequest(limit=HELD_OUT))
    prompts, right = [loaded.codec.prompt(sample.messages) for sample in samples], [0] * len(samples)
    was_training = loaded.model.training
    loaded.model.eval()
    for one in generate(loaded, prompts, max_new_tokens=MAX_NEW_TOKENS, temperature=0.0, generator=torch.Generator()):
        said = loaded.codec.completion(one.ids).split()
        right[one.prompt_index] = int(said == str(samples[one.prompt_index].reference).split())
    loaded.model.train(was_training)
    return right


def cpu_seconds() -> float:
    """Of this process and its finished and waited-for children."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def config_of(preset: str, changes: Mapping[str, Any]) -> Any:
    """The stage's config: everything but the pieces is the same for all."""
    from factory.config.schema import OptimConfig, Schedule
    from factory.stages.rl.config import RlConfig
    from factory.stages.rl.presets import resolve

    optim = OptimConfig(lr=RL_LR, warmup_steps=5, schedule=Schedule.constant, weight_decay=0.0, checkpoint_every=0)
    config = RlConfig(
        preset=preset, pieces=dict(changes), num_steps=MOST_STEPS, samples=1000, prompts_per_step=16, group_size=8,
        max_new_tokens=MAX_NEW_TOKENS, optim=optim,
    )  # fmt: skip
    if "demonstrations" in resolve(config).needs():
        config.prompts_from = "lessons"
    return config


def run_one(folder: Path, name: str, seed: int, budget: int) -> dict[str, Any]:
    """Train until the budget of generated tokens is spent; held-out accuracy on the way."""
    from factory.stages.rl.assemble import assembled

    preset, changes = WITHOUT.get(name, (name, {}))
    config = config_of(preset, changes)
    curve: list[tuple[int, float]] = []
    tokens, zero, replayed, asked, eval_s = 0, [], [], 0, 0.0
    began = cpu_seconds()
    with assembled(config, context(folder / "runs" / f"{name}-{seed}", make_start(folder, seed), seed)) as loop:
        right = start = answers(loop.learner.loaded)
        loop.rollout_log.begin()
        for step in range(config.num_steps):
            _, figures = loop.step(step)
            tokens += int(figures["generated_tokens"])
            zero.append(figures["zero_advantage_share"])
            replayed.append(figures.get("replay_share", 0.0))
            is_last = tokens >= budget or step + 1 == config.num_steps
            if is_last or tokens // EVAL_EVERY_TOKENS > asked:
                asked, before = tokens // EVAL_EVERY_TOKENS, cpu_seconds()
                right = answers(loop.learner.loaded)
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
        "| preset | held-out, by seed | gain | 95 % interval | learns | tokens to +8 points, by seed | steps | CPU s | zero-advantage share | replayed |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = []
    for name, runs in results.items():
        gain, low, high = paired_interval(runs)
        rows.append((gain, [
            f"`{name}`", ", ".join(f"{100 * sum(r['right']) / len(r['right']):.1f}" for r in runs), f"{100 * gain:+.1f}",
            f"[{100 * low:+.1f}, {100 * high:+.1f}]", "yes" if low > 0 else ("**harms**" if high < 0 else "**no**"),
            ", ".join(f"{t / 1000:.0f} k" if (t := to_threshold(r)) else "-" for r in runs),
            f"{statistics.mean(r['steps'] for r in runs):.0f}", f"{statistics.median(r['cpu_s'] for r in runs):.0f}",
            f"{statistics.mean(r['zero'] for r in runs):.2f}", f"{statistics.mean(r['replay'] for r in runs):.2f}",
        ]))  # fmt: skip
    lines += ["| " + " | ".join(cells) + " |" for _, cells in sorted(rows, key=lambda row: -row[0])]
    lines += [f"| `{name}` | not run: {why} | | | | | | | | |" for name, why in skipped.items()]
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


def chosen_names(only: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """(what to run, what cannot be run and why)."""
    from factory.stages.rl.presets import presets, resolve

    names, skipped = [], {}
    for name in [*presets(), *WITHOUT]:
        preset, changes = WITHOUT.get(name, (name, {}))
        if (only and name not in only) or preset not in presets():
            continue
        chosen = resolve(config_of(preset, changes))
        lacking = [NEEDS_ELSE[need] for need in sorted(chosen.needs()) if need in NEEDS_ELSE]
        if chosen.one("format").key != "format.pack":
            lacking.append("a pack whose answers stand in tags")
        if lacking:
            skipped[name] = "it needs " + " and ".join(lacking)
        else:
            names.append(name)
    return names, skipped


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budget", type=int, default=40_000, help="generated tokens of a run")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        name, seed = arguments.one[0], int(arguments.one[1])
        result = run_one(arguments.out, name, seed, arguments.budget)
        print(json.dumps(result))
        return
    names, skipped = chosen_names(arguments.only)
    for seed in arguments.seeds:
        make_start(arguments.out, seed)
    jobs = [(name, seed) for name in names for seed in arguments.seeds]
    began = time.monotonic()
    with ThreadPoolExecutor(arguments.processes) as pool:
        done = dict(zip(jobs, pool.map(lambda job: finished(arguments, *job), jobs), strict=True))
    failed = {name: text for (name, _), text in done.items() if isinstance(text, str)}
    results = {name: [done[name, seed] for seed in arguments.seeds] for name in names if name not in failed}
    skipped |= {name: f"it stopped: {text}" for name, text in failed.items()}
    starts = ", ".join(f"{100 * sum(r['start']) / len(r['start']):.1f}" for r in next(iter(results.values()), []))
    print(f"start by seed: {starts} %; seeds {arguments.seeds}, {arguments.budget} generated tokens a run, {HELD_OUT} held-out questions, "
          f"{time.monotonic() - began:.0f} s in all\n\n{table(results, skipped)}\n\n{savings(results)}")  # fmt: skip


def finished(arguments: argparse.Namespace, name: str, seed: int) -> dict[str, Any] | str:
    """The result of one run, from FOLDER or from a new process; its last error line when it failed."""
    path = arguments.out / f"{name.replace(' ', '')}-{seed}-{arguments.budget}.json"
    if not path.is_file():
        command = [
            sys.executable,
            __file__,
            "--out",
            str(arguments.out),
            "--budget",
            str(arguments.budget),
            "--one",
            name,
            str(seed),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if ran.returncode:
            return (ran.stderr.strip().splitlines() or ["no message"])[-1][:200]
        path.write_text(ran.stdout.strip().splitlines()[-1])
    return json.loads(path.read_text())


if __name__ == "__main__":
    main()
