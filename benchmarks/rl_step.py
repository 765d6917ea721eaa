"""A whole RL step on CPU: prompts, rollouts, rewards, update. Our loop beside TRL's GRPOTrainer with `generate`.

    python benchmarks/rl_step.py [--quick] [--json FILE] [--seed N]

8 prompts x 8 completions a step, the embedded text model with random weights, of whose vocabulary a fortieth ends a completion
(lengths are geometric, mean about 40, at most 96). Rewards: half of the prompts are rewarded by chance, the others never, so that
half of the groups have no spread, as in real runs. Ours drops those before the update (`supply.fixed.drop_equal`); TRL has no such
setting. Ours scores in its pool of worker processes while others still generate; TRL calls the same function.

First: on the same completions, the gradient of our update (without the dropped groups) and of TRL's (with them) point the same way,
cosine at least 0.9999. Then steps in turn: CPU seconds of the trainer's process, one thread. Each side samples its own completions, so
the figure is per 1000 real completion tokens. Left out: the CPU time of our worker process, told in the note.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from table import REPEATS, WARM_UPS, Row, alone, compared, main, versions  # noqa: E402

from factory.contracts import Message, Sample, Status, Verdict  # noqa: E402

PROMPTS, GROUP, MOST, STOP_SHARE = 8, 8, 96, 40
LEAST_COSINE = 0.9999


def score(completion: str, question: str) -> float:
    """1 for a text of even length, where the question can be right at all."""
    return float(question.startswith("open") and len(completion) % 2 == 0)


class Even:
    """`score` as a verifier of the pool."""

    name, version = "even", "1"

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Right or wrong, never unparsable."""
        right = score(completion, sample.messages[0].content)
        return Verdict(right, Status.ok if right else Status.wrong, "")


VERIFIERS = {"even": Even()}
WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def question(number: int) -> str:
    """Every second one can be right; the number of words differs."""
    return " ".join(["open" if number % 2 else "shut", *(WORDS[(number * 7 + i) % 10] for i in range(2 + number % 12))])


def samples(split: str = "train", seed: int = 0, request: Any = None) -> list[Sample]:
    """The questions."""
    return [
        Sample(id=str(i), task="even", messages=(Message("user", question(i)),), reference="", split=split) for i in range(240)
    ]


def pack() -> Any:
    """A DomainPack in the parts that the RL stage touches."""
    from factory.contracts import Manifest

    manifest = Manifest(
        name="rl_step", title="Even", version="1", license="Apache-2.0", intended_use="benchmarks", not_for="anything else",
        tasks={"even": {"verifiers": {"even": 1.0}, "gate": None, "title": "even"}}, provides=("samples",),
    )  # fmt: skip
    return SimpleNamespace(manifest=manifest, samples=samples, verifiers=lambda: VERIFIERS)


def opened_loop(base: Path, workdir: Path, seed: int) -> Any:
    """The RL stage's loop (a context manager), with the settings that TRL has too."""
    from rl_sides import EPS_HIGH, EPS_LOW, LR

    from factory.config.schema import OptimConfig, Schedule
    from factory.contracts import DataRequest, RunContext
    from factory.stages.rl.assemble import assembled
    from factory.stages.rl.config import RlConfig

    workdir.mkdir()
    pieces = {
        "loss": {"clip": {"eps_low": EPS_LOW, "eps_high": EPS_HIGH}},
        "aggregator": "token_mean",
        "supply": {"fixed": {"drop_equal": True}},
    }
    optim = OptimConfig(
        lr=LR,
        warmup_steps=0,
        schedule=Schedule.constant,
        weight_decay=0.0,
        beta1=0.9,
        beta2=0.999,
        clip_norm=1.0,
        checkpoint_every=0,
    )
    config = RlConfig(
        preset="grpo",
        pieces=pieces,
        num_steps=100,
        samples=240,
        prompts_per_step=PROMPTS,
        group_size=GROUP,
        max_new_tokens=MOST,
        optim=optim,
    )
    build = {"precision": "fp32", "mixture": {}, "launch": {}, "pool": {"workers": 1}}
    ctx = RunContext(
        stage="rl", workdir=workdir, model_dir=base, pack=pack(), domain="rl_step:VERIFIERS", seed=seed, request=DataRequest(),
        build=build, log=lambda **_: None,
    )  # fmt: skip
    return assembled(config, ctx)


