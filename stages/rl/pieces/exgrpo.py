"""ExGRPO (arXiv 2510.02245): questions that were partly solved come back, each with one of its stored successes.

Per question the buffer holds every success with its recorded log-probs and how the last attempt went. In a step up to half
of the prompts are such questions: G-1 fresh rollouts and the stored success that the present policy is surest of.
Solved questions leave the buffer; `pool.retire_solved` keeps them from being drawn at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.draws import draw, normalised
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.pieces.replay import bring_back, keep, put_in
from factory.stages.rl.pool import PromptPool
from factory.stages.rl.rollouts import FRESH, Group, Rollout

BUCKETS = ("paper", "code")
MEASURES = ("accuracy", "spread")
MIN_WEIGHT = 1e-300
"""So that in very large groups the code's narrow weights do not round to 0 in the outer buckets."""


def bucket_weights(group_size: int, bucket: str) -> list[float]:
    """Probability of the buckets k = 1..K-1 (k of K right), in that order.

    `paper`: a normal of mean 0.5 and deviation 1 over the rate k/K, nearly flat; `code`: of mean K/2 and deviation 1 over
    the count k, sharply peaked.
    """
    size = group_size
    distances = [(k / size - 0.5) if bucket == "paper" else (k - size / 2) for k in range(1, size)]
    return normalised([math.exp(-(d**2) / 2) for d in distances])


