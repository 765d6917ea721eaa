"""Forced rethinking: reopen finished rollouts with a doubt, and keep the new ending where it comes out right."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from factory.contracts import Sample
from factory.stages.rl.context import Continuation, StepContext
from factory.stages.rl.pieces.answer_text import tokens_over
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.pieces.splice import cut, extended, put, write_on
from factory.stages.rl.rollouts import EDITED, Group, Rollout, seed_of

NEUTRAL = ("Wait, let me think about this again.", "Wait, is there something that I have not looked at yet?")
DOUBLE_CHECK = "Wait, let me double check whether this is right."
MISTAKE = "Wait, there may be a mistake in this. Let me find it."
MARKS = ("Wait", "\\boxed", "<answer>", "\n")


@dataclass(frozen=True)
class _Attempt:
    sample: Sample
    place: int
    """Position in the group."""
    rollout: Rollout
    """A copy: what is kept of the original, and the trigger."""


@piece(
    "hook", "forced_rethinking",
    formula="rollout (maybe cut before its last mark) + trigger (not trained) + what the policy writes on, kept if it ends right",
    source="VL-Rethinker, arXiv 2504.08837 (released code)", needs={"more_generation", "more_verification"},
    caveat="the wording of the triggers is ours; the length and the waits are counted in what the policy wrote after the trigger",
)  # fmt: skip
@dataclass(frozen=True)
class ForcedRethinking:
    """An accepted rethinking replaces the rollout it came from, as kind `edited`; train it with `auxiliary.sft_selected`.

    The trigger depends on whether the answer was right, so rollouts are verified before and after.
    """

    probability: float = 0.65
    """Of reopening a finished rollout."""
    cut_share: float = 0.5
    """How often the rollout is cut back first to before the last of its marks; else the trigger follows its whole text."""
    marks: list[str] = field(default_factory=lambda: list(MARKS))
    """For answers in tags, `["</think>"]` with cut_share=1 goes on inside the thinking; after a whole text, a second answer
    block would leave the completion without a readable answer."""
    temperature: float = 0.9
    min_tokens: int = 30
    max_tokens: int = 1024
    """Of what the policy writes after the trigger."""
    max_waits: int = 4
    per_question: int = 2
    neutral: list[str] = field(default_factory=lambda: list(NEUTRAL))
    """Triggers for any answer; drawn from together with the one that fits."""
    if_right: str = DOUBLE_CHECK
    if_wrong: str = MISTAKE
    when = "after_reward"

    def __post_init__(self) -> None:
        if not (0 < self.probability <= 1 and 0 <= self.cut_share <= 1) or self.temperature <= 0:
            raise ValueError("probability must be in (0, 1], cut_share in [0, 1] and temperature above 0.")
        if not 1 <= self.min_tokens <= self.max_tokens or self.max_waits < 0 or self.per_question < 1:
            raise ValueError("needs 1 <= min_tokens <= max_tokens, max_waits of 0 or more and per_question of 1 or more.")
        if self.cut_share and not all(self.marks):
            raise ValueError("marks must not be empty texts.")

    def extra_tokens(self, max_new_tokens: int) -> int:
        """Most tokens generated beyond a rollout's own, for the plan."""
        return self.max_tokens

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Replace rollouts of this process's groups, in place in the group's list."""
        assert ctx.services is not None, "a run has services"
        attempts = [
            (group, attempt) for group in groups for place in range(len(group.rollouts))
            if (attempt := self._reopened(ctx, group, place)) is not None
        ]  # fmt: skip
        pairs = [(one.sample, one.rollout) for _, one in attempts]
        found = extended(ctx, "rethink", pairs, max_new_tokens=self.max_tokens, temperature=self.temperature)
        likely = []
        for (group, one), continuation in zip(attempts, found, strict=True):
            if self._looks_well(ctx, continuation):
                write_on(one.rollout, continuation)
                ctx.services.read(one.rollout)
                likely.append((group, one))
        ctx.services.verify([(one.sample, one.rollout) for _, one in likely])
        kept: dict[int, int] = {}
        for group, one in likely:
            if one.rollout.right and not one.rollout.is_masked and kept.get(id(group), 0) < self.per_question:
                kept[id(group)] = kept.get(id(group), 0) + 1
                group.rollouts[one.place] = one.rollout
        ctx.counts["rethinkings_tried"] += len(attempts)
        ctx.counts["rethinkings_kept"] += sum(kept.values())

    def _reopened(self, ctx: StepContext, group: Group, place: int) -> _Attempt | None:
        """The rollout cut and asked to think again; None when it is not chosen, cannot be reopened or fills the context."""
        rollout = group.rollouts[place]
        is_plain = not rollout.images and all(span.role != "tool" for span in rollout.spans)
        if rollout.is_masked or not rollout.finished or not is_plain:
            return None
        rng = random.Random(seed_of(ctx.seed, "rethink", ctx.step, group.sample.id, rollout.index))
        if rng.random() >= self.probability:
            return None
        assert ctx.services is not None, "a run has services"
        end = len(rollout.ids) - (rollout.ids[-1] in ctx.services.eos_ids)
        if rng.random() < self.cut_share:
            at = max((rollout.text.rfind(mark) for mark in self.marks), default=-1)
            if at >= 0:
                # The token that holds the mark's first character goes, with all after it.
                end = min(end, tokens_over(ctx.services.decode, rollout.ids, at, at + 1).start)
        opened = cut(rollout, end)
        opened.kind, opened.reward, opened.right, opened.shaping = EDITED, None, False, {}
        trigger = rng.choice([*self.neutral, self.if_right if rollout.right else self.if_wrong])
        before = ctx.services.decode(opened.ids)
        put(opened, ctx.services.encode(trigger if not before or before[-1].isspace() else f"\n{trigger}"), "injected")
        fits = ctx.services.room(group.sample, opened) >= self.max_tokens
        return _Attempt(group.sample, place, opened) if fits else None

    def _looks_well(self, ctx: StepContext, found: Continuation) -> bool:
        assert ctx.services is not None, "a run has services"
        if not found.finished or not self.min_tokens <= len(found.ids) <= self.max_tokens:
            return False
        return ctx.services.decode(found.ids).lower().count("wait") <= self.max_waits
