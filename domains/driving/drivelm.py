"""DriveLM's scores: object match, strict accuracy, language, and the final sum.

    final = 0.4 judge / 100 + 0.2 language + 0.2 match / 100 + 0.2 accuracy
    language = mean(BLEU-1..4) / 3 + ROUGE-L / 3 + CIDEr / 10 / 3

`tag` of a question says how it is judged: 0 accuracy (strict equality of texts), 1 a judge, 2 language, 3 match.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from factory.domains.driving.text_scores import cider, corpus_bleu, rouge_l

MATCH_PX = 16.0
"""L1 distance in px below which two objects are the same."""
TAGS = {0: "accuracy", 1: "judge", 2: "language", 3: "match"}
MAX_OBJECTS = 200

_OBJECT = re.compile(
    r"<\s*([A-Za-z]\w{0,8})\s*,\s*(CAM_[A-Z_]{1,20})\s*,\s*(-?\d{1,5}(?:\.\d{1,6})?)\s*,\s*(-?\d{1,5}(?:\.\d{1,6})?)\s*>"
)


@dataclass(frozen=True, slots=True)
class Named:
    """One object of an answer: `<c1,CAM_BACK,1088.3,497.5>`."""

    key: str
    camera: str
    x: float
    y: float


def named_objects(text: str) -> tuple[Named, ...]:
    """The objects in a text, each place once, in their order; at most 200."""
    found = dict.fromkeys(Named("", camera, float(x), float(y)) for _, camera, x, y in _OBJECT.findall(text))
    return tuple(found)[:MAX_OBJECTS]


def match_f1(got: Sequence[Named], want: Sequence[Named], distance_px: float = MATCH_PX) -> tuple[float, int]:
    """(F1, hits): each wanted object is hit by at most one named object of the same camera nearer than `distance_px` (L1), nearest first."""
    pairs = sorted(
        (abs(a.x - b.x) + abs(a.y - b.y), i, j)
        for i, a in enumerate(got) for j, b in enumerate(want) if a.camera == b.camera
    )  # fmt: skip
    used_got: set[int] = set()
    used_want: set[int] = set()
    for distance, i, j in pairs:
        if distance < distance_px and i not in used_got and j not in used_want:
            used_got.add(i)
            used_want.add(j)
    hits = len(used_got)
    return (2 * hits / (len(got) + len(want)) if got or want else 1.0), hits


def strict_accuracy(pairs: Sequence[tuple[str, str]]) -> float:
    """Share of answers that equal the reference to the letter; "The correct answer is A." is wrong (DriveLM#171)."""
    return math.fsum(answer == reference for answer, reference in pairs) / len(pairs) if pairs else 0.0


def language_score(pairs: Sequence[tuple[str, str]]) -> float:
    """Mean BLEU-1..4 / 3 + mean ROUGE-L / 3 + CIDEr / 10 / 3, in [0, 1]; 1 when every answer is the reference (two or more different)."""
    if not pairs:
        return 0.0
    bleu = math.fsum(corpus_bleu(pairs)) / 4
    rouge = math.fsum(rouge_l(answer, reference) for answer, reference in pairs) / len(pairs)
    return bleu / 3 + rouge / 3 + cider(pairs) / 10 / 3


def final_score(*, judge: float, language: float, match: float, accuracy: float) -> float:
    """The challenge's sum.

    Args:
        judge: 0 to 100.
        language: 0 to 1.
        match: 0 to 100.
        accuracy: 0 to 1.
    """
    return 0.4 * judge / 100 + 0.2 * language + 0.2 * match / 100 + 0.2 * accuracy
