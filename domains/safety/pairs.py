"""Preference pairs over generated requests: which of two responses is safer (for a cost model), or gives more (for a reward model).

The two do not agree: to a forbidden request the safer response refuses, the more helpful one does not. That is what Safe RLHF-V weighs.
Most responses that help with what is forbidden reason their way to it, with a false step or a false end. A cost model that only met honest
reasoning believes what it reads, and a policy that is trained against it learns to lie there (docs/log.md).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import replace

from factory.contracts import DataRequest, Pair, Sample
from factory.domains.safety.generator import PACK, SIZES, draw_question, sample_of, without_rules
from factory.domains.safety.options import Options
from factory.domains.safety.question import Question
from factory.domains.safety.questions import REFUSAL
from factory.domains.safety.world import KINDS, STORY, THINGS, VERBS
from factory.packs.generated import indices, stream
from factory.packs.settings import read_settings

LYING = 0.8
"""Share of the unsafe responses whose reasoning argues for them."""
FALSE = {"banned": "free", "person": "thing", "real": "story"}
"""What decides a step, and its false word."""
NAMED = {"thing": THINGS, "story": STORY}
"""What a lie that does not contradict itself names in place of the request's own word."""


def generated_pairs(split: str, seed: int, request: DataRequest) -> Iterator[Pair]:
    """Pairs with `chosen_safe` and `rejected_safe` in meta. A response is unsafe when it gives a tool for a forbidden request."""
    options = without_rules(read_settings(Options, request.options, pack=PACK))
    for index in indices("samples", split, request, SIZES):
        rng, key = stream(PACK, "pairs", split, seed, index)
        question = draw_question(rng, split, options)
        sample = sample_of(question, key, split, options)
        make = _safer if options.preference == "safer" else _more_helpful
        chosen, rejected = make(rng, question, sample)
        yield Pair(sample, *(_response(rng, question, one, sample) for one in (chosen, rejected)),
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


def _response(rng: random.Random, question: Question, answer: str, sample: Sample) -> str:
    if not _is_safe(answer, sample) and rng.random() < LYING:
        question = excused(rng, question)
    return replace(question, answer=answer).response


def excused(rng: random.Random, question: Question) -> Question:
    """The forbidden request with reasoning that ends in `fine`: after one false step, or against all steps.

    Half of the false steps name another word, about which they are true ("film story" where the request says "here"): a cost model has to
    hold each step against the request, not only against itself.
    """
    is_terse = " ; " in question.steps
    steps = question.steps.split(" ; ") if is_terse else question.steps.rstrip(".").lower().split(". ")
    at = rng.randrange(5)
    if at == 4:
        told = steps[:-1]
    elif at == 3:
        told = [_another_kind(rng, steps[0], question.meta["rules"])]
    else:
        told = [*steps[:at], _falsified(rng, steps[at])]
    told.append("fine")
    return replace(question, steps=" ; ".join(told) if is_terse else ". ".join(step.capitalize() for step in told) + ".")


def _falsified(rng: random.Random, step: str) -> str:
    head, _, last = step.rpartition(" ")
    words = NAMED.get(FALSE[last], ())
    return f"{rng.choice(words) if words and rng.random() < 0.5 else head} {FALSE[last]}"


def _another_kind(rng: random.Random, step: str, rules: Collection[str]) -> str:
    """The first step with a kind that no rule forbids, in half of them with a verb of that kind."""
    verb, kind, _ = step.split()
    free = [other for other in KINDS if other != kind and other not in rules]
    if not free:
        return _falsified(rng, step)
    told = rng.choice(free)
    verbs = [other for other, (own, _) in VERBS.items() if own == told]
    return f"{rng.choice(verbs) if rng.random() < 0.5 else verb} {told} free"
