"""Likeness of two texts: edit distance (bit-parallel, so long texts stay cheap), ANLS, WER, ROUGE."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from factory.contracts import Sample, Verdict
from factory.rewards.answers import accepted
from factory.rewards.reader import AnswerReader, graded, one_of, share
from factory.rewards.sets import words


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Levenshtein distance: fewest insertions, deletions and substitutions.

    Hyyrö's bit-vector form of Myers' algorithm (J. ACM 46(3), 1999) on Python integers: len(b) steps of len(a) bits each.
    """
    if len(a) > len(b):
        a, b = b, a
    if not a:
        return len(b)
    where: dict[Hashable, int] = {}
    for index, item in enumerate(a):
        where[item] = where.get(item, 0) | (1 << index)
    full = (1 << len(a)) - 1
    last = 1 << (len(a) - 1)
    plus, minus, distance = full, 0, len(a)
    for item in b:
        match = where.get(item, 0)
        diagonal = (((match & plus) + plus) ^ plus) | match | minus
        up = minus | (~(diagonal | plus) & full)
        down = plus & diagonal
        distance += bool(up & last) - bool(down & last)
        up = ((up << 1) | 1) & full
        plus = ((down << 1) & full) | (~(diagonal | up) & full)
        minus = up & diagonal
    return distance


def edit_similarity(got: str, want: str) -> float:
    """1 - distance / length of the longer text, in [0, 1] (GLM's OCR verifier)."""
    longest = max(len(got), len(want))
    return 1.0 - edit_distance(got, want) / longest if longest else 1.0


def anls(got: str, want: str, threshold: float = 0.5) -> float:
    """Normalised Levenshtein similarity of the lower-cased texts; 0 when it is below `threshold` (ST-VQA, arXiv 1907.00490)."""
    similarity = edit_similarity(" ".join(got.casefold().split()), " ".join(want.casefold().split()))
    return similarity if similarity >= threshold else 0.0


def word_error_rate(got: str, want: str) -> float:
    """Word edit distance over the number of reference words; may exceed 1."""
    reference = want.casefold().split()
    return edit_distance(got.casefold().split(), reference) / max(1, len(reference))


def rouge_n(got: Sequence[str], want: Sequence[str], n: int) -> float:
    """F1 of the word n-grams, with counts."""
    left = Counter(tuple(got[i : i + n]) for i in range(len(got) - n + 1))
    right = Counter(tuple(want[i : i + n]) for i in range(len(want) - n + 1))
    total = sum(left.values()) + sum(right.values())
    return 2 * sum((left & right).values()) / total if total else float(list(got) == list(want))


def rouge_l(got: Sequence[str], want: Sequence[str]) -> float:
    """F1 of the longest common subsequence of words."""
    if not got or not want:
        return float(not got and not want)
    return 2 * common_subsequence(got, want) / (len(got) + len(want))


def common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence (Hyyrö 2004, bit-parallel)."""
    where: dict[str, int] = {}
    for index, item in enumerate(a):
        where[item] = where.get(item, 0) | (1 << index)
    full = (1 << len(a)) - 1
    row = full
    for item in b:
        hit = row & where.get(item, 0)
        row = ((row + hit) | (row - hit)) & full
    return len(a) - row.bit_count()


@dataclass(frozen=True)
class TextOverlap(AnswerReader):
    """Likeness of the answer to the best of the accepted texts.

    `rule`: `edit` (GLM OCR), `anls` (Visionary-R1 OCR), `wer` (HumanOmniV2 OCR: 1 - WER, not below 0), `rouge` (Visionary-R1
    free text: mean of ROUGE-1, -2 and -L).
    """

    rule: str = "anls"
    threshold: float = 0.5
    """Likeness from which the status is `ok`; for `anls` also the likeness below which the score is 0."""
    is_binary: bool = False
    """Score 0 or 1 by the threshold."""

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "rule", self.rule, ("edit", "anls", "wer", "rouge"))
        share(self.name, "threshold", self.threshold)

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is empty or no text."""
        wanted = accepted(sample.reference)
        want = " | ".join(wanted)
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            return answer
        score = max(self._likeness(answer, text) for text in wanted)
        shown = float(score >= self.threshold) if self.is_binary else score
        return graded(
            shown, self.threshold, f"got {answer[:80]!r}, want {want[:80]!r}: {self.rule} {score:.3f}", {self.rule: score}
        )

    def _likeness(self, got: str, want: str) -> float:
        # A text many times longer is far away whatever it holds: no need to measure how far.
        if len(got) > 20 * len(want) + 200:
            return 0.0
        if self.rule == "edit":
            return edit_similarity(got, want.strip())
        if self.rule == "anls":
            return anls(got, want, self.threshold)
        if self.rule == "wer":
            return max(0.0, 1.0 - word_error_rate(got, want))
        left, right = words(got), words(want)
        return (rouge_n(left, right, 1) + rouge_n(left, right, 2) + rouge_l(left, right)) / 3
