"""Report sections: `Findings: ... Impression: ...`, each once and in this order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from factory.contracts import Sample, Verdict
from factory.rewards.answers import Synonyms
from factory.rewards.overlaps import rouge_l, rouge_n
from factory.rewards.reader import AnswerReader, graded, short, unparsable
from factory.rewards.sets import overlap, read_items, words

SECTIONS = ("findings", "impression")
_HEADING = re.compile(r"\b(findings|impression)\s{0,8}:", re.IGNORECASE)
_CALM = re.compile(r"[\s.]+$")


def read_sections(text: str) -> dict[str, str]:
    """Section -> its text. Raises ValueError unless both headings occur once, findings first, with nothing before them."""
    hits = list(_HEADING.finditer(text))
    if [hit.group(1).lower() for hit in hits] != list(SECTIONS):
        raise ValueError("want `Findings:` and then `Impression:`, each once")
    if text[: hits[0].start()].strip(" \n*#"):
        raise ValueError("text before `Findings:`")
    parts = (text[hits[0].end() : hits[1].start()], text[hits[1].end() :])
    found = {name: part.strip(" \n*#") for name, part in zip(SECTIONS, parts, strict=True)}
    empty = [name for name, part in found.items() if not part]
    if empty:
        raise ValueError(f"the section {empty[0]} is empty")
    return found


@dataclass(frozen=True)
class ReportSections(AnswerReader):
    """Score of a report against `{"findings": ..., "impression": ...}`.

    A section given as a list is a set of entities: F1, and the impression's multiplies that of the findings. Sections given
    as texts (real reports) are compared by ROUGE (mean of 1, 2 and L), averaged; that measures likeness and belongs in evals.
    """

    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """canonical form -> other ways to write it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "_table", Synonyms(self.synonyms))

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference lacks a section."""
        reference = sample.reference
        if not isinstance(reference, Mapping) or any(not reference.get(name) for name in SECTIONS):
            raise ValueError(f"sample {sample.id}: the reference must hold findings and impression, got {reference!r:.80}")
        want = short(dict(reference), 160)
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            return answer
        try:
            sections = read_sections(answer)
            parts = {name: self._section(sections[name], reference[name]) for name in SECTIONS}
        except ValueError as err:
            return unparsable(str(err), want)
        is_listed = all(not isinstance(reference[name], str) for name in SECTIONS)
        score = parts["findings"] * parts["impression"] if is_listed else sum(parts.values()) / len(parts)
        shown = ", ".join(f"{name} {value:.3f}" for name, value in parts.items())
        return graded(score, 1.0, f"{shown}; got {short(answer, 120)}, want {want}", parts)

    def _section(self, got: str, want: Any) -> float:
        if isinstance(want, str):
            left, right = words(got)[:2000], words(want)[:2000]
            return (rouge_n(left, right, 1) + rouge_n(left, right, 2) + rouge_l(left, right)) / 3
        table: Synonyms = self._table  # type: ignore[attr-defined]
        named = {table.canonical(_CALM.sub("", item)) for item in read_items(_CALM.sub("", got))} - {""}
        return overlap(named, {table.canonical(str(item)) for item in want}, "f1")
