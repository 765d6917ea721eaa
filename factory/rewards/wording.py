"""How a completion is worded: repetition, and its length in words or characters."""

from __future__ import annotations

import math
from dataclasses import dataclass

from factory.contracts import Sample, Status, Verdict
from factory.errors import ConfigError
from factory.rewards.length import distinct_share, window_score
from factory.rewards.reader import AnswerReader, one_of, unparsable
from factory.rewards.sets import words


def repetition_penalty(text: str, n: int, max_penalty: float) -> float:
    """`max_penalty * (1 - distinct / all)` over the lower-case words' n-grams; `max_penalty` is 0 or less (Perception-R1: 20, -2)."""
    return max_penalty * (1.0 - distinct_share(text.lower().split(), n))


@dataclass(frozen=True)
class NoRepetition(AnswerReader):
    """Share of distinct n-grams; `ok` from `from_share` on. Texts without spaces between words are counted by character.

    Needs no reference. `part`: `whole`, `answer` or `thinking`.
    """

    name: str = "repetition"
    n: int = 3
    from_share: float = 0.5
    part: str = "whole"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "part", self.part, ("whole", "answer", "thinking"))
        if self.n < 1 or not 0.0 <= self.from_share <= 1.0:
            raise ConfigError(
                f"verifier '{self.name}': want n 1 or more and from_share in [0, 1]; got {self.n}, {self.from_share}."
            )

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Never raises for a sound setting."""
        text = _part(self, completion, self.part)
        if isinstance(text, Verdict):
            return text
        found = words(text)
        if not found:
            return unparsable("no word", "a text")
        share = distinct_share(found, self.n)
        reason = f"got {share:.0%} distinct {self.n}-grams of {len(found)} words, want {self.from_share:.0%}"
        return Verdict(share, Status.ok if share >= self.from_share else Status.wrong, reason, {"words": float(len(found))})


@dataclass(frozen=True)
class LengthWithin(AnswerReader):
    """1 when a part of the completion has between `fewest` and `most` words (or characters), falling to 0 outside.

    The fall is that of `length.window_score`: straight to 0 at none and at twice `most`; `is_binary` makes it 0 at once.
    """

    name: str = "length"
    fewest: int = 1
    most: int = 512
    unit: str = "words"
    part: str = "whole"
    is_binary: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "unit", self.unit, ("words", "characters"))
        one_of(self.name, "part", self.part, ("whole", "answer", "thinking"))
        if not 1 <= self.fewest <= self.most or not math.isfinite(self.most):
            raise ConfigError(f"verifier '{self.name}': want 1 <= fewest <= most, got {self.fewest} and {self.most}.")

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Never raises for a sound setting."""
        text = _part(self, completion, self.part)
        if isinstance(text, Verdict):
            return text
        count = len(words(text)) if self.unit == "words" else len(text.strip())
        score = window_score(count, self.fewest, self.most)
        reason = f"got {count} {self.unit}, want {self.fewest} to {self.most}"
        return Verdict(float(score == 1.0) if self.is_binary else score, Status.ok if score == 1.0 else Status.wrong, reason)


def _part(reader: AnswerReader, completion: str, part: str) -> str | Verdict:
    if part == "whole":
        return completion
    text = getattr(reader.read(completion), part)
    return unparsable(f"no {part}", f"a {part}") if text is None else text
