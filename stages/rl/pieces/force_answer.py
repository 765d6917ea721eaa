"""Let a rollout answer whose thinking ran into the length limit, so that a truncated thought still gets a fair score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.pieces.splice import extended, put, with_room, write_on
from factory.stages.rl.rollouts import Group, Rollout


@piece(
    "hook", "force_answer", formula="unfinished thinking + </think><answer> (not trained) + what the policy then answers",
    source="GLM-4.1V-Thinking, arXiv 2507.01006", needs={"more_generation"},
    caveat="the source gives no number of tokens for the answer; the default is ours",
)  # fmt: skip
@dataclass(frozen=True)
class ForceAnswer:
    """The answer is sampled by the present policy in the context it then sees, so the rollout stays on-policy."""

    opens: str = "<think>"
    """Begins the thinking. Empty: every truncated completion without `closes` counts as thinking."""
    closes: str = "</think>"
    """Ends the thinking; inserted."""
    answer: str = "\n<answer>"
    """Inserted after it; empty lets the policy open its answer itself."""
    answer_tokens: int = 64
    """Most tokens of the forced answer, beyond max_new_tokens (ours)."""
    when = "before_reward"

    def __post_init__(self) -> None:
        if not self.closes or self.answer_tokens < 1:
            raise ValueError("closes must be a mark and answer_tokens 1 or more.")

    def extra_tokens(self, max_new_tokens: int) -> int:
        """Most tokens generated beyond a rollout's own, for the plan."""
        return self.answer_tokens

    def is_open(self, rollout: Rollout) -> bool:
        """True when the length limit cut the completion inside its thinking."""
        if rollout.finished or any(span.role == "tool" for span in rollout.spans):
            return False
        return rollout.text.rfind(self.opens) > rollout.text.rfind(self.closes) if self.opens else self.closes not in rollout.text

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Finish this process's open rollouts, in place. One that fills the model's context stays as it is."""
        assert ctx.services is not None, "a run has services"
        inserted = ctx.services.encode(self.closes + self.answer)
        open_pairs = [(group.sample, one) for group in groups for one in group.rollouts if self.is_open(one)]
        pairs = with_room(ctx, open_pairs, len(inserted) + self.answer_tokens)
        for _, rollout in pairs:
            put(rollout, inserted, "injected")
        found = extended(ctx, "force_answer", pairs, max_new_tokens=self.answer_tokens, temperature=ctx.temperature)
        for (_, rollout), continuation in zip(pairs, found, strict=True):
            write_on(rollout, continuation)
            ctx.services.read(rollout)
        ctx.counts["forced_answers"] += len(pairs)
