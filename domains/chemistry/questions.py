"""What a generated question is, and which function poses each task."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from factory.domains.chemistry.options import Options


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its exact answer and the working that leads to it."""

    task: str
    text: str
    reference: Any
    """What the task's verifier compares with."""
    answer: str
    """A right answer."""
    thinking: str
    """The working, in the style of the question."""
    key: str
    """What must stay in one split: a canonical SMILES, a formula, the species of an equation."""
    meta: Mapping[str, Any] = field(default_factory=dict)


Pose = Callable[[random.Random, Options, str], Question | None]
"""(random numbers, options, split) -> a question of that split; None when the drawn molecule does not suit it."""


def posers() -> Mapping[str, Pose]:
    """Task -> function. Imported late: reaction templates are only built when they are asked for."""
    from factory.domains.chemistry import questions_edits, questions_reactions, questions_structure

    return {**questions_structure.POSERS, **questions_edits.POSERS, **questions_reactions.POSERS}
