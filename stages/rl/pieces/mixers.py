"""From the scores of several verifiers to one number per rollout, in other ways than the weighted mean.

Weights are the mixture's own (of the sample's task). What group rewards and penalties added (`shaping`) joins at the end.
A rollout whose value another piece has set (a vote) keeps that value; a stored one is mixed again from its stored scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.errors import TrainingError
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.advantage import sample_std
from factory.stages.rl.pieces.parts import check_part, part_or_mask
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import REPLAY, Group, Rollout

if TYPE_CHECKING:
    from factory.rewards.mixture import Mixture

Scores = dict[str, float]
"""verifier -> score in [0, 1], of the verifiers with a weight."""


def has_scores(rollout: Rollout) -> bool:
    """True when the rollout's verifier scores are what it is worth."""
    return rollout.reward is not None and (rollout.outcome is None or rollout.kind == REPLAY)


def counted_scores(ctx: StepContext, group: Group, rollout: Rollout) -> Scores:
    """Scores of the verifiers that weigh something; all 0 when the pack's gate is closed."""
    assert ctx.mixture is not None and rollout.reward is not None, "a verified rollout of a run"
    weights = ctx.mixture.of(group.sample.task).weights
    is_open = not rollout.reward.gated
    return {name: rollout.reward.parts[name] * is_open for name, weight in weights.items() if weight > 0}


