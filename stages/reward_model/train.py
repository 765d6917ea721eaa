"""The reward-model loop: pairs in, a backbone with a scalar head through the Learner, a scorer and its held-out figures out."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from factory.contracts import Outputs, Pair, RunContext
from factory.errors import DataError
from factory.rewards.formats import parse
from factory.stages.batches import DataOrder
from factory.stages.learner import Learner
from factory.stages.metrics import Throughput
from factory.stages.models.forward import model_inputs
from factory.stages.models.load import load
from factory.stages.models.scorer import ScorerSettings, encode_for_scoring, with_head
from factory.stages.pair_batches import PairBatches
from factory.stages.pairs import read_pairs
from factory.stages.reward_model.config import RewardModelConfig
from factory.stages.reward_model.held_out import held_out_figures, split_pairs
from factory.stages.reward_model.losses import LOSSES
from factory.stages.reward_model.objective import ScoreObjective, safety_signs

log = logging.getLogger(__name__)

FOLDER, FIGURES_FILE, LABELLED_FILE = "scorer", "held_out.json", "labelled.jsonl"


def train(config: RewardModelConfig, ctx: RunContext) -> Outputs:
    """Train on the pairs that are not held out, `epochs` times; resumes by itself from the newest checkpoint.

    Raises:
        DataError: no pairs, an unreadable one, a prompt that is too long, safety labels or a reference missing.
        TrainingError: loss or gradient not finite.
    """
    loss = LOSSES[config.objective]
    asked = replace(ctx, request=replace(ctx.request, options={**ctx.request.options, **config.pack}))
    pairs = read_pairs(config.pairs_from, asked, limit=config.pairs)
    if config.shape:
        pairs = [answers_alone(pair, config.shape) for pair in pairs]
    if len(pairs) < config.pairs:
        log.warning("%d pairs found, %d asked for; all of them are used", len(pairs), config.pairs)
    training, held_out = split_pairs(pairs, config.holdout)
    signs = torch.tensor(safety_signs(training)) if loss.needs_labels else None
    held_signs = safety_signs(held_out) if loss.needs_labels else []
    settings = ScorerSettings(config.objective, config.show_reference, config.max_length, config.shape)
    bare = load(ctx.model_dir, precision=ctx.build["precision"], adapter=config.adapter, seed=ctx.seed)
    order = DataOrder(len(training), config.epochs, config.batch_size, ctx.seed)
    learner = Learner.from_context(with_head(bare, settings, seed=ctx.seed), config.optim, order.num_steps, ctx)

    def columns(part: Sequence[int]) -> dict[str, Tensor]:
        if signs is None:
            return {}
        chosen, rejected = signs[list(part)].to(learner.device).unbind(dim=1)
        return {"chosen_sign": chosen, "rejected_sign": rejected}

    batches, objective = _batches(training, learner, config), ScoreObjective(loss)
    meter, figures = Throughput(), {}
    for step in range(learner.resume({"order": order}), order.num_steps):
        rows, num_cut = batches.step(order.indices(step), columns)
        figures = learner.step(rows, objective)
        if learner.is_main:
            row = {"step": step + 1, "total": order.num_steps, "truncated": num_cut}
            ctx.log(**row, **figures, **meter.lap(figures["tokens"]))
        learner.save_checkpoint_if_due(step + 1, {"order": order})
    metrics = {"last_step": figures, "num_pairs": len(training), "num_steps": order.num_steps}
    if held_out:
        scores = _batches(held_out, learner, config).measure(lambda batch: _score(learner, batch), config.batch_size)
        metrics["held_out"] = held_out_figures(scores, better_is=loss.better_is, signs=held_signs)
    if learner.is_main:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in labelled(held_out, by_safety=loss.needs_labels))
        (ctx.workdir / LABELLED_FILE).write_text("".join(lines), encoding="utf-8")
    return _save(learner, ctx, metrics)


def answers_alone(pair: Pair, shape: str) -> Pair:
    """The pair with the answers of both responses, without what leads to them. Raises DataError when one has no answer in this shape."""
    texts = []
    for side in ("chosen", "rejected"):
        parsed = parse(getattr(pair, side), shape)
        if parsed.answer is None:
            raise DataError(
                f"pair of sample {pair.sample.id}: its {side} response has no answer in the shape '{shape}': {parsed.reason}. "
                "Mend the pair, or set another shape of the stage."
            )
        texts.append(parsed.answer)
    return replace(pair, chosen=texts[0], rejected=texts[1])


def labelled(pairs: Sequence[Pair], *, by_safety: bool) -> Iterator[dict[str, Any]]:
    """The responses of pairs that were not trained on, as `judges.NAME.calibration` reads them.

    Args:
        by_safety: right is what the pair calls safe (for a cost model); else the preferred response is right.
    """
    for pair in pairs:
        for side in ("chosen", "rejected"):
            label = bool(pair.meta[f"{side}_safe"]) if by_safety else side == "chosen"
            yield {"sample": pair.sample.to_json(), "completion": getattr(pair, side), "label": label}


def _batches(pairs: Sequence[Pair], learner: Learner, config: RewardModelConfig) -> PairBatches:
    codec = learner.loaded.codec
    return PairBatches(
        pairs, learner, lambda sample, text: encode_for_scoring(sample, text, codec, show_reference=config.show_reference),
        max_length=config.max_length, cache_mb=config.cache_mb,
    )  # fmt: skip


def _score(learner: Learner, batch: dict[str, Tensor]) -> Tensor:
    return learner.model(**model_inputs(batch))


def _save(learner: Learner, ctx: RunContext, metrics: dict[str, Any]) -> Outputs:
    """Write the scorer and the held-out figures; no `model`, because no later stage may start from a scorer."""
    learner.save_model(ctx.workdir / FOLDER)
    if learner.is_main:
        text = json.dumps(metrics.get("held_out", {"pairs": 0}), indent=2)
        (ctx.workdir / FIGURES_FILE).write_text(text + "\n", encoding="utf-8")
    return Outputs(
        model=None, metrics=metrics | learner.setbacks.told(), files=(FOLDER, FIGURES_FILE, LABELLED_FILE, "metrics.jsonl")
    )
