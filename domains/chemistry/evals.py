"""What the pack measures while it builds: accuracy by task, and whether free answers are molecules at all.

Each further eval generates again, so the others are figures over the completions of the first: see metrics.py.
"""

from __future__ import annotations

from factory.contracts import Eval

FREE_TASKS = ("compose", "optimise", "design")
"""Tasks with many right answers, where an invalid molecule is not just a wrong copy."""


def evals() -> dict[str, Eval]:
    """The pack's evals by name. `accuracy` decides which stage is kept; the report also splits it by task."""
    found = (
        Eval("accuracy", "qa", verifier="accuracy", primary=True),
        Eval("validity", "qa", verifier="validity", tasks=FREE_TASKS),
    )
    return {evaluation.name: evaluation for evaluation in found}
