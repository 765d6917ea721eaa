"""Questions with several right options: read the named letters, score the set.

`soft` is TW-GRPO's reward (`guides/techniques.md` B8.1): |named| / |gold| when the named options are a non-empty subset of
the gold ones, else 0. So half of the answer earns half, and naming every option earns nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.contracts import Sample, Verdict
from factory.rewards.answers import options_of, plain, read_choice
from factory.rewards.reader import AnswerReader, graded, one_of, share, unparsable
from factory.rewards.sets import overlap

_LETTERS_ONLY = re.compile(r"[(\[{]?\s*([A-Za-z](?:\s*(?:,|;|/|&|\+|\band\b|\s)\s*[A-Za-z])*|[A-Z]{2,26})\s*[)\]}]?\.?")
_LEAD = re.compile(r"(?:the\s)?(?:correct\s|right\s)?(?:answers?|options?|choices?)\b\s?(?:is\b|are\b)?\s?:?\s?", re.IGNORECASE)
_BETWEEN = re.compile(r"\n|;|,(?=\s*\(?[A-Z][.):\s,;]|\s*\(?[A-Z]\)?$)|\band\b(?=\s*\(?[A-Z][.):\s]|\s*\(?[A-Z]\)?$)")


@dataclass(frozen=True)
class OptionSet(AnswerReader):
    """Score of the set of named options against the reference (letters: `"AC"`, `"A, C"`, `["A", "C"]`, or option texts).

    `rule`: `exact` (0/1), `soft` (above), `f1`, `jaccard` (Curr-ReFT's |a & b| / |a | b|).
    """

    rule: str = "exact"
    threshold: float = 1.0
    """Score from which the status is `ok`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "rule", self.rule, ("exact", "soft", "f1", "jaccard"))
        share(self.name, "threshold", self.threshold)

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the sample's options or reference are faulty."""
        if "options" not in sample.meta:
            raise ValueError(f"sample {sample.id} has no meta['options']: {self.name} needs the option texts")
        options = options_of(sample.meta["options"])
        gold = gold_letters(sample.reference, options)
        want = ", ".join(sorted(gold))
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            return answer
        try:
            named = read_letters(answer, options)
        except ValueError as err:
            return unparsable(str(err), want)
        return graded(set_score(named, gold, self.rule), self.threshold, f"got {', '.join(sorted(named))}, want {want}")


def set_score(named: frozenset[str], gold: frozenset[str], rule: str) -> float:
    """Score in [0, 1] of two non-empty sets."""
    if rule == "soft":
        return len(named) / len(gold) if named <= gold else 0.0
    return overlap(named, gold, rule)


def gold_letters(reference: Any, options: Mapping[str, str]) -> frozenset[str]:
    """The reference as letters. Raises ValueError when it names no option: the sample is faulty."""
    items = list(reference) if isinstance(reference, Sequence) and not isinstance(reference, str) else [reference]
    found: set[str] = set()
    try:
        for item in items:
            found |= read_letters(str(item), options)
    except ValueError as err:
        raise ValueError(f"the sample's reference {reference!r} does not name options {'/'.join(options)}: {err}") from err
    if not found:
        raise ValueError(f"the sample's reference {reference!r} names no option")
    return frozenset(found)


def read_letters(answer: str, options: Mapping[str, str]) -> frozenset[str]:
    """The options that an answer names: `A, C`, `AC`, `A and C`, or one option with its text per line or list item.

    Raises ValueError when a part names none or is no option, or a letter occurs twice.
    """
    whole = read_choice(answer, options)
    if whole.letter:
        return frozenset({whole.letter})
    text = _LEAD.sub("", plain(answer), count=1) if _LEAD.match(plain(answer)) else plain(answer)
    hit = _LETTERS_ONLY.fullmatch(text) if len(text) <= 200 else None
    if hit:
        letters = [letter.upper() for letter in re.findall(r"[A-Za-z]", re.sub(r"\band\b", " ", hit.group(1)))]
    else:
        letters = []
        for part in (part for part in _BETWEEN.split(answer) if part.strip()):
            choice = read_choice(part, options)
            if choice.letter is None:
                raise ValueError(choice.reason)
            letters.append(choice.letter)
    strangers = sorted(set(letters) - set(options))
    if strangers or not letters:
        raise ValueError(f"{', '.join(strangers) or 'nothing'} is not one of {'/'.join(options)}")
    if len(set(letters)) < len(letters):
        raise ValueError("an option is named twice")
    return frozenset(letters)