class Theirs:
    """TRL's trainer: its own generation, rewards, loss and optimiser."""

    def __init__(self, model: Any, codec: Any, folder: Path) -> None:
        from rl_sides import EPS_HIGH, EPS_LOW, grpo_trainer

        self.trainer = grpo_trainer(
            model, codec, folder, PROMPTS * GROUP, beta=0.0, loss_type="dapo", epsilon=EPS_LOW, epsilon_high=EPS_HIGH,
            max_completion_length=MOST,
        )  # fmt: skip
        self.trainer.reward_funcs = [self.reward]
        self.trainer.create_optimizer()
        self.codec, self.tokens = codec, 0

    def reward(self, prompts: Any, completion_ids: Any, **_: Any) -> list[float]:
        """The same score, and a count of the real tokens."""
        self.tokens = sum(map(len, completion_ids))
        # Both score the text before the stop token; TRL's own text has it.
        texts = [self.codec.completion(ids) for ids in completion_ids]
        return [score(text, prompt[-1]["content"]) for prompt, text in zip(prompts, texts, strict=True)]

    def step(self, questions: list[str], *, keep_weights: bool = False) -> None:
        """One RL step on these questions."""
        from rl_sides import flat_gradient

        inputs = [{"prompt": [{"role": "user", "content": q}]} for q in questions for _ in range(GROUP)]
        trainer = self.trainer
        trainer.training_step(trainer.model, inputs, None)
        if keep_weights:
            self.gradient = flat_gradient(trainer.model)
        else:
            trainer.accelerator.clip_grad_norm_(trainer.model.parameters(), 1.0)
            trainer.optimizer.step()
        trainer.optimizer.zero_grad()


def proved(loop: Any, theirs: Theirs) -> float:
    """Cosine of the two gradients on our first step's completions; the weights stay. Raises AssertionError below the least."""
    import torch
    from rl_sides import flat_gradient

    kept: dict[str, Any] = {}
    step = loop.learner.step

    def look(norm: float) -> bool:
        kept["gradient"] = flat_gradient(loop.learner.model)
        return False

    loop.learner.step = lambda batches, objective, allows=None: step(batches, objective, allows=look)
    try:
        collected, _ = loop.step(0)
    finally:
        loop.learner.step = step
    ids = [rollout.ids for group in collected.drawn for rollout in group.rollouts]
    single, theirs.trainer._generate_single_turn = theirs.trainer._generate_single_turn, lambda *_, **__: (ids, None)
    theirs.step([group.sample.messages[-1].content for group in collected.drawn], keep_weights=True)
    theirs.trainer._generate_single_turn = single
    if theirs.tokens != sum(map(len, ids)) or len(collected.kept) == len(collected.drawn):
        raise AssertionError("the recorded step must be the same and must have a group without spread")
    cosine = float(torch.nn.functional.cosine_similarity(kept["gradient"].double(), theirs.gradient.double(), dim=0))
    if cosine < LEAST_COSINE:
        raise AssertionError(f"the sides compute different gradients: cosine {cosine:.6f}")
    return cosine


def timed(seed: int, repeats: int, warm_ups: int) -> dict[str, Any]:
    """CPU seconds per 1000 real completion tokens of both sides, in turn."""
    import torch
    from rl_sides import make_base, same_model

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = make_base(folder / "base", 768, seed, layers=3, stop_share=STOP_SHARE)
        with opened_loop(base, folder / "rl", seed) as loop:
            theirs = Theirs(same_model(loop.learner.loaded), loop.learner.loaded.codec, folder / "trl")
            cosine = proved(loop, theirs)
            sides: dict[str, list[float]] = {"ours": [], "theirs": []}
            shares, kept = [], []
            for number in range(1, 1 + warm_ups + repeats):
                started = time.process_time()
                collected, figures = loop.step(number)
                seconds = time.process_time() - started
                sides["ours"].append(seconds / figures["generated_tokens"] * 1000)
                shares.append(figures["time_update_s"] / figures["time_s"])
                kept.append(len(collected.kept))
                questions = [group.sample.messages[-1].content for group in collected.drawn]
                started = time.process_time()
                theirs.step(questions)
                sides["theirs"].append((time.process_time() - started) / theirs.tokens * 1000)
    return {
        **{side: found[warm_ups:] for side, found in sides.items()}, "cosine": cosine, "update_share": sum(shares) / len(shares),
        "kept": sum(kept) / len(kept),
    }  # fmt: skip


def rows(quick: bool, seed: int) -> list[Row]:
    """One row."""
    repeats, warm_ups = (1, 1) if quick else (REPEATS, WARM_UPS)
    times = alone("rl_step:timed", {"seed": seed, "repeats": repeats, "warm_ups": warm_ups})
    note = (
        f"gradient cosine on the same completions {times['cosine']:.7f}; {times['kept']:.1f} of {PROMPTS} groups have spread and train; "
        f"{times['update_share']:.0%} of our step is the update"
    )
    against = f"TRL {versions()['trl']} GRPOTrainer"
    return [
        compared(
            f"RL step, {PROMPTS} prompts x {GROUP}",
            against,
            "ratio <= 0.5",
            times["ours"],
            times["theirs"],
            "CPU s / 1000 tokens",
            note,
        )
    ]


if __name__ == "__main__":
    main(rows, __doc__)
