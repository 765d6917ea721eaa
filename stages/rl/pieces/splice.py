"""Cut rollouts, put tokens into them, let the policy write on: what hooks do, with the authorship of every token kept.

The spans of a rollout that went through here cover its tokens exactly once, in order. A kept token keeps the log-prob it was
sampled with; tokens that nobody sampled have 0; what the policy adds has the log-probs of its new context.
"""

from __future__ import annotations

from collections.abc import Sequence

from factory.stages.rl.context import Continuation, Pairs, StepContext
from factory.stages.rl.rollouts import Rollout, Span, copied, seed_of


def authored(rollout: Rollout) -> list[Span]:
    """Its spans; one of the policy's over all tokens where none are written down."""
    return list(rollout.spans) or ([Span(0, len(rollout.ids), "policy")] if rollout.ids else [])


def cut(rollout: Rollout, end: int) -> Rollout:
    """A copy with the first `end` tokens only, open to be continued. Images must lie before `end`."""
    spans = [Span(s.start, min(s.end, end), s.role) for s in authored(rollout) if s.start < end]
    found = copied(rollout)
    found.ids, found.logprobs, found.spans, found.finished = rollout.ids[:end], rollout.logprobs[:end], spans, False
    found.ref_logprobs, found.masked_logprobs = [], []
    return found


def put(rollout: Rollout, ids: Sequence[int], role: str, logprobs: Sequence[float] = ()) -> None:
    """Append tokens in place. `logprobs`: of tokens that were sampled; others get 0."""
    if not ids:
        return
    spans, start = authored(rollout), len(rollout.ids)
    rollout.ids = [*rollout.ids, *ids]
    rollout.logprobs = [*rollout.logprobs, *(logprobs or [0.0] * len(ids))]
    if spans and spans[-1].role == role:
        spans[-1] = Span(spans[-1].start, len(rollout.ids), role)
    else:
        spans.append(Span(start, len(rollout.ids), role))
    rollout.spans = spans


def write_on(rollout: Rollout, found: Continuation) -> None:
    """Append what the policy wrote, in place."""
    put(rollout, found.ids, "policy", found.logprobs)
    rollout.finished = found.finished


def extended(ctx: StepContext, purpose: str, pairs: Pairs, *, max_new_tokens: int, temperature: float) -> list[Continuation]:
    """Let the policy continue each rollout. Its draws depend on the step, the purpose and the rollout alone."""
    if not pairs:
        return []
    assert ctx.services is not None, "a run has services"
    who = [f"{sample.id}-{rollout.index}-{len(rollout.ids)}" for sample, rollout in pairs]
    seeds = [seed_of(ctx.seed, purpose, ctx.step, one) for one in who]
    return ctx.services.extend(pairs, max_new_tokens=max_new_tokens, temperature=temperature, seeds=seeds)


def with_room(ctx: StepContext, pairs: Pairs, num_tokens: int) -> Pairs:
    """Those of the pairs for which the model's context holds `num_tokens` more."""
    assert ctx.services is not None, "a run has services"
    return [(sample, rollout) for sample, rollout in pairs if ctx.services.room(sample, rollout) >= num_tokens]