@piece(
    "inject", "exgrpo", needs={"behaviour_logprobs", "policy_entropy"},
    formula="floor(share B) questions with 0 < Acc < 1, bucket ~ N(Acc); group = G-1 fresh + argmin_success H(policy)",
    source="ExGRPO, arXiv 2510.02245; https://github.com/ElliottYan/LUFFY (ExGRPO)",
    caveat="paper and code differ in the bucket's width; a short bucket gives what is left to the others in proportion to their "
    "weights (our reading); G are generated and the last gives up its place",
)  # fmt: skip
@dataclass
class ExGrpo:
    """Experience replay by question. Reserves its prompts in the step's first draw."""

    bucket: str = "paper"
    """`paper` (over the rate, nearly flat) or `code` (over the count, peaked)."""
    measure: str = "accuracy"
    """`accuracy`: buckets of the last Acc. `spread`, for graded rewards: of the last reward deviation, scaled to [0, 1] between
    the smallest and largest of the buffer."""
    share: float = 0.5
    """Of the step's prompts, at most."""
    start_rate: float = 0.35
    """Replay begins after the first step whose pass rate is above it."""
    max_stored: int = 0
    """Successes kept per question, the newest; 0 keeps all, as the paper does (the buffer and its checkpoints grow)."""

    def __post_init__(self) -> None:
        for value, known in ((self.bucket, BUCKETS), (self.measure, MEASURES)):
            if value not in known:
                raise ValueError(f"{value!r} is not known. Choose one of: {', '.join(known)}.")
        if not 0 < self.share <= 1 or not 0 <= self.start_rate < 1 or self.max_stored < 0:
            raise ValueError("share must be in (0, 1], start_rate in [0, 1) and max_stored 0 or more.")
        self._questions: dict[str, dict[str, Any]] = {}
        self._has_started = False
        self._reserved: list[str] = []
        self._reserved_at = -1

    def reserve(self, ctx: StepContext, pool: PromptPool, num: int) -> list[int]:
        """Places of the questions to replay among the step's first `num` prompts; none in its refills."""
        if self._reserved_at == ctx.step:
            return []
        self._reserved_at, self._reserved = ctx.step, []
        if self._has_started:
            places = {name: pool.place_of(name) for name in self._eligible()}
            allowed = {name: place for name, place in places.items() if place is not None and pool.eligible(place)}
            self._reserved = self._draw(ctx, list(allowed), math.floor(self.share * num))
            return [allowed[name] for name in self._reserved]
        return []

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> list[Group]:
        """The groups; each reserved question's last fresh rollout gives its place to a stored success."""
        places = {name: place for name in self._reserved if (place := _first_of(groups, name)) is not None}
        stored = {name: [self._restored(ctx, groups[place], row) for row in self._questions[name]["rows"]]
                  for name, place in places.items()}  # fmt: skip
        result = list(groups)
        if stored:
            assert ctx.services is not None, "a run has services"
            pairs = [(groups[places[name]].sample, rollout) for name, own in stored.items() for rollout in own]
            entropies = iter(ctx.services.entropies(pairs))
            for name, own in stored.items():
                # min() takes the first of equals: the oldest.
                _, best = min(((next(entropies), i) for i in range(len(own))), key=lambda pair: pair[0])
                result[places[name]] = put_in(groups[places[name]], own[best], -1)
        ctx.metrics["exgrpo/replayed"] = float(len(stored))
        ctx.metrics["exgrpo/questions"] = float(len(self._questions))
        return result

    def observe(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Store the step's successes, drop what is solved, and see whether replay may begin."""
        live = [rollout for group in groups for rollout in group.live()]
        for group in groups:
            self._take_in(ctx, group)
        if live and sum(rollout.right for rollout in live) / len(live) > self.start_rate:
            self._has_started = True

    def _take_in(self, ctx: StepContext, group: Group) -> None:
        name, rate = group.sample.id, group.pass_rate()
        if rate is None:
            return
        if rate == 1.0:
            self._questions.pop(name, None)
            return
        values = [rollout.value for rollout in group.live()]
        mean = math.fsum(values) / len(values)
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
        rows = self._questions[name]["rows"] if name in self._questions else []
        rows = rows + [keep(ctx, group.sample, r) for r in group.live() if r.right and r.kind == FRESH]
        if rows:
            self._questions[name] = {"accuracy": rate, "spread": spread, "rows": rows[-self.max_stored :]}

    def _eligible(self) -> list[str]:
        return [name for name, question in self._questions.items() if question[self.measure] > 0]

    def _draw(self, ctx: StepContext, names: Sequence[str], num: int) -> list[str]:
        """`num` questions: a bucket by its weight among those that still have one, then any of its questions."""
        size = ctx.group_size
        weights, buckets = bucket_weights(size, self.bucket), self._buckets(names, size)
        rng = ctx.rng("exgrpo-questions")
        found: list[str] = []
        while len(found) < num and any(buckets.values()):
            left = [max(weights[k - 1], MIN_WEIGHT) if buckets.get(k) else 0.0 for k in range(1, size)]
            own = buckets[1 + draw(rng, left, 1, with_replacement=False)[0]]
            found.append(own.pop(rng.randrange(len(own))))
        return found

    def _buckets(self, names: Sequence[str], size: int) -> dict[int, list[str]]:
        """Bucket 1..size-1 -> its questions."""
        values = {name: self._questions[name][self.measure] for name in names}
        if self.measure == "spread" and values:
            low, high = min(values.values()), max(values.values())
            values = {name: (value - low) / (high - low) if high > low else 0.5 for name, value in values.items()}
        buckets: dict[int, list[str]] = {}
        for name, value in values.items():
            buckets.setdefault(min(max(round(value * size), 1), size - 1), []).append(name)
        return buckets

    @staticmethod
    def _restored(ctx: StepContext, group: Group, row: Mapping[str, Any]) -> Rollout:
        last = group.rollouts[-1]
        return bring_back(ctx, row, place=last.place, index=last.index)[1]

    def state_dict(self) -> dict[str, Any]:
        """The buffer, and whether replay has begun."""
        return {"questions": dict(self._questions), "has_started": self._has_started}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with it."""
        self._questions = {name: dict(question) for name, question in state["questions"].items()}
        self._has_started = bool(state["has_started"])


def _first_of(groups: Sequence[Group], name: str) -> int | None:
    return next((place for place, group in enumerate(groups) if group.sample.id == name and group.rollouts), None)
