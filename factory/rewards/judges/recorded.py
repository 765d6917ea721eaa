"""A recorded judge: past scores from a JSONL, for tests and for runs that must repeat exactly. What is not on record fails."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

from factory.contracts import Sample
from factory.errors import DataError
from factory.rewards.judges.judge import JudgeFailed


class Recorded:
    """Scores by (sample id, completion). Rows: {"sample": id, "completion": text, "score": number in [0, 1]}.

    Raises:
        DataError: naming file, line and reason; two rows of one key may not disagree.
    """

    is_share = True

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)
        self._scores: dict[str, float] = {}
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except OSError as err:
            raise DataError(f"{path}: cannot be read: {err.strerror}. Name a JSONL of sample, completion and score.") from err
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                key, score = _key(row["sample"], row["completion"]), float(row["score"])
                if not (math.isfinite(score) and 0 <= score <= 1):
                    raise ValueError(f"score {score} is outside of [0, 1]")
                if self._scores.setdefault(key, score) != score:
                    raise ValueError("an earlier row gives this completion another score")
            except (ValueError, KeyError, TypeError) as err:
                raise DataError(f"{path}:{number}: {err!r}. Want sample, completion and a score from 0 to 1.") from err

    def score(self, completion: str, sample: Sample) -> float:
        """The score on record. Raises JudgeFailed when there is none."""
        found = self._scores.get(_key(sample.id, completion))
        if found is None:
            raise JudgeFailed(f"{self._path} has no score for this completion of {sample.id}")
        return found

    def close(self) -> None:
        """Nothing to close."""


def _key(sample_id: str, completion: str) -> str:
    return hashlib.sha256(json.dumps([sample_id, completion]).encode("ascii")).hexdigest()
