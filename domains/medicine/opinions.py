"""Specialists' opinions in the attending physician's question, and the tier that their accuracy gives it.

MMedAgent-RL (arXiv 2506.00555; guides/techniques.md B3.8): s = share of right opinions; easy s = 1, medium 0 < s < 1, hard s = 0.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from factory.domains.medicine.departments import department_of
from factory.domains.medicine.image_questions import closed_question
from factory.domains.medicine.phantoms import VALUES
from factory.domains.medicine.questions import Question

ASKED = ("modality", "side", "count", "size")
"""Findings that the generator's attending physician is asked for."""


def tier_of(accuracy: float) -> str:
    """`easy`, `medium` or `hard` from the specialists' accuracy on one question. Raises ValueError outside [0, 1]."""
    if not 0.0 <= accuracy <= 1.0:
        raise ValueError(f"the specialists' accuracy is {accuracy}; want a share from 0 to 1")
    return "easy" if accuracy == 1.0 else "hard" if accuracy == 0.0 else "medium"


def with_opinions(question: str, department: str, opinions: Sequence[str], style: str) -> str:
    """The question with the opinions below it."""
    if style == "terse":
        return f"{question}\n{department} : {' '.join(opinions)}"
    lines = "\n".join(f"Opinion {number} of the {department}: {text}" for number, text in enumerate(opinions, start=1))
    return f"{question}\n\n{lines}\n\nThe opinions may be wrong. Look yourself, then decide."


def attending_question(rng: random.Random, style: str, num: int) -> Question:
    """A closed question with `num` recorded opinions. Each tier comes equally often; medium needs two opinions or more."""
    name = rng.choice(ASKED)
    question = closed_question(rng, style, name)
    tiers = ("easy", "medium", "hard") if num > 1 else ("easy", "hard")
    tier = rng.choice(tiers)
    right = {"easy": num, "hard": 0}.get(tier) if tier != "medium" else rng.randint(1, num - 1)
    others = [value for value in VALUES[name] if value != question.answer]
    opinions = [question.answer] * int(right or 0) + [rng.choice(others) for _ in range(num - int(right or 0))]
    rng.shuffle(opinions)
    assert question.phantom is not None
    department = department_of(question.phantom)
    accuracy = opinions.count(question.answer) / num
    meta = {"opinions": opinions, "department": department, "specialist_accuracy": accuracy, "tier": tier_of(accuracy)}
    text = with_opinions(question.text, department, opinions, style)
    return replace(question, task="attending", text=text, difficulty=meta["tier"], meta=meta)
