"""The two sides of the RL benchmarks: one small model, recorded rollouts, our Learner and TRL's GRPOTrainer on both.

Not a benchmark itself. Model: a Qwen3 decoder with random weights and a large vocabulary (random weights do for time and memory).
Rollouts: token ids drawn from a seed, lengths log-normal, advantages and old log-probs such that some tokens are clipped.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

LAYERS, HIDDEN = 2, 128
EPS_LOW, EPS_HIGH, KL = 0.2, 0.28, 0.04
PIECES = {"kl": {"k3": {"coef": KL}}}
LR = 1e-4


@dataclass(frozen=True)
class Recording:
    """How many rollouts, and how long."""

    groups: int = 2
    group_size: int = 8
    prompt_tokens: int = 48
    median_tokens: float = 32.0
    sigma: float = 0.8
    """Of the logarithm of the length: mean 44, a longest of about 120 among 16."""
    most_tokens: int = 160


def make_base(folder: Path, vocabulary: int, seed: int, layers: int = LAYERS, hidden: int = HIDDEN, stop_share: int = 0) -> Path:
    """A model folder: the embedded tokenizer, and a decoder whose vocabulary is at least as large.

    `stop_share`: one token in so many ends a completion, so that lengths are ragged (geometric) without training; 0: none added.
    """
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from factory.stages.models.embedded import make_embedded
    from factory.stages.models.shapes import EMBEDDED_TEXT

    base = make_embedded("embedded-text", folder, seed=seed, texts=["how much is seven plus two ?", "nine"] * 20)
    shape = {**EMBEDDED_TEXT, "vocab_size": vocabulary, "num_hidden_layers": layers, "hidden_size": hidden}
    shape.pop("model_type")
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(Qwen3Config(**shape))
    stops = {"eos_token_id": list(range(100, vocabulary, stop_share))} if stop_share else {}
    model.generation_config.update(do_sample=False, **stops)
    model.save_pretrained(str(base))
    return base


def loaded_model(base: Path, *, lora: bool, seed: int) -> Any:
    """Our LoadedModel; an adapter starts away from zero, so that all of it has a gradient."""
    from factory.config.schema import AdapterConfig, AdapterKind
    from factory.stages.models.load import load

    adapter = AdapterConfig(kind=AdapterKind.lora, rank=8, alpha=16, dropout=0.0) if lora else None
    loaded = load(base, precision="fp32", adapter=adapter, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in loaded.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0.0, 0.02, generator=generator)
    return loaded


def recorded_rows(loaded: Any, recording: Recording, seed: int) -> list[Any]:
    """`Row`s of the recording, longest first, as the loop deals them out."""
    from factory.stages.models.codec import Encoded
    from factory.stages.models.forward import token_logprobs
    from factory.stages.rl.objective import Row, make_batch
    from factory.stages.rl.rollouts import Rollout

    rng = random.Random(seed)
    vocabulary = loaded.model.config.vocab_size
    rows = []
    for place in range(recording.groups):
        size = rng.randint(recording.prompt_tokens // 2, recording.prompt_tokens)
        prompt = Encoded([rng.randrange(vocabulary) for _ in range(size)], [0] * size)
        rights = [index % 2 for index in range(recording.group_size)]
        for index, is_right in enumerate(rights):
            length = min(recording.most_tokens, max(1, round(rng.lognormvariate(0.0, recording.sigma) * recording.median_tokens)))
            ids = [rng.randrange(vocabulary) for _ in range(length)]
            rollout = Rollout(place, index, ids, [0.0] * length, True, 0)
            rollout.advantage = 0.935 if is_right else -0.935
            rows.append(Row(prompt, rollout, sample_id=str(place)))
    rows.sort(key=lambda row: -len(row.rollout.ids))
    with torch.no_grad():
        logp, _ = token_logprobs(loaded.model, make_batch(rows, loaded.codec, None))
    for row, own in zip(rows, logp, strict=True):
        now = own[len(row.prompt.ids) : row.length].tolist()
        row.rollout.logprobs = [one + rng.gauss(0.0, 0.15) for one in now]
        row.rollout.ref_logprobs = [one + rng.gauss(0.0, 0.3) for one in now]
    return rows


class Ours:
    """The loop's update of recorded rows: batches, the objective of preset `dapo` with a KL, the Learner's step."""

    def __init__(self, loaded: Any, folder: Path) -> None:
        from factory.config.schema import OptimConfig
        from factory.stages.learner import Learner
        from factory.stages.rl.config import RlConfig
        from factory.stages.rl.context import StepContext
        from factory.stages.rl.objective import PolicyObjective
        from factory.stages.rl.presets import resolve

        optim = OptimConfig(lr=LR, warmup_steps=0, min_lr_ratio=1.0, weight_decay=0.0, beta1=0.9, beta2=0.999, clip_norm=1.0)
        self.loaded = loaded
        self.learner = Learner(loaded, optim, 1000, folder, 0)
        chosen = resolve(RlConfig(preset="dapo", pieces=PIECES))
        self.objective = PolicyObjective(chosen, StepContext(0, 10, 0, 160, 8), temperature=1.0, kl_coef=KL)

    def step(self, rows: Sequence[Any], *, keep_weights: bool = False) -> dict[str, float]:
        """One update; the step's figures. `keep_weights`: only look at the gradient."""
        from factory.stages.rl.objective import make_batch
        from factory.stages.rl.padding import cut
        from factory.stages.rl.record import update_figures

        def look(norm: float) -> bool:
            if keep_weights:
                self.gradient = flat_gradient(self.loaded.model)
            return not keep_weights

        parts = cut([row.length for row in rows], 0)
        batches = [make_batch([rows[i] for i in part], self.loaded.codec, self.learner.device) for part in parts]
        found = update_figures([self.learner.step(batches, self.objective, allows=look)])
        return {
            "loss": found["loss"], "kl": found["kl"], "clip_low": found["clip_share_low"], "clip_high": found["clip_share_high"],
            "entropy": found["update_entropy"],
        }  # fmt: skip


