"""RACRO (arXiv 2506.04559): a caption earns what a frozen text reasoner makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.caption_answering import ASK, ask_about, check_ask, verified
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import Group


@piece(
    "hook", "racro", needs={"second_policy"}, source="RACRO, arXiv 2506.04559",
    formula="reward(caption) = verifier(answer of a frozen text model to caption + question)",
    caveat="greedy answers and the wording are ours; n 4, KL 1e-3 (k3), lr 1e-6 in the source. Use it with format=caption",
)  # fmt: skip
@dataclass(frozen=True)
class CaptionReward:
    """Replaces the reward of each caption; the reasoner's answer is kept in the rollout's field `answer`."""

    reasoner: str
    """Folder of the frozen local model, or `policy` (then it is the policy itself, as it is now)."""
    answer_tokens: int = 8192
    """The reasoner's limit."""
    temperature: float = 0.0
    ask: str = ASK
    when: ClassVar[str] = "after_reward"

    def __post_init__(self) -> None:
        check_ask(self.ask)
        if self.answer_tokens < 1 or self.temperature < 0:
            raise ValueError("answer_tokens must be 1 or more and temperature 0 or more.")

    def extra_tokens(self, max_new_tokens: int) -> int:
        """Most tokens generated beyond a rollout's own, for the plan."""
        return self.answer_tokens

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Ask, verify the answers, and give their rewards to the captions."""
        pairs = [(group.sample, rollout) for group in groups for rollout in group.rollouts]
        answers = ask_about(
            ctx, [(sample, rollout.text) for sample, rollout in pairs], ask=self.ask, reasoner=self.reasoner,
            max_new_tokens=self.answer_tokens, temperature=self.temperature,
        )  # fmt: skip
        scored = verified(ctx, [(sample, answer) for (sample, _), answer in zip(pairs, answers, strict=True)])
        for (_, rollout), answer in zip(pairs, scored, strict=True):
            rollout.reward, rollout.right, rollout.outcome = answer.reward, answer.right, None
            rollout.fields["answer"] = answer.text
