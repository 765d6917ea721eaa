"""From easy to hard over the run, by tiers of difficulty, and an entropy bonus that follows the same stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from factory.errors import ConfigError
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.decks import Decks, pick
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.pieces.tiers import TIERS, TierRule, check_ends, eligible_only, stage_of
from factory.stages.rl.pool import PromptPool

if TYPE_CHECKING:
    from torch import Tensor

    from factory.stages.rl.tokens import TokenBatch


@piece(
    "sampler", "curriculum", formula="stage k of the run draws tier k (or tiers 1..k)",
    source="easy, medium, hard: VL-Cogito and MMedAgent-RL (guides B3.1, B3.8); text, captioned, caption-free: Infi-MMR (guides B10)",
    caveat="no source gives the length of the stages inside one run, so they are equal unless `ends` says otherwise",
)  # fmt: skip
@dataclass
class Curriculum:
    """Tiers in order. Within a tier every prompt comes once before any comes again."""

    tiers: list[str] = field(default_factory=lambda: list(TIERS))
    """In the order of the run. With by=meta.KEY: values of that field."""
    by: str = "offline"
    """`offline` (a select stage's pass rates), `latest`, or `meta.KEY`, a field of the samples."""
    ends: list[float] = field(default_factory=list)
    """Where each stage ends, as shares of the run: [0.2, 0.5, 1]. Empty: equal parts (ours)."""
    keep_earlier: bool = False
    """Stage k draws from all tiers up to k by their sizes, not from tier k alone."""
    easy_from: float = 1.0
    """Rates from here on are easy (MMedAgent-RL)."""
    hard_to: float = 0.0
    """Rates up to here are hard (MMedAgent-RL)."""
    unknown: str = "medium"
    """Tier of a prompt of which nothing is known (ours)."""

    def __post_init__(self) -> None:
        if not self.tiers or len(set(self.tiers)) < len(self.tiers):
            raise ValueError("tiers must name at least one tier, none twice.")
        check_ends(self.ends, len(self.tiers))
        self._rule = TierRule(self.by, self.easy_from, self.hard_to, self.unknown)
        self._decks = Decks()

    def draw(self, ctx: StepContext, pool: PromptPool, num: int) -> list[int]:
        """The next `num` eligible places; when the stage's tiers have none, those of the nearest tier, the harder one first.

        Raises:
            ConfigError: the pool has a tier that `tiers` does not order. TrainingError: no prompt is left.
        """
        sets = self._rule.sets(pool, "pieces.sampler.curriculum")
        if strangers := [tier for tier in sets if tier not in self.tiers]:
            raise ConfigError(
                f"rl: pieces.sampler.curriculum.tiers says nothing of {', '.join(strangers)}, which the pool has. Order them all."
            )
        left = eligible_only(pool, sets)
        stage = stage_of(ctx.progress, len(self.tiers), self.ends)
        ctx.metrics["curriculum_stage"] = float(stage)
        wanted = [
            self.tiers[tier] for tier in (range(stage + 1) if self.keep_earlier else (stage,)) if left.get(self.tiers[tier])
        ]
        if not wanted:
            nearest = sorted(range(len(self.tiers)), key=lambda tier: (abs(tier - stage), -tier))
            wanted = [next(self.tiers[tier] for tier in nearest if left.get(self.tiers[tier]))]
        sizes = {tier: float(len(left[tier])) for tier in wanted}
        return self._decks.deal(ctx, {tier: left[tier] for tier in wanted}, lambda rng, heaps: pick(rng, sizes), num)

    def state_dict(self) -> dict[str, Any]:
        """Draws per prompt."""
        return self._decks.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._decks.load_state_dict(state)


@piece(
    "auxiliary", "staged_entropy", formula="-gamma_stage * H(policy), gamma_easy <= gamma_medium < gamma_hard", needs={"entropy"},
    source="MMedAgent-RL (guides B3.8): gamma_easy about 0 < gamma_medium << gamma_hard",
    caveat="the paper gives no values, so all three are required; its order is checked",
)  # fmt: skip
@dataclass(frozen=True)
class StagedEntropy:
    """More exploration the harder the stage. Goes with sampler.curriculum of three tiers; give both the same `ends`."""

    easy: float
    medium: float
    hard: float
    ends: list[float] = field(default_factory=list)
    """As in sampler.curriculum."""

    def __post_init__(self) -> None:
        check_ends(self.ends, 3)
        if not 0 <= self.easy <= self.medium < self.hard:
            raise ValueError("want 0 <= easy <= medium < hard.")

    def coef(self, progress: float) -> float:
        """The coefficient at that share of the run."""
        return (self.easy, self.medium, self.hard)[stage_of(progress, 3, self.ends)]

    def __call__(self, ctx: StepContext, batch: TokenBatch) -> Tensor:
        """[B, T] per-token term, averaged by the aggregator as the policy loss is."""
        assert batch.entropy is not None, "declared as a need"
        return -self.coef(ctx.progress) * batch.entropy
