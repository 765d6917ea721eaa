"""Diagnosis codes compared by depth: `E11.65` against `E11.9` agrees in its category and no further.

The table of codes is the user's own (UMLS, SNOMED and the ICD texts are licence-bound; the pack ships none).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from factory.contracts import Sample, Verdict
from factory.rewards.reader import AnswerReader, graded, unparsable

_CODE = re.compile(r"[A-Z]\d[0-9A-Z](?:\.?[0-9A-Z]{1,4})?")
_LEAD = re.compile(r"^(?:icd(?:-?10)?(?:-?cm)?)?\s*(?:code)?\s*:?\s*", re.IGNORECASE)


def read_code(text: str) -> str:
    """The one ICD-10 code that a text is, without its dot and in capitals. Raises ValueError for anything else."""
    code = _LEAD.sub("", text.strip()).strip(" .`*'\"").upper()
    if len(text) > 200 or not _CODE.fullmatch(code) or not code.isascii():
        raise ValueError(f"{text.strip()[:40]!r} is no ICD-10 code")
    return code.replace(".", "")


def levels(code: str) -> tuple[str, ...]:
    """`E1165` -> (`E11`, `E116`, `E1165`): the category, then one level a character."""
    return tuple(code[:length] for length in range(3, len(code) + 1))


def depth_of(wanted: Any, code: str) -> int:
    """How many levels count: `category` is 1, `full` all of the code's, a number itself. Raises ValueError."""
    most = len(levels(code))
    if wanted in (None, "full"):
        return most
    if wanted == "category":
        return 1
    if isinstance(wanted, int) and not isinstance(wanted, bool) and wanted >= 1:
        return min(wanted, most)
    raise ValueError(f"code_depth is {wanted!r}; want `category`, `full` or a number from 1")


def code_score(got: str, want: str, depth: int) -> float:
    """Levels that agree from the category down, over the levels asked for. A code with more levels than asked for counts as cut."""
    agreed = 0
    for mine, theirs in zip(levels(got)[:depth], levels(want)[:depth], strict=False):
        if mine != theirs:
            break
        agreed += 1
    if depth == len(levels(want)) and len(got) > len(want):
        agreed = min(agreed, depth - 1) if depth > 1 else 0  # a child of the right code says more than the record does
    return agreed / depth


@dataclass(frozen=True)
class CodeMatch(AnswerReader):
    """Share of the levels that agree. Codes that the user's table does not have are wrong, where the sample carries its codes."""

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is no code or `meta["code_depth"]` is unknown."""
        want = read_code(str(sample.reference))
        depth = depth_of(sample.meta.get("code_depth"), want)
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            return answer
        try:
            got = read_code(answer)
        except ValueError as err:
            return unparsable(str(err), want)
        known = {read_code(str(code)) for code in sample.meta.get("codes", ())}
        if known and got not in known and len(got) > 3:
            return graded(0.0, 1.0, f"got {got}, which the table does not have; want {want}")
        score = code_score(got, want, depth)
        return graded(score, 1.0, f"got {got}, want {want} to level {depth}: {score:.3f}", {"depth": float(depth)})
