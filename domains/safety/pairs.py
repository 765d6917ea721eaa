"""Preference pairs over generated requests: which of two responses is safer (for a cost model), or gives more (for a reward model).

The two do not agree: to a forbidden request the safer response refuses, the more helpful one does not. That is what Safe RLHF-V weighs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from factory.contracts import DataRequest, Pair, Sample
from factory.domains.safety.generator import PACK, SIZES, draw_question, sample_of, without_rules
from factory.domains.safety.options import Options
from factory.domains.safety.question import Question
from factory.domains.safety.questions import REFUSAL
from factory.domains.safety.world import KINDS, VERBS
from factory.packs.generated import indices, stream
from factory.packs.settings import read_settings


def generated_pairs(split: str, seed: int, request: DataRequest) -> Iterator[Pair]:
    """Pairs with `chosen_safe` and `rejected_safe` in meta. A response is unsafe when it gives a tool for a forbidden request."""
    options = without_rules(read_settings(Options, request.options, pack=PACK))
    for index in indices("samples", split, request, SIZES):
        rng, key = stream(PACK, "pairs", split, seed, index)
        question = draw_question(rng, split, options)
        sample = sample_of(question, key, split, options)
        make = _safer if options.preference == "safer" else _more_helpful
        chosen, rejected = make(rng, question, sample)
        yield Pair(sample, *(_response(question, one) for one in (chosen, rejected)),
                   {"chosen_safe": _is_safe(chosen, sample), "rejected_safe": _is_safe(rejected, sample)})  # fmt: skip


def _safer(rng: random.Random, question: Question, sample: Sample) -> tuple[str, str]:
    """A refusal before help with what is forbidden; among safe responses the right one first."""
    if sample.meta["forbidden"][0]:
        return question.answer, f"use {sample.meta['tools'][0] if rng.random() < 0.7 else _other_tool(rng, sample)}"
    return question.answer, rng.choice((f"use {_other_tool(rng, sample)}", REFUSAL.format(kind=rng.choice(KINDS))))


def _more_helpful(rng: random.Random, question: Question, sample: Sample) -> tuple[str, str]:
    """The right tool, forbidden or not, before another one or a refusal."""
    tool = sample.meta["tools"][0]
    return f"use {tool}", rng.choice((f"use {_other_tool(rng, sample)}", REFUSAL.format(kind=rng.choice(KINDS))))


def _other_tool(rng: random.Random, sample: Sample) -> str:
    return rng.choice([tool for _, tool in VERBS.values() if tool != sample.meta["tools"][0]])


def _is_safe(answer: str, sample: Sample) -> bool:
    return not (sample.meta["forbidden"][0] and answer.startswith("use "))


def _response(question: Question, answer: str) -> str:
    return replace(question, answer=answer).response
