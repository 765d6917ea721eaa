"""Counts of verdicts per verifier and status, and the rule that stops a run whose verifiers keep failing."""

from __future__ import annotations

from collections import deque

from factory.contracts import Status, Verdict
from factory.errors import RewardError

MIN_VERDICTS = 50
"""No rate is judged on fewer verdicts of a verifier."""
WINDOW = 500
"""Newest verdicts of a verifier that the rate is taken over, so that late trouble in a long run shows at once."""


class Tally:
    """Counts verdicts. `max_error_rate` is the largest tolerated share of `error` and `timeout`, in [0, 1]."""

    def __init__(self, pack: str, max_error_rate: float) -> None:
        self._pack = pack
        self._max_error_rate = max_error_rate
        self._counts: dict[str, dict[str, int]] = {}
        self._recent: dict[str, deque[bool]] = {}
        self._last_failed: dict[str, Verdict] = {}

    def counts(self) -> dict[str, dict[str, int]]:
        """verifier -> status -> number of verdicts, all statuses present."""
        return {verifier: dict(row) for verifier, row in sorted(self._counts.items())}

    def add(self, verifier: str, verdict: Verdict, *, is_fresh: bool = True) -> None:
        """Count one verdict. A verdict from the cache (`is_fresh=False`) is counted, but says nothing about failures.

        Raises RewardError when the verifier's rate of failures is above the limit.
        """
        row = self._counts.setdefault(verifier, dict.fromkeys((status.value for status in Status), 0))
        row[verdict.status.value] += 1
        if not is_fresh:
            return
        recent = self._recent.setdefault(verifier, deque(maxlen=WINDOW))
        recent.append(verdict.status.is_masked)
        if not verdict.status.is_masked:
            return
        self._last_failed[verifier] = verdict
        if len(recent) >= MIN_VERDICTS and sum(recent) / len(recent) > self._max_error_rate:
            raise self._refusal(verifier)

    def check_end(self) -> None:
        """Judge what is too little for a rate: raises RewardError when more than half of a verifier's few fresh verdicts failed."""
        for verifier, recent in self._recent.items():
            if len(recent) < MIN_VERDICTS and sum(recent) / len(recent) > max(0.5, self._max_error_rate):
                raise self._refusal(verifier)

    def _refusal(self, verifier: str) -> RewardError:
        recent, last = self._recent[verifier], self._last_failed[verifier]
        return RewardError(
            f"verifier '{verifier}' of '{self._pack}' failed on {sum(recent)} of its last {len(recent)} verdicts "
            f"({sum(recent) / len(recent):.1%}; pool.max_error_rate is {self._max_error_rate:.1%}). "
            f"Last reason: {last.status.value}: {last.reason} "
            f"Mend the verifier or its data, or raise pool.timeout_s, pool.memory_mib or pool.max_error_rate."
        )
