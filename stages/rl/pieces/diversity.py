"""AlphaDrive's diversity factor: an answer that many of the group give is worth less (arXiv 2503.07608)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.answer_text import canonical_answer, check_shape
from factory.stages.rl.pieces.parts import check_part, check_tasks, is_routed, part_score
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Group, Rollout

if TYPE_CHECKING:
    from factory.rewards.mixture import Mixture


def diversity_factors(answers: Sequence[object], cap: float = 0.2) -> list[float]:
    """`1 - min(cap, count of the same answer / G)` for each of the G answers, itself counted."""
    counted = Counter(answers)
    return [1.0 - min(cap, counted[answer] / len(answers)) for answer in answers]


@piece(
    "group_reward", "diversity", formula="reward * (1 - min(cap, count(same answer) / G))",
    source="AlphaDrive, arXiv 2503.07608", caveat="the class weights of the same formula are not published; they are the pack's",
)  # fmt: skip
@dataclass(frozen=True)
class Diversity:
    """Counts the whole group first, then scores. Added as the difference to the undiscounted reward."""

    cap: float = 0.2
    """Most that is taken off, as a share."""
    part: str = ""
    """Verifier whose share of the value is discounted (AlphaDrive: the F1, not the format); empty: the whole value."""
    tasks: list[str] = field(default_factory=list)
    """Only these tasks are discounted, and only they need the part; empty: all."""
    shape: str = "think_answer"
    """How the answer is marked, a name of factory/rewards/formats.py; a format's field `answer` goes first."""

    def __post_init__(self) -> None:
        check_shape(self.shape)
        if not 0 < self.cap <= 1 or "/" in self.part:
            raise ValueError("cap must be in (0, 1] and part a verifier.")

    def check_mixture(self, mixture: Mixture) -> Sequence[str]:
        """No notes. Raises ConfigError for an unknown task, or when a task does not have the verifier."""
        check_tasks(self.key, self.tasks, mixture)
        if self.part:
            check_part(self.key, "part", self.part, mixture, self.tasks)
        return ()

    def apply(self, ctx: StepContext, group: Group) -> None:
        """Add 0 or less to every rollout that is not masked."""
        if not is_routed(group, self.tasks):
            return
        live = group.live()
        factors = diversity_factors([canonical_answer(rollout, group.sample, self.shape) for rollout in live], self.cap)
        for rollout, factor in zip(live, factors, strict=True):
            rollout.shaping[self.key] = (factor - 1.0) * self._share(ctx, group, rollout)

    def _share(self, ctx: StepContext, group: Group, rollout: Rollout) -> float:
        """What of the value is discounted."""
        if not self.part or rollout.outcome is not None or (rollout.reward and rollout.reward.gated):
            return rollout.value or 0.0
        weights = ctx.mixture.of(group.sample.task).weights
        return weights[self.part] / sum(weights.values()) * (part_score(rollout, self.part, self.key) or 0.0)
