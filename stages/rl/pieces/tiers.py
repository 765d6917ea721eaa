"""Tiers of difficulty: from pass rates, or from a field that the samples carry. Shared by the samplers that speak of tiers."""

from __future__ import annotations

from dataclasses import dataclass

from factory.contracts import Sample
from factory.errors import DataError
from factory.stages.rl.pool import PromptPool, PromptStat

TIERS = ("easy", "medium", "hard")
META = "meta."


@dataclass(frozen=True)
class TierRule:
    """How a prompt gets its tier.

    By rates: easy `p >= easy_from`, hard `p <= hard_to`, else medium. The defaults of the pieces, 1 and 0, are MMedAgent-RL's
    tiers (guides B3.8).
    """

    by: str
    """`offline` (a select stage's pass rate), `latest` (the last draw's, before that the offline one), or `meta.KEY`."""
    easy_from: float
    hard_to: float
    unknown: str
    """Tier of a prompt without a rate or without the field."""

    def __post_init__(self) -> None:
        check_by(self.by, ("offline", "latest"))
        if not 0 <= self.hard_to < self.easy_from <= 1:
            raise ValueError("want 0 <= hard_to < easy_from <= 1.")

    def of(self, sample: Sample, stat: PromptStat) -> str:
        """The tier's name; of a `meta` field, its value as text."""
        if self.by.startswith(META):
            return str(sample.meta.get(self.by.removeprefix(META), self.unknown))
        rate = stat.offline_rate if self.by == "offline" else stat.pass_rate
        if rate is None:
            return self.unknown
        return "easy" if rate >= self.easy_from else "hard" if rate <= self.hard_to else "medium"

    def sets(self, pool: PromptPool, where: str) -> dict[str, list[int]]:
        """Tier -> all places, eligible or not; easy, medium, hard first.

        Raises:
            DataError: no prompt at all has an offline rate, or the field.
        """
        if self.by == "offline" and all(stat.offline_rate is None for stat in pool.stats):
            raise DataError(
                f"rl: {where}.by=offline, but no prompt has a pass rate. Set prompts_from to a select stage, or by=latest, "
                "or by=meta.KEY for a field of the samples."
            )
        key = self.by.removeprefix(META)
        if self.by.startswith(META) and not any(key in sample.meta for sample in pool.samples):
            known = sorted({name for sample in pool.samples for name in sample.meta})
            raise DataError(f"rl: {where}.by={self.by}, but no sample has that field. They have: {', '.join(known) or 'none'}.")
        found: dict[str, list[int]] = {}
        for sample, stat in zip(pool.samples, pool.stats, strict=True):
            found.setdefault(self.of(sample, stat), []).append(stat.place)
        return {name: found[name] for name in sorted(found, key=_rank)}


def _rank(name: str) -> tuple[int, str]:
    return (TIERS.index(name), name) if name in TIERS else (len(TIERS), name)


def check_by(by: str, words: tuple[str, ...]) -> None:
    """Raises ValueError unless `by` is one of the words or `meta.KEY`."""
    if by not in words and not (by.startswith(META) and len(by) > len(META)):
        raise ValueError(f"by must be one of: {', '.join(words)}, meta.KEY; got {by!r}.")


def eligible_only(pool: PromptPool, sets: dict[str, list[int]]) -> dict[str, list[int]]:
    """The sets without what pool pieces have set aside. Raises TrainingError when nothing is left."""
    pool.eligible_places()
    return {name: [place for place in places if pool.eligible(place)] for name, places in sets.items()}


def stage_of(progress: float, num_stages: int, ends: list[float]) -> int:
    """Which stage of `num_stages` holds at `progress` in [0, 1): equal parts, or the parts that `ends` cut off."""
    if not ends:
        return min(int(progress * num_stages), num_stages - 1)
    return sum(progress >= end - 1e-12 for end in ends[:-1])


def check_ends(ends: list[float], num_stages: int) -> None:
    """Raises ValueError unless `ends` is empty or rises to 1 with one entry per stage."""
    if ends and (len(ends) != num_stages or sorted(set(ends)) != ends or ends[0] <= 0 or abs(ends[-1] - 1) > 1e-9):
        raise ValueError(f"ends must have {num_stages} rising shares of the run, the last one 1, or be empty for equal parts.")
