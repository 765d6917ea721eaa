"""Rollout generation alone: our transformers engine beside `generate` and the continuous batching of transformers.

    python benchmarks/rollouts.py [--quick] [--json FILE] [--seed N]

64 prompts of ragged length, 8 completions each, sampled at temperature 1. A fortieth of the vocabulary ends a completion, so that
lengths are ragged on both sides alike (geometric, mean about 40, at most 128). The figure is CPU seconds for 1000 real completion
tokens, one thread; `tokens/s` is its inverse. First: greedy completions of ours and of `generate` are the same tokens; the log-probs that our
engine returns with sampled ones are those of the plain forward with whole logits. It also returns entropies; `generate` is asked for neither.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from table import REPEATS, WARM_UPS, Row, alone, compared, main, versions  # noqa: E402

VOCABULARY, LAYERS, HIDDEN = 1024, 3, 128
GROUP, MOST, STOP_SHARE = 8, 128, 40
LARGEST_GAP = 1e-4
"""Nats between a sampler's log-prob and that of the plain forward."""


class Bench:
    """The model and prompts that all sides share."""

    def __init__(self, num_prompts: int, seed: int, folder: Path) -> None:
        import torch
        from rl_sides import loaded_model, make_base

        from factory.stages.models.codec import Encoded

        torch.set_num_threads(1)
        self.loaded = loaded_model(make_base(folder / "base", VOCABULARY, seed, LAYERS, HIDDEN), lora=False, seed=seed)
        self.model, self.pad = self.loaded.model.eval(), self.loaded.codec.pad_id
        rng = random.Random(seed)
        self.stops = sorted(rng.sample([i for i in range(VOCABULARY) if i != self.pad], VOCABULARY // STOP_SHARE))
        self.loaded.codec.eos_ids = tuple(self.stops)
        sizes = [rng.randint(16, 48) for _ in range(num_prompts)]
        words = [i for i in range(VOCABULARY) if i != self.pad]
        self.prompts = [Encoded([rng.choice(words) for _ in range(size)], [0] * size) for size in sizes]

    def ours(self, seed: int, *, greedy: bool = False) -> list[tuple[int, list[int], list[float]]]:
        """(prompt, tokens, log-probs) of each completion, by the engine of the RL stage."""
        from factory.stages.rl.engines.transformers import TransformersEngine
        from factory.stages.rl.rollouts import Request, Sampling

        requests = [Request(place, None, prompt) for place, prompt in enumerate(self.prompts)]
        sampling = Sampling(1 if greedy else GROUP, MOST, 0.0 if greedy else 1.0)
        engine = TransformersEngine(self.loaded)
        return [(one.place, one.ids, one.logprobs) for one in engine.generate(requests, sampling, seed=seed)]

    def generate(self, seed: int, *, greedy: bool = False) -> list[tuple[int, list[int], list[float]]]:
        """As TRL calls it: every prompt as often as the group is large, padded on the left."""
        import torch

        torch.manual_seed(seed)
        copies = 1 if greedy else GROUP
        batch = self.loaded.codec.collate([p for p in self.prompts for _ in range(copies)], left=True)
        with torch.no_grad():
            out = self.model.generate(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], do_sample=not greedy, max_new_tokens=MOST,
                temperature=None if greedy else 1.0, top_k=0, top_p=1.0, eos_token_id=self.stops, pad_token_id=self.pad,
            )  # fmt: skip
        rows = out[:, batch["input_ids"].shape[1] :].tolist()
        return [(number // copies, self._cut(row), []) for number, row in enumerate(rows)]

    def continuous(self, seed: int) -> list[tuple[int, list[int], list[float]]]:
        """`generate_batch` of transformers."""
        import torch
        from transformers import ContinuousBatchingConfig, GenerationConfig

        torch.manual_seed(seed)
        config = GenerationConfig(
            do_sample=True,
            max_new_tokens=MOST,
            eos_token_id=self.stops,
            pad_token_id=self.pad,
            top_k=0,
            top_p=1.0,
            temperature=1.0,
        )
        inputs = [prompt.ids for prompt in self.prompts for _ in range(GROUP)]
        # Its own default takes what memory is free and was killed for it.
        memory = ContinuousBatchingConfig(num_blocks=256, max_batch_tokens=512)
        found = self.model.generate_batch(
            inputs=inputs, generation_config=config, continuous_batching_config=memory, progress_bar=False
        )
        if len(found) != len(inputs):
            raise AssertionError(f"continuous batching answered {len(found)} of {len(inputs)} requests")
        return [(0, self._cut(one.generated_tokens), []) for one in found.values()]

    def _cut(self, ids: Sequence[int]) -> list[int]:
        ends = [place for place, token in enumerate(ids) if token in set(self.stops)]
        return list(ids[: ends[0] + 1]) if ends else list(ids)

    def check(self, seed: int) -> float:
        """Raises AssertionError unless the sides compute the same; returns the largest gap of our log-probs, nats."""
        import torch

        from factory.stages.models.forward import logits_logprobs, model_inputs

        greedy = {place: ids for place, ids, _ in self.ours(seed, greedy=True)}
        other = {place: ids for place, ids, _ in self.generate(seed, greedy=True)}
        if greedy != other:
            raise AssertionError(f"greedy completions differ at prompts {[p for p in greedy if greedy[p] != other.get(p)]}")
        worst = 0.0
        for place, ids, logprobs in self.ours(seed)[:32]:
            prompt = self.prompts[place].ids
            batch = self.loaded.codec.collate([type(self.prompts[place])(prompt + ids, [0] * (len(prompt) + len(ids)))])
            with torch.no_grad():
                logits = self.model(**model_inputs(batch)).logits[0, len(prompt) - 1 : -1]
            wanted, _ = logits_logprobs(logits, torch.tensor(ids), 1.0, with_entropy=False)
            worst = max(worst, float((wanted - torch.tensor(logprobs)).abs().max()))
        if worst > LARGEST_GAP:
            raise AssertionError(f"the sampler's log-probs are off by up to {worst:.2e} nats")
        return worst

    def matmul_rate(self) -> float:
        """Products and sums per CPU second of a large fp32 product on this thread."""
        import torch

        a, b = torch.randn(512, 512), torch.randn(512, 512)
        for _ in range(3):
            a @ b
        started = time.process_time()
        for _ in range(50):
            a @ b
        return 50 * 2 * 512**3 / (time.process_time() - started)

    def operations(self, found: Sequence[tuple[int, list[int], list[float]]]) -> float:
        """Products and sums that the real tokens need: every weight of the matrices once a token, the prompt once a group."""
        matrices = sum(p.numel() for name, p in self.model.named_parameters() if p.dim() == 2)
        body = matrices - VOCABULARY * HIDDEN
        completion = sum(len(ids) for _, ids, _ in found)
        return 2.0 * (completion * matrices + sum(len(p.ids) for p in self.prompts) * body)


def per_thousand(side: Callable[[int], Sequence[tuple[int, list[int], list[float]]]], seed: int) -> float:
    """CPU seconds for 1000 real completion tokens."""
    started = time.process_time()
    found = side(seed)
    return (time.process_time() - started) / sum(len(ids) for _, ids, _ in found) * 1000


def timed(other: str, num_prompts: int, seed: int, repeats: int, warm_ups: int) -> dict[str, Any]:
    """Both sides in turn."""
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(num_prompts, seed, Path(name))
        gap = bench.check(seed)
        sides: dict[str, list[float]] = {"ours": [], "theirs": []}
        for number in range(warm_ups + repeats):
            sides["ours"].append(per_thousand(bench.ours, seed + number))
            sides["theirs"].append(per_thousand(getattr(bench, other), seed + number))
        rate, found = bench.matmul_rate(), bench.ours(seed)
        lengths = [len(ids) for _, ids, _ in found]
        own = {side: figures[warm_ups:] for side, figures in sides.items()}
        seconds = sorted(own["ours"])[len(own["ours"]) // 2] * sum(lengths) / 1000
        return {
            **own, "gap": gap, "mean": sum(lengths) / len(lengths), "longest": max(lengths), "rows": len(lengths),
            "rate": rate, "share": bench.operations(found) / seconds / rate,
        }  # fmt: skip


def rows(quick: bool, seed: int) -> list[Row]:
    """Against `generate` on all prompts, against continuous batching on an eighth of them (it takes long)."""
    repeats, warm_ups = (1, 0) if quick else (REPEATS, WARM_UPS)
    found = []
    transformers = f"transformers {versions()['transformers']}"
    for other, label, prompts in (("generate", "`generate`", 64), ("continuous", "continuous batching", 8)):
        settings = {
            "other": other,
            "num_prompts": 4 if quick else prompts,
            "seed": seed,
            "repeats": repeats,
            "warm_ups": warm_ups,
        }
        times = alone("rollouts:timed", settings)
        note = (
            f"{times['rows']} completions of {times['mean']:.0f} tokens (longest {times['longest']}); largest gap of log-probs "
            f"{times['gap']:.1e} nats; our {times['share']:.0%} of the matrix-product rate of this thread ({times['rate'] / 1e9:.0f} "
            "GFLOP/s); reach: 1.7 times the tokens/s, that is 0.588 of the time"
        )
        what = f"Rollouts, {settings['num_prompts']} prompts x {GROUP}"
        found.append(
            compared(
                what, f"{transformers} {label}", "ratio <= 0.588", times["ours"], times["theirs"], "CPU s / 1000 tokens", note
            )
        )
    return found


if __name__ == "__main__":
    main(rows, __doc__)
