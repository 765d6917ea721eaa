"""The pack's own options (`pack.*` in a build's config) for generated data; with data paths `loaders.py` reads its own beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from factory.domains.medicine.calculators import CALCULATORS
from factory.packs.settings import check_shares, one_of, within

SHARES: Mapping[str, float] = {
    "closed": 0.2, "judgement": 0.08, "choice": 0.08, "open": 0.12, "triage": 0.1, "attending": 0.08, "acid_base": 0.08,
    "ecg": 0.07, "calculator": 0.07, "entities": 0.07, "report": 0.05,
}  # fmt: skip
"""Tasks that the generator asks, and their default shares. `code` and real reports come with the user's data only."""
TERSE_CALCULATORS = ("anion_gap", "friedewald", "winter")
"""Calculators that terse style can ask."""


@dataclass(frozen=True)
class Options:
    """How the generator asks and what it draws."""

    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))
    """Task -> share of the questions; any positive scale. A task that is not named gets none."""
    style: str = "terse"
    """`terse`: a few words, for the embedded model. `full`: sentences, for a real one."""
    system: str = "none"
    """System turn: `none`, `clinician`, `triage` or `attending` (the roles of MMedAgent-RL)."""
    form: str = "think_answer"
    """What a response looks like: `think_answer`, `answer` (no reasoning: Med-R1's variant) or `huatuo` (two headings)."""
    calculators: tuple[str, ...] = ()
    """Names of the calculators to ask; empty for all that the style knows."""
    traps: float = 0.4
    """Full style: probability that a number is printed in its other common unit."""
    distractors: int = 3
    """Full style: laboratory values that are not needed."""
    specialists: int = 3
    """Opinions shown to the attending physician."""
    textbook: float = 0.35
    """Share of the corpus that is text: worked exercises of the text tasks."""

    def __post_init__(self) -> None:
        check_shares(self.shares, tuple(SHARES))
        one_of("pack.style", self.style, ("terse", "full"))
        one_of("pack.system", self.system, ("none", "clinician", "triage", "attending"))
        one_of("pack.form", self.form, ("think_answer", "answer", "huatuo"))
        for name in self.calculators:
            one_of("an item of pack.calculators", name, TERSE_CALCULATORS if self.style == "terse" else tuple(CALCULATORS))
        within("pack.traps", self.traps, 0.0, 1.0)
        within("pack.textbook", self.textbook, 0.0, 1.0)
        within("pack.distractors", self.distractors, 0, 8)
        within("pack.specialists", self.specialists, 1, 9)

    def calculator_names(self) -> tuple[str, ...]:
        """The calculators to draw from."""
        return self.calculators or (TERSE_CALCULATORS if self.style == "terse" else tuple(CALCULATORS))