class Theirs:
    """TRL's GRPOTrainer: its own `training_step` on recorded inputs, gradient clipping and its own optimiser."""

    def __init__(self, model: Any, codec: Any, folder: Path, rows: int) -> None:
        self.trainer = grpo_trainer(model, codec, folder, rows, beta=KL, loss_type="dapo", epsilon=EPS_LOW, epsilon_high=EPS_HIGH)
        self.trainer._prepare_inputs = lambda inputs: inputs
        self.trainer.create_optimizer()
        self.pad_id = codec.pad_id

    def inputs(self, rows: Sequence[Any]) -> dict[str, torch.Tensor]:
        """What TRL's own collation makes of the rollouts: prompts padded on the left, completions on the right."""
        width, length = max(len(row.prompt.ids) for row in rows), max(len(row.rollout.ids) for row in rows)

        def completions(of: Any, dtype: torch.dtype, fill: float) -> torch.Tensor:
            return torch.tensor([list(of(r.rollout)) + [fill] * (length - len(r.rollout.ids)) for r in rows], dtype=dtype)

        return {
            "prompt_ids": torch.tensor([[self.pad_id] * (width - len(r.prompt.ids)) + r.prompt.ids for r in rows]),
            "prompt_mask": torch.tensor([[0] * (width - len(r.prompt.ids)) + [1] * len(r.prompt.ids) for r in rows]),
            "completion_ids": completions(lambda r: r.ids, torch.long, self.pad_id),
            "completion_mask": completions(lambda r: [1] * len(r.ids), torch.long, 0),
            "old_per_token_logps": completions(lambda r: r.logprobs, torch.float32, 0.0),
            "ref_per_token_logps": completions(lambda r: r.ref_logprobs, torch.float32, 0.0),
            "advantages": torch.tensor([r.rollout.advantage for r in rows]),
            "num_items_in_batch": torch.tensor(float(sum(len(r.rollout.ids) for r in rows))),
        }

    def step(self, inputs: dict[str, torch.Tensor], *, keep_weights: bool = False) -> dict[str, float]:
        """One update; the metrics that TRL logs."""
        trainer = self.trainer
        loss = trainer.training_step(trainer.model, dict(inputs), None)
        if keep_weights:
            self.gradient = flat_gradient(trainer.model)
        else:
            trainer.accelerator.clip_grad_norm_(trainer.model.parameters(), 1.0)
            trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        metrics = {name: values[-1] for name, values in trainer._metrics["train"].items()}
        return {
            "loss": float(loss), "kl": metrics["kl"], "clip_low": metrics["clip_ratio/low_mean"],
            "clip_high": metrics["clip_ratio/high_mean"], "entropy": metrics["entropy"],
        }  # fmt: skip


def grpo_trainer(model: Any, codec: Any, folder: Path, rows: int, **settings: Any) -> Any:
    """TRL's trainer on CPU in fp32, with `rows` rollouts of a step as one batch."""
    import datasets
    from trl import GRPOConfig, GRPOTrainer

    defaults = {
        "output_dir": str(folder), "use_cpu": True, "bf16": False, "report_to": "none", "gradient_checkpointing": False,
        "num_generations": 8, "per_device_train_batch_size": rows, "max_completion_length": 160, "temperature": 1.0,
        "learning_rate": LR, "weight_decay": 0.0, "lr_scheduler_type": "constant", "max_grad_norm": 1.0, "logging_steps": 10_000,
        "save_strategy": "no", "disable_tqdm": True, "use_bias_correction_kl": False, "max_steps": 1000,
    }  # fmt: skip
    trainer = GRPOTrainer(
        model=model, args=GRPOConfig(**defaults | settings), processing_class=codec.tokenizer,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        train_dataset=datasets.Dataset.from_list([{"prompt": "how much is seven plus two ?"}] * rows),
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    return trainer


def flat_gradient(model: Any) -> torch.Tensor:
    """All gradients in one vector, in the order of the parameters."""
    return torch.cat([p.grad.flatten().clone() for _, p in sorted(model.named_parameters()) if p.grad is not None])


def same_model(loaded: Any) -> Any:
    """A copy for the other side, with the same weights, as transformers ships it: without what we put into its modules' place."""
    model = copy.deepcopy(loaded.model)
    for module in model.modules():
        module.__dict__.pop("forward", None)
    return model
