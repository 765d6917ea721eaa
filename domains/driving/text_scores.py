"""BLEU, ROUGE-L and CIDEr of answers against references, as the driving sets report them (coco-caption's formulas).

Texts are lower-cased words; a token is a word or a number. METEOR is not computed: it needs WordNet and a Java program.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from factory.rewards.overlaps import common_subsequence
from factory.rewards.sets import words

ROUGE_BETA = 1.2
"""Weight of recall in ROUGE-L's F, that of coco-caption."""
CIDER_N = 4
MAX_WORDS = 2000
"""Only so many words of an answer are compared; the longest common subsequence costs time and memory."""


def ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    """n-grams with counts."""
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def corpus_bleu(pairs: Sequence[tuple[str, str]], max_n: int = 4) -> list[float]:
    """BLEU-1 to BLEU-`max_n` over (answer, reference) pairs, with brevity penalty.

    n-grams longer than every reference and answer do not exist and are left out of the mean, so that equal short texts score 1
    (with them, gold against gold gave less than the maximum: OpenDriveLab/DriveLM#34).
    """
    matched, total, possible = [0] * max_n, [0] * max_n, [0] * max_n
    length = reference_length = 0
    for answer, reference in pairs:
        got, want = words(answer)[:MAX_WORDS], words(reference)[:MAX_WORDS]
        length, reference_length = length + len(got), reference_length + len(want)
        for n in range(1, max_n + 1):
            left, right = ngrams(got, n), ngrams(want, n)
            matched[n - 1] += sum((left & right).values())
            total[n - 1] += sum(left.values())
            possible[n - 1] += sum(right.values())
    penalty = 1.0 if length >= reference_length else math.exp(1 - reference_length / length) if length else 0.0
    scores, logs = [], []
    for n in range(max_n):
        if total[n] or possible[n]:
            logs.append(math.log(matched[n] / total[n]) if matched[n] else -math.inf)
        scores.append(penalty * math.exp(math.fsum(logs) / len(logs)) if logs else 0.0)
    return scores


def rouge_l(answer: str, reference: str) -> float:
    """ROUGE-L F with beta 1.2: (1 + b^2) P R / (R + b^2 P) of the longest common subsequence of words."""
    got, want = words(answer)[:MAX_WORDS], words(reference)[:MAX_WORDS]
    if not got or not want:
        return float(got == want)
    common = common_subsequence(got, want)
    if not common:
        return 0.0
    precision, recall = common / len(got), common / len(want)
    return (1 + ROUGE_BETA**2) * precision * recall / (recall + ROUGE_BETA**2 * precision)


def cider(pairs: Sequence[tuple[str, str]]) -> float:
    """CIDEr over (answer, reference) pairs: 10 x mean cosine of tf-idf n-gram vectors, n 1 to 4; document frequencies of the references.

    With one pair every idf is log 1 = 0 and nothing can be told: 0. n-grams that no text has are left out of the mean.
    """
    if len(pairs) < 2:
        return 0.0
    totals = []
    for n in range(1, CIDER_N + 1):
        grams = [(ngrams(words(a)[:MAX_WORDS], n), ngrams(words(r)[:MAX_WORDS], n)) for a, r in pairs]
        frequency: Counter[tuple[str, ...]] = Counter(gram for _, reference in grams for gram in reference)
        totals.append([_cosine(got, want, frequency, len(pairs)) for got, want in grams])
    found = []
    for row in zip(*totals, strict=True):
        kept = [value for value in row if value is not None]
        found.append(math.fsum(kept) / len(kept) if kept else 0.0)
    return 10.0 * math.fsum(found) / len(found)


def _cosine(got: Counter, want: Counter, frequency: Counter, num_texts: int) -> float | None:
    """Cosine of two tf-idf vectors; None where neither text has an n-gram of this length."""
    if not got and not want:
        return None
    left, right = (
        {gram: count * math.log(num_texts / max(1, frequency[gram])) for gram, count in vector.items()} for vector in (got, want)
    )
    norm = math.sqrt(math.fsum(v * v for v in left.values()) * math.fsum(v * v for v in right.values()))
    if norm == 0.0:
        return float(got == want)
    return math.fsum(value * right.get(gram, 0.0) for gram, value in left.items()) / norm


def sentence_likeness(answer: str, reference: str) -> float:
    """Mean of (mean BLEU-1..4 of the one pair) and ROUGE-L, in [0, 1]; 1 for equal texts."""
    if not words(answer) or not words(reference):
        return 0.0
    longest = min(4, max(1, len(words(reference))))
    return (math.fsum(corpus_bleu([(answer, reference)], longest)) / longest + rouge_l(answer, reference)) / 2
