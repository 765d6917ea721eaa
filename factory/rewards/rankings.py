"""Ordered lists: NDCG with binary gains, MM-R5's steep ranking reward, exact order (`guides/techniques.md` B8.12)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from factory.contracts import Sample, Verdict
from factory.rewards.answers import accepted, normalise
from factory.rewards.reader import AnswerReader, graded, one_of, share, short, unparsable
from factory.rewards.sets import read_items


def ndcg(hits: Iterable[int], num_relevant: int) -> float:
    """Normalised discounted cumulative gain, gain 1 per hit and discount log2(rank + 1); VRAG.

    Args:
        hits: ranks of the relevant items that were listed, from 1 on, each at most once.
        num_relevant: how many there are, 1 or more.
    """
    return _gain(hits, num_relevant, lambda rank: 1.0 / math.log2(rank + 1))


def mm_r5(hits: Iterable[int], num_relevant: int) -> float:
    """Sum of 1 / rank^3 over the hits, divided by the ideal; MM-R5."""
    return _gain(hits, num_relevant, lambda rank: 1.0 / rank**3)


def _gain(hits: Iterable[int], num_relevant: int, discount) -> float:
    ideal = math.fsum(discount(rank) for rank in range(1, num_relevant + 1))
    return min(1.0, math.fsum(discount(rank) for rank in hits) / ideal)


def ranks_of(listed: Sequence[str], relevant: frozenset[str]) -> list[int]:
    """Ranks (from 1) at which relevant items stand. A repeated item keeps its place and earns once."""
    seen: set[str] = set()
    found = []
    for rank, item in enumerate(listed, start=1):
        if item in relevant and item not in seen:
            found.append(rank)
        seen.add(item)
    return found


@dataclass(frozen=True)
class Ranking(AnswerReader):
    """Score of an ordered list.

    `rule`: `ndcg` and `mm_r5` take the reference as the set of relevant items; `exact` and `pairs` (share of pairs in the
    right order, 0 unless the items are the reference's own) take it as the right order.
    """

    rule: str = "ndcg"
    cutoff: int = 0
    """Only the first `cutoff` listed items count; 0 means all."""
    max_items: int = 100
    """A longer list is unparsable."""
    threshold: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "rule", self.rule, ("ndcg", "mm_r5", "exact", "pairs"))
        share(self.name, "threshold", self.threshold)

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is empty or names an item twice."""
        items = accepted(sample.reference)
        gold = [normalise(item) for item in (read_items(items[0]) if isinstance(sample.reference, str) else items)]
        if not gold or len(set(gold)) < len(gold):
            raise ValueError(f"sample {sample.id}: the reference {sample.reference!r} is empty or names an item twice")
        want = ", ".join(gold)
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            return answer
        try:
            listed = [normalise(item) for item in read_items(answer)]
        except ValueError as err:
            return unparsable(str(err), want)
        if not listed or len(listed) > self.max_items:
            return unparsable(f"{len(listed)} items, want 1 to {self.max_items}", want)
        score = self._score(listed[: self.cutoff or None], gold)
        return graded(
            score, self.threshold, f"got {short(', '.join(listed), 120)}, want {short(want, 120)}: {self.rule} {score:.4f}"
        )

    def _score(self, listed: list[str], gold: list[str]) -> float:
        if self.rule in ("ndcg", "mm_r5"):
            hits = ranks_of(listed, frozenset(gold))
            relevant = min(len(gold), self.cutoff) if self.cutoff else len(gold)
            return ndcg(hits, relevant) if self.rule == "ndcg" else mm_r5(hits, relevant)
        if self.rule == "exact" or sorted(listed) != sorted(gold) or len(gold) == 1:
            return float(listed == gold)
        place = {item: index for index, item in enumerate(gold)}
        order = [place[item] for item in listed]
        pairs = [(a, b) for i, a in enumerate(order) for b in order[i + 1 :]]
        return sum(a < b for a, b in pairs) / len(pairs)
