"""Generated tokens until a held-out accuracy is reached: our default preset beside TRL's GRPOTrainer with its defaults.

    python benchmarks/tokens.py [--quick] [--json FILE] [--seed N]
    python benchmarks/tokens.py --changes '{"updates_per_rollout": 2}' [--seed N]    # our side alone, with other settings

The words of `toy_task.py`: the same SFT model, the same questions a step (16 x 8 rollouts), temperature, length limit, learning rate,
warm-up and reward on both sides. After every step both models answer the same 400 held-out words greedily; the threshold is reached when
the mean of the last three looks is 12 points above the start. A side that spends its budget without that counts as having spent it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import toy_task  # noqa: E402
from table import Row, alone, compared, main, versions  # noqa: E402

SEEDS, GAIN, LOOKS, BUDGET, GROUP = 5, 0.12, 3, 80_000, 8


def until_reached(look: Callable[[], float], step: Callable[[int], int], budget: int) -> dict[str, Any]:
    """Steps until the threshold: generated tokens, whether it was reached, and the accuracy after each step."""
    curve, tokens = [look()], 0
    for number in itertools.count():
        tokens += step(number)
        curve.append(look())
        is_reached = len(curve) > LOOKS and statistics.mean(curve[-LOOKS:]) >= curve[0] + GAIN
        if is_reached or tokens >= budget:
            return {"tokens": tokens if is_reached else budget, "reached": is_reached, "curve": curve}
    raise AssertionError


def shared_setup() -> Any:
    """The task and settings of both sides, with no end but the budget."""
    from techniques import SETUPS

    return replace(SETUPS["words"], most_steps=10_000)


def accuracy(loaded: Any, setup: Any) -> float:
    """Share of the held-out words that are right."""
    from techniques import answers

    return statistics.mean(answers(loaded, setup))


def ours(folder: str, seed: int, budget: int, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """Our RL stage with its default preset; `changes`: other settings, to try them."""
    from techniques import config_of, context, make_start

    from factory.stages.rl.assemble import assembled
    from factory.stages.rl.config import RlConfig

    setup = shared_setup()
    config = replace(config_of(RlConfig().preset, setup), **(changes or {}))
    start = make_start(Path(folder), seed, setup)
    with tempfile.TemporaryDirectory() as name, assembled(config, context(Path(name) / "rl", start, seed, toy_task)) as loop:
        loop.rollout_log.begin()
        return until_reached(
            lambda: accuracy(loop.learner.loaded, setup), lambda step: int(loop.step(step)[1]["generated_tokens"]), budget
        )


def theirs(folder: str, seed: int, budget: int) -> dict[str, Any]:
    """TRL with its own loss, advantage and clipping."""
    from rl_sides import grpo_trainer
    from techniques import make_start

    from factory.contracts import DataRequest
    from factory.stages.models.load import load

    setup = shared_setup()
    loaded = load(make_start(Path(folder), seed, setup), precision="fp32")
    questions = {sample.messages[-1].content: sample for sample in toy_task.samples("train", seed, DataRequest(limit=1000))}
    counted = 0

    def reward(prompts: Any, completion_ids: Any, **_: Any) -> list[float]:
        nonlocal counted
        counted = sum(map(len, completion_ids))
        texts = [loaded.codec.completion(ids) for ids in completion_ids]
        return [
            toy_task.VERIFIERS["exact"](text, questions[prompt[-1]["content"]]).score
            for text, prompt in zip(texts, prompts, strict=True)
        ]

    with tempfile.TemporaryDirectory() as name:
        trainer = grpo_trainer(
            loaded.model, loaded.codec, Path(name), setup.prompts * GROUP, max_completion_length=setup.max_new_tokens, learning_rate=setup.lr,
            lr_scheduler_type="constant_with_warmup", warmup_steps=5, max_steps=10_000,
        )  # fmt: skip
        trainer.reward_funcs = [reward]
        trainer.create_optimizer_and_scheduler(10_000)
        rng, order = random.Random(seed), list[str]()

        def step(number: int) -> int:
            if len(order) < setup.prompts:
                order.extend(rng.sample(sorted(questions), len(questions)))
            asked = [order.pop() for _ in range(setup.prompts)]
            trainer.training_step(
                trainer.model, [{"prompt": [{"role": "user", "content": q}]} for q in asked for _ in range(GROUP)], None
            )
            trainer.accelerator.clip_grad_norm_(trainer.model.parameters(), 1.0)
            trainer.optimizer.step()
            trainer.lr_scheduler.step()
            trainer.optimizer.zero_grad()
            return counted

        def look() -> float:
            found = accuracy(loaded, setup)
            trainer.model.train()
            return found

        return until_reached(look, step, budget)


def rows(quick: bool, seed: int) -> list[Row]:
    """One row."""
    count, budget = (1, 3000) if quick else (SEEDS, BUDGET)
    with tempfile.TemporaryDirectory() as folder:
        sides: dict[str, list[Any]] = {"ours": [], "theirs": []}
        for number in range(seed, seed + count):
            for side, found in sides.items():
                found.append(alone(f"tokens:{side}", {"folder": folder, "seed": number, "budget": budget}))
    told = {
        side: ", ".join(f"{one['tokens']}" + ("" if one["reached"] else " (not reached)") for one in found)
        for side, found in sides.items()
    }
    pairs = [own["tokens"] / other["tokens"] for own, other in zip(*sides.values(), strict=True)]
    from factory.stages.rl.config import RlConfig

    note = (
        f"preset {RlConfig().preset}; by seed {told['ours']} against {told['theirs']}; ratios {', '.join(f'{ratio:.2f}' for ratio in pairs)}, "
        f"mean {statistics.mean(pairs):.2f}; starts {', '.join(str(round(one['curve'][0], 3)) for one in sides['ours'])}"
    )
    against, tokens = (
        f"TRL {versions()['trl']} GRPOTrainer",
        {side: [one["tokens"] for one in found] for side, found in sides.items()},
    )
    what = f"tokens to +{GAIN:.0%} held-out, {count} seeds"
    return [compared(what, against, "ratio <= 0.6", tokens["ours"], tokens["theirs"], "tokens", note)]


def tried(arguments: list[str]) -> str:
    """One line of our side with other settings of its RL stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=json.loads, required=True, metavar="JSON", help="settings of the stage, as in a recipe")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = alone("tokens:ours", {"folder": folder, "seed": given.seed, "budget": BUDGET, "changes": given.changes})
    reached = "" if found["reached"] else " (not reached)"
    return f"{json.dumps(given.changes)}, seed {given.seed}: {found['tokens']} tokens{reached}, accuracy {found['curve'][0]:.3f} -> {found['curve'][-1]:.3f}"


if __name__ == "__main__":
    if "--changes" in sys.argv:
        sys.stdout.write(tried(sys.argv[1:]) + "\n")
    else:
        main(rows, __doc__)
