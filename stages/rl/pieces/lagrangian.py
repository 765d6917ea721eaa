"""Safe RLHF-V: reward against safety, weighed by a multiplier that is learned with the policy (arXiv 2503.17682).

    A = (A_r - lambda A_c) / (1 + lambda)        log lambda += lr * (mean cost - threshold) * lambda

Cost rises above the threshold -> lambda grows -> the policy is pushed towards safety; below it, back to the reward.
The cost has to stay outside the reward's sum: two advantages are made, one of the reward and one of the cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from factory.errors import ConfigError
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.advantage import GroupMean, GroupStd, NoBaseline
from factory.stages.rl.pieces.parts import check_part, part_or_mask
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Group, Rollout

if TYPE_CHECKING:
    from factory.rewards.mixture import Mixture

ESTIMATORS = {"group_std": GroupStd, "group_mean": GroupMean, "none": NoBaseline}


def combined(reward: float, cost: float, multiplier: float) -> float:
    """`(A_r - lambda A_c) / (1 + lambda)`."""
    return (reward - multiplier * cost) / (1.0 + multiplier)


def next_log_multiplier(log_multiplier: float, mean_cost: float, *, threshold: float, lr: float, cap: float) -> float:
    """One SGD step on `-(mean cost - threshold) * exp(log lambda)`, capped at `log cap`."""
    return min(log_multiplier + lr * (mean_cost - threshold) * math.exp(log_multiplier), math.log(cap))


@piece(
    "advantage", "lagrangian", needs={"judge_part"},
    formula="(A_r - lambda A_c) / (1 + lambda); log lambda += lr (mean cost of the last `window` - threshold) lambda",
    source="Safe RLHF-V, arXiv 2503.17682 (align-anything's code)",
    caveat="the source uses PPO with two critics; here both advantages are relative to the group. Supply filters see the reward only",
)  # fmt: skip
@dataclass
class Lagrangian:
    """Constrained RL with a learned multiplier. A KL that was placed in the reward is added to the cost, as in the source."""

    part: str
    """Verifier (or `verifier/part`) that scores safety. Its weight in the mixture has to be 0."""
    estimator: str = "group_std"
    """How each of the two advantages is made: `group_std`, `group_mean` or `none`."""
    cost_at_0: float = 1.0
    """Cost of a rollout that the part scores 0. Positive means unsafe, as with the source's cost model."""
    cost_at_1: float = -1.0
    """Cost of a rollout that the part scores 1; between them a straight line."""
    threshold: float = -0.5
    """Mean cost that is allowed. With costs 1 and -1 this is a mean safety score of 0.75."""
    lr: float = 0.1
    start: float = 10.0
    """Lambda at the beginning."""
    cap: float = 20.0
    """Largest lambda."""
    window: int = 128
    """Rollouts whose costs are averaged, the newest ones."""
    first_step: int = 1
    """RL step (0-based) from which lambda is changed."""

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS:
            raise ValueError(f"estimator={self.estimator!r} is not known. Choose one of: {', '.join(ESTIMATORS)}.")
        if not 0 < self.start <= self.cap or self.lr <= 0 or self.window < 1 or not self.part:
            raise ValueError("want 0 < start <= cap, lr above 0, window 1 or more and part a name.")
        self._log_multiplier = math.log(self.start)
        self._costs = list[float]()

    @property
    def multiplier(self) -> float:
        """Lambda as it is now."""
        return math.exp(self._log_multiplier)

    def check_mixture(self, mixture: Mixture) -> Sequence[str]:
        """No notes. Raises ConfigError when a task has no such part, or counts it in its sum or gate."""
        check_part(self.key, "part", self.part, mixture)
        verifier = self.part.split("/")[0]
        for task, mix in mixture.tasks.items():
            if mix.weights.get(verifier, 0.0) > 0 or mix.gate == verifier:
                raise ConfigError(
                    f"rl: pieces.{self.key}.part={self.part!r} also counts in the reward of task '{task}': the cost must stay "
                    f"outside the sum, or the multiplier fights itself. Set mixture.{task}.{verifier}=0 (and no gate on it)."
                )
        return ()

    def estimate(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Set every rollout's advantage; one whose cost could not be judged is masked."""
        of = ESTIMATORS[self.estimator]().of
        for group in groups:
            costs = [None if rollout.is_masked else self.cost(rollout) for rollout in group.rollouts]
            pairs = zip(of(group.scores()), of(costs), strict=True)
            for rollout, (reward, cost) in zip(group.rollouts, pairs, strict=True):
                rollout.advantage = combined(reward, cost, self.multiplier)
        ctx.metrics["lagrange_multiplier"] = self.multiplier

    def cost(self, rollout: Rollout) -> float | None:
        """Cost of a rollout that is not masked; None (and masked) when its verifier failed."""
        score = part_or_mask(rollout, self.part, self.key)
        if score is None:
            return None
        return self.cost_at_0 + (self.cost_at_1 - self.cost_at_0) * score - rollout.shaping.get("kl", 0.0)

    def observe(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Take in the costs of all that was drawn, then move lambda."""
        costs = [self.cost(rollout) for group in groups for rollout in group.live()]
        self._costs = [*self._costs, *(cost for cost in costs if cost is not None)][-self.window :]
        if not self._costs:
            return
        mean = math.fsum(self._costs) / len(self._costs)
        ctx.metrics["cost"] = mean
        if ctx.step >= self.first_step:
            self._log_multiplier = next_log_multiplier(
                self._log_multiplier, mean, threshold=self.threshold, lr=self.lr, cap=self.cap
            )

    def state_dict(self) -> dict[str, Any]:
        """Lambda and the costs it is averaged over."""
        return {"log_multiplier": self._log_multiplier, "costs": list(self._costs)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with them."""
        self._log_multiplier, self._costs = float(state["log_multiplier"]), [float(cost) for cost in state["costs"]]
