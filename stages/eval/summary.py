"""Turn scored rows into the figures of `eval.json`: value, count and interval, overall and per task."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from factory.contracts import Status
from factory.stages.eval.intervals import mean_interval

WITHHELD = "[withheld"
"""How the prompt of a row begins whose real prompt must not be printed."""


@dataclass(frozen=True)
class Row:
    """One held-out sample with what the model said and what the verifier made of it."""

    id: str
    task: str
    prompt: str
    completion: str
    score: float
    status: str
    reason: str
    reference: Any
    tokens: int
    finished: bool
    image: str | None = None

    @property
    def is_counted(self) -> bool:
        """False when the verifier itself failed; such a row is neither right nor wrong."""
        return not Status(self.status).is_masked

    def to_json(self) -> str:
        """One line of `samples.jsonl`."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _majority(rows: Sequence[Row]) -> float | None:
    """Share that one constant answer per task would get: the figure that a blind guesser reaches."""
    if not rows:
        return None
    hits = 0
    for task in {row.task for row in rows}:
        references = Counter(json.dumps(row.reference, sort_keys=True) for row in rows if row.task == task)
        hits += references.most_common(1)[0][1]
    return hits / len(rows)


def summarise(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    """The `splits` entry of one eval. Masked rows leave numerator and denominator and are counted under `statuses`."""
    counted = [row for row in rows if row.is_counted]
    low, high = mean_interval([row.score for row in counted])
    right = [row.tokens for row in counted if row.score >= 1.0]
    wrong = [row.tokens for row in counted if row.score < 1.0]
    return {
        "primary": {"name": name, "value": _mean([row.score for row in counted]), "n": len(counted), "ci": _finite(low, high)},
        "majority": _majority(counted),
        "tasks": {task: _task([row for row in counted if row.task == task]) for task in sorted({row.task for row in counted})},
        "statuses": dict(sorted(Counter(row.status for row in rows).items())),
        "length": {"right": _mean(right), "wrong": _mean(wrong), "truncated": sum(not row.finished for row in rows)},
    }


def _task(rows: Sequence[Row]) -> Mapping[str, Any]:
    num = math.fsum(row.score for row in rows)
    low, high = mean_interval([row.score for row in rows])
    return {"value": num / len(rows), "num": num, "n": len(rows), "ci": _finite(low, high), "majority": _majority(rows)}


def _finite(low: float, high: float) -> list[float] | None:
    return [low, high] if math.isfinite(low) and math.isfinite(high) else None
