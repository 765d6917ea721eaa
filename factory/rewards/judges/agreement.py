"""How far judges and rules say the same during training. A judge that drifts from the rules is the first sign of a talked-over one."""

from __future__ import annotations

from collections import defaultdict

from factory.contracts import Status, Verdict


class Agreement:
    """Counts since the last `clear`. Masked verdicts count as failures only."""

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[float, bool, bool]]] = defaultdict(list)
        self._asked: dict[str, int] = defaultdict(int)

    def add(self, judge: str, verdict: Verdict, rule: Verdict) -> None:
        """One completion that both have judged."""
        self._asked[judge] += 1
        if not verdict.status.is_masked and not rule.status.is_masked:
            self._rows[judge].append((verdict.score, verdict.status is Status.ok, rule.status is Status.ok))

    def clear(self) -> None:
        """Begin anew: a step starts."""
        self._rows.clear()
        self._asked.clear()

    def figures(self) -> dict[str, float]:
        """`judge/<name>/asked`, `/score`, `/agreement` (same side as the task's main rule), `/over` (right only for the judge), `/failed`."""
        found: dict[str, float] = {}
        for name, asked in sorted(self._asked.items()):
            rows = self._rows[name]
            found[f"judge/{name}/asked"] = float(asked)
            found[f"judge/{name}/failed"] = 1.0 - len(rows) / asked
            if rows:
                found[f"judge/{name}/score"] = sum(score for score, _, _ in rows) / len(rows)
                found[f"judge/{name}/agreement"] = sum(a == b for _, a, b in rows) / len(rows)
                found[f"judge/{name}/over"] = sum(a and not b for _, a, b in rows) / len(rows)
        return found
