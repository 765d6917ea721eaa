"""SOPHIA's semi-off-policy learning: the policy's own caption, a stronger text model's reasoning, learned together when right.

For each of the group's captions c the reasoner writes N traces. R(c) is the share of right ones. Where R(c) > alpha the
shortest right trace y is joined to the caption, and the pair (c, y) is learned with weight 1; everything else has weight 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from factory.contracts import Sample
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.caption_answering import ASK, ask_about, check_ask, verified
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.rollouts import EDITED, Group, Rollout, Span
from factory.stages.rl.tokens import Surrogate, TokenBatch

if TYPE_CHECKING:
    from torch import Tensor


@piece(
    "loss", "weighted_sft", formula="-max(A, 0) logp",
    source="SOPHIA, arXiv 2507.16814: R(c, y) grad log pi(c, y); with advantage `none` the weight is the reward itself",
)  # fmt: skip
@dataclass(frozen=True)
class WeightedSft:
    """Log-likelihood of the rollouts that earned something; no ratio, and nothing is pushed down."""

    def __call__(self, batch: TokenBatch) -> Surrogate:
        """Per-token loss [B, T]."""
        weight: Tensor = batch.advantages.clamp(min=0.0)
        return Surrogate(-weight * batch.logp)


@piece(
    "hook", "sophia", needs={"second_policy"}, source="SOPHIA, arXiv 2507.16814",
    formula="outcome 1 and text c + y when R(c) = mean_j R(y_j) > alpha, R(y) = 1 and y is the shortest right trace; else outcome 0",
    caveat="alpha and the sizes are not given, so they have to be set (K captions = group_size); the separator and the reasoner's "
    "prompt are ours. Use it with advantage=none, loss=weighted_sft and a format whose completions begin with a caption",
)  # fmt: skip
@dataclass(frozen=True)
class Sophia:
    """Edits each rollout: its caption stays, a teacher's trace follows."""

    reasoner: str
    """Folder of the stronger local text model, or `policy`."""
    alpha: float
    """A caption counts when more than this share of its traces is right."""
    num_traces: int
    """N, traces per caption."""
    trace_tokens: int
    """Longest trace, tokens."""
    temperature: float
    """At which the reasoner writes; 0 would write one trace N times."""
    caption_end: str = ""
    """Text that ends the caption inside a completion; empty: the whole completion is the caption."""
    separator: str = "\n\n"
    """Between caption and trace."""
    ask: str = ASK
    when: ClassVar[str] = "after_reward"

    def __post_init__(self) -> None:
        check_ask(self.ask)
        if not 0 <= self.alpha < 1 or self.num_traces < 1 or self.trace_tokens < 1 or self.temperature <= 0:
            raise ValueError("alpha must be in [0, 1), num_traces and trace_tokens 1 or more, temperature above 0.")

    def extra_tokens(self, max_new_tokens: int) -> int:
        """Most tokens generated beyond a rollout's own, for the plan."""
        return self.num_traces * self.trace_tokens

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Set outcome and, where a trace was chosen, the tokens of every rollout."""
        pairs = [(group.sample, rollout) for group in groups for rollout in group.rollouts]
        lengths = [self._caption_length(ctx, rollout) for _, rollout in pairs]
        whole = [(pair, length) for pair, length in zip(pairs, lengths, strict=True) if length]
        for (_, rollout), length in zip(pairs, lengths, strict=True):
            if not length:
                rollout.outcome, rollout.right = 0.0, False
        traces = self._traces(ctx, [(sample, rollout, length) for (sample, rollout), length in whole])
        for number, ((_, rollout), length) in enumerate(whole):
            self._judge(ctx, rollout, length, traces[number * self.num_traces : (number + 1) * self.num_traces])

    def _caption_length(self, ctx: StepContext, rollout: Rollout) -> int:
        """Tokens of the caption; 0 when it is not whole."""
        assert ctx.services is not None, "a run has services"
        if not self.caption_end:
            return sum(token not in ctx.services.eos_ids for token in rollout.ids) if rollout.finished else 0
        # The shortest prefix whose text holds the mark; a longer prefix never loses it.
        low, high = 0, len(rollout.ids)
        if self.caption_end not in ctx.services.decode(rollout.ids):
            return 0
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.caption_end in ctx.services.decode(rollout.ids[:middle]) else (middle + 1, high)
        return low

    def _traces(self, ctx: StepContext, captions: Sequence[tuple[Sample, Rollout, int]]) -> list[Rollout]:
        """N scored traces of each caption, in order."""
        assert ctx.services is not None, "a run has services"
        asked = [
            (sample, ctx.services.decode(rollout.ids[:length]))
            for sample, rollout, length in captions
            for _ in range(self.num_traces)
        ]
        texts = ask_about(
            ctx, asked, ask=self.ask, reasoner=self.reasoner, max_new_tokens=self.trace_tokens, temperature=self.temperature
        )  # fmt: skip
        return verified(ctx, [(sample, text) for (sample, _), text in zip(asked, texts, strict=True)])

    def _judge(self, ctx: StepContext, rollout: Rollout, length: int, traces: Sequence[Rollout]) -> None:
        """The reward rule, for one caption of `length` tokens."""
        assert ctx.services is not None, "a run has services"
        live = [trace for trace in traces if not trace.is_masked]
        if not live:
            # The verifiers failed on all: the caption is neither good nor bad.
            rollout.reward, rollout.right, rollout.outcome = traces[0].reward, False, None
            return
        rollout.outcome, rollout.right = 0.0, False
        joints = [ctx.services.turn(self.separator + trace.text) for trace in live if trace.right]
        if sum(trace.right for trace in live) / len(live) <= self.alpha:
            return
        joint = min(joints, key=len)
        if length + len(joint) > ctx.max_new_tokens:
            return
        rollout.ids, rollout.logprobs = rollout.ids[:length] + joint, rollout.logprobs[:length] + [0.0] * len(joint)
        rollout.spans = [Span(0, length, "policy"), Span(length, length + len(joint), "demo")]
        rollout.text, rollout.kind, rollout.finished = ctx.services.decode(rollout.ids), EDITED, True
        rollout.outcome, rollout.right, rollout.entropy = 1.0, True, None
