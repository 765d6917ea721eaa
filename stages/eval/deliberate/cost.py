"""What a way of deliberating costs at most, for the plan. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from factory.stages.eval.deliberate.grammar import Deliberation

SPEC_TOKENS = 400
"""Assumed tokens of the two specifications of `align3` together, for the plan's estimate only."""


@dataclass(frozen=True)
class Cost:
    """Upper estimates for one sample."""

    generated: int
    """Tokens that models write."""
    longest: int
    """Tokens in one row after the prompt, inserted and generated."""


def cost_of(wanted: Deliberation, max_new_tokens: int) -> Cost:
    """Tokens per sample when every text is as long as it may be. `max_new_tokens` is that of the plain answer."""
    plain, n = max_new_tokens, wanted.count
    if wanted.method in ("majority", "best_of"):
        return Cost(n * plain, plain)
    if wanted.method == "force_answer":
        total = n + (wanted.options["answer"] or plain)
        return Cost(total, total)
    if wanted.method == "align3":
        total = 3 * (wanted.options["thinking"] or plain) + plain
        return Cost(total, total + SPEC_TOKENS)
    critique = wanted.options["critique"] or plain
    # The draft, then for each round a critique and a revision; the longest row holds a draft, its critique and the revision.
    return Cost(plain + n * (critique + plain), 2 * plain + critique)
