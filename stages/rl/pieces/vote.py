"""MM-UPT: no labels; the group's most frequent answer stands for the right one (arXiv 2505.22453)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.answer_text import canonical_answer, check_shape
from factory.stages.rl.pieces.parts import check_tasks, is_routed
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Group

if TYPE_CHECKING:
    from factory.rewards.mixture import Mixture


def leaders(answers: Sequence[str | None]) -> list[str]:
    """The most frequent answers, sorted; empty when more rollouts have no answer at all than any one answer."""
    counted = Counter(answers)
    if not counted:
        return []
    most = max(counted.values())
    return sorted(answer for answer, times in counted.items() if answer is not None and times == most)


@piece(
    "group_reward", "vote", formula="1 if the answer equals the group's most frequent one, else 0; in place of the mixture's value",
    source="MM-UPT, arXiv 2505.22453 (released code)",
    caveat="a tie is drawn at random; when no answer is what most have, nobody is rewarded (the source does not say)",
)  # fmt: skip
@dataclass(frozen=True)
class MajorityVote:
    """Sets outcome and `right`. The pack's verifiers still run and are recorded, so that the log shows how right the vote is."""

    shape: str = "think_answer"
    """How the answer is marked, a name of factory/rewards/formats.py; a format's field `answer` goes first."""
    marked_only: bool = False
    """True: text without the mark is no answer, as the source has it with boxes; False: it is read leniently."""
    tasks: list[str] = field(default_factory=list)
    """Tasks that it is for, the others keep their labels; none named: all."""

    def __post_init__(self) -> None:
        check_shape(self.shape)

    def check_mixture(self, mixture: Mixture) -> Sequence[str]:
        """Notes for the plan. Raises ConfigError for an unknown task."""
        voted = check_tasks(self.key, self.tasks, mixture)
        return [f"{self.key}: labels, weights and gates of {', '.join(voted)} are recorded and do not count; the vote does."]

    def apply(self, ctx: StepContext, group: Group) -> None:
        """Vote among the rollouts that are not masked."""
        if not is_routed(group, self.tasks):
            return
        live = group.live()
        answers = [canonical_answer(rollout, group.sample, self.shape, is_marked=self.marked_only) for rollout in live]
        tied = leaders(answers)
        label = ctx.rng(f"vote/{group.sample.id}").choice(tied) if tied else None
        for rollout, answer in zip(live, answers, strict=True):
            rollout.right = label is not None and answer == label
            rollout.outcome = float(rollout.right)