def weighted_mean(scores: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """`sum(w s) / sum(w)` over the verifiers in `scores`; 0 without any."""
    total = math.fsum(weights[name] for name in scores)
    return math.fsum(weights[name] * score for name, score in scores.items()) / total if total else 0.0


def mix_each(
    ctx: StepContext, groups: Sequence[Group], combine: Callable[[Rollout, Scores, Mapping[str, float]], float | None]
) -> None:
    """Set `mixed` to `combine(rollout, scores, weights) + shaping`; None from `combine`: the rollout was masked."""
    for group in groups:
        weights = ctx.mixture.of(group.sample.task).weights
        for rollout in group.live():
            value = rollout.value
            if has_scores(rollout):
                value = combine(rollout, counted_scores(ctx, group, rollout), weights)
            if value is not None:
                rollout.mixed = value + math.fsum(rollout.shaping.values())


@piece(
    "mixer", "annealed", formula="sum_k w_k(s) r_k / sum_k w_k, w_k(s) = w_k exp(-s/T) for the named parts",
    source="SophiaVL-R1, arXiv 2505.17018",
)  # fmt: skip
@dataclass(frozen=True)
class Annealed:
    """Some verifiers count less and less. The divisor stays, so the others keep their scale."""

    parts: list[str]
    """Verifiers that fade."""
    horizon: int = 0
    """T, RL steps; 0: all steps of the stage."""

    def __post_init__(self) -> None:
        if not self.parts or self.horizon < 0:
            raise ValueError("parts must name a verifier and horizon be 0 or more.")

    def check_mixture(self, mixture: Mixture) -> Sequence[str]:
        """Notes of tasks in which nothing fades. Raises ConfigError when no task has a named verifier."""
        return _check_weighted(self.key, "parts", self.parts, mixture)

    def mix(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Set `mixed` of every rollout that is not masked."""
        fading = math.exp(-ctx.step / (self.horizon or ctx.total))

        def combine(rollout: Rollout, scores: Scores, weights: Mapping[str, float]) -> float:
            return weighted_mean({k: s * (fading if k in self.parts else 1.0) for k, s in scores.items()}, weights)

        mix_each(ctx, groups, combine)


@piece(
    "mixer", "format_gate", formula="0 if format == 0 else the others' weighted mean; hard: 1 if format == 1 and right, else 0",
    source="MoDoMoDo, arXiv 2505.24871 (gate); Vision-R1, arXiv 2503.06749, hard format result reward",
)  # fmt: skip
@dataclass(frozen=True)
class FormatGate:
    """Nothing for an answer in the wrong form. The format itself earns nothing."""

    part: str
    """The format verifier (weight 0 is enough)."""
    hard: bool = False
    """Vision-R1: only a right answer in the right form earns anything."""

    def check_mixture(self, mixture: Mixture) -> Sequence[str]:
        """No notes. Raises ConfigError when a task has no such part."""
        check_part(self.key, "part", self.part, mixture)
        return ()

    def mix(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Set `mixed` of every rollout that is not masked; one whose format could not be judged is masked."""

        def combine(rollout: Rollout, scores: Scores, weights: Mapping[str, float]) -> float | None:
            form = part_or_mask(rollout, self.part, self.key)
            if form is None:
                return None
            if self.hard:
                return float(form >= 1.0 and rollout.right)
            rest = {name: score for name, score in scores.items() if name != self.part}
            return 0.0 if form == 0.0 else weighted_mean(rest, weights)

        mix_each(ctx, groups, combine)


@piece(
    "mixer", "multiply", formula="the others' weighted mean x product of the factors' scores",
    source="BusterX, arXiv 2505.12620 (released code): acc * (fmt + 1), fmt in {-1, 0}",
)  # fmt: skip
@dataclass(frozen=True)
class Multiply:
    """A verifier that scales instead of adding. BusterX's fmt + 1 is a format score in {0, 1}."""

    factors: list[str]
    """Verifiers that multiply; their own weights do not count."""

    def __post_init__(self) -> None:
        if not self.factors:
            raise ValueError("factors must name a verifier.")

    def check_mixture(self, mixture: Mixture) -> Sequence[str]:
        """No notes. Raises ConfigError when a task has no such part."""
        for factor in self.factors:
            check_part(self.key, "factors", factor, mixture)
        return ()

    def mix(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Set `mixed` of every rollout that is not masked; one with a factor that failed is masked."""

        def combine(rollout: Rollout, scores: Scores, weights: Mapping[str, float]) -> float | None:
            factors = [part_or_mask(rollout, factor, self.key) for factor in self.factors]
            if None in factors:
                return None
            rest = {name: score for name, score in scores.items() if name not in self.factors}
            return math.prod(factors) * weighted_mean(rest, weights)  # type: ignore[arg-type]

        mix_each(ctx, groups, combine)


@piece(
    "mixer", "markov_gate", needs={"judge_part"},
    formula="context <= 0.4: reasoning = accuracy = 0; reasoning <= 0.4: accuracy = 0; then the weighted mean",
    source="HumanOmniV2, arXiv 2506.21277 (released code)",
)  # fmt: skip
@dataclass(frozen=True)
class MarkovGate:
    """An answer counts only when what it was made from counts. Order: format, context, reasoning, accuracy.

    Every weighted verifier that is not named here is accuracy.
    """

    context: str
    """Part with the score of the context."""
    reasoning: str
    """Part with the score of the reasoning."""
    format: str = ""
    """Part with the score of the form; 0 takes everything. Empty: no such gate."""
    threshold: float = 0.4
    """A score has to be above it."""

    def __post_init__(self) -> None:
        if not self.context or not self.reasoning or not 0 <= self.threshold < 1:
            raise ValueError("context and reasoning must be names and threshold in [0, 1).")

    def check_mixture(self, mixture: Mixture) -> Sequence[str]:
        """No notes. Raises ConfigError when a task has no such part."""
        for setting in ("format", "context", "reasoning"):
            if getattr(self, setting):
                check_part(self.key, setting, getattr(self, setting), mixture)
        return ()

    def mix(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Set `mixed` of every rollout that is not masked; one with a part that failed is masked."""
        mix_each(ctx, groups, self._combine)

    def _combine(self, rollout: Rollout, scores: Scores, weights: Mapping[str, float]) -> float | None:
        form = part_or_mask(rollout, self.format, self.key) if self.format else 1.0
        context = part_or_mask(rollout, self.context, self.key)
        reasoning = part_or_mask(rollout, self.reasoning, self.key)
        if form is None or context is None or reasoning is None:
            return None
        passes_context = context > self.threshold
        passes_reasoning = passes_context and reasoning > self.threshold
        opened = {self.format: True, self.context: True, self.reasoning: passes_context}
        kept = {name: score if opened.get(name, passes_reasoning) else 0.0 for name, score in scores.items()}
        return 0.0 if form == 0.0 else weighted_mean(kept, weights)


def z_scores(values: Sequence[float], eps: float) -> list[float]:
    """`(v - mean) / (std + eps)`, std with n-1; zeros for equal values or fewer than two."""
    if len(values) < 2 or max(values) == min(values):
        return [0.0] * len(values)
    mean = math.fsum(values) / len(values)
    divisor = sample_std(values, mean) + eps
    return [(value - mean) / divisor for value in values]


@piece(
    "mixer", "normalise_then_sum",
    formula="sum_k w_k zscore_group(r_k), then divided by its standard deviation over the batch + eps",
    source="GDPO, arXiv 2601.05242; eps 1e-4 as in TRL (multi_objective_aggregation)",
    caveat="the result already is an advantage: use it with advantage=none. Added terms are components with weight 1",
)  # fmt: skip
@dataclass(frozen=True)
class NormaliseThenSum:
    """A verifier that hardly varies pulls as hard as one that varies much, by its weight alone."""

    eps: float = 1e-4

    def __post_init__(self) -> None:
        if self.eps < 0:
            raise ValueError("eps must be 0 or more.")

    def check_mixture(self, mixture: Mixture) -> Sequence[str]:
        """A note for tasks with a gate."""
        gated = [task for task, mix in mixture.tasks.items() if mix.gate]
        return [f"{self.key}: gates come first ({', '.join(gated)}); the gated scores are then normalised."] if gated else []

    def mix(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Set `mixed` of every rollout that is not masked. Raises TrainingError for a rollout without verdicts."""
        sums = [(rollout, total) for group in groups for rollout, total in self._group(ctx, group)]
        # Every group's z-scores sum to 0, so the mean over the batch is 0 as well; a group of equals stays exactly 0.
        std = math.sqrt(math.fsum(t * t for _, t in sums) / (len(sums) - 1)) if len(sums) > 1 else 0.0
        for rollout, total in sums:
            rollout.mixed = total / (std + self.eps) if total else 0.0

    def _group(self, ctx: StepContext, group: Group) -> Iterator[tuple[Rollout, float]]:
        live = group.live()
        if not all(has_scores(rollout) for rollout in live):
            raise TrainingError(
                f"rl: {self.key} normalises verifier scores one by one, and a rollout of sample {group.sample.id!r} has none "
                "(injected, or replaced by a vote). Use mixer=weighted with that piece."
            )
        weights = ctx.mixture.of(group.sample.task).weights
        components = [
            {**counted_scores(ctx, group, rollout), **{f"+{k}": v for k, v in rollout.shaping.items()}} for rollout in live
        ]
        totals = [0.0] * len(live)
        for name in sorted({name for one in components for name in one}):
            scores = z_scores([one.get(name, 0.0) for one in components], self.eps)
            totals = [t + weights.get(name, 1.0) * z for t, z in zip(totals, scores, strict=True)]
        return zip(live, totals, strict=True)


def _check_weighted(piece_key: str, setting: str, parts: Sequence[str], mixture: Mixture) -> Sequence[str]:
    notes = []
    for task, mix in mixture.tasks.items():
        if not any(mix.weights.get(part, 0.0) > 0 for part in parts):
            notes.append(f"{piece_key}: none of {', '.join(parts)} has a weight in task '{task}', so nothing changes there.")
    if len(notes) == len(mixture.tasks):
        check_part(piece_key, setting, parts[0], mixture)
    return notes
