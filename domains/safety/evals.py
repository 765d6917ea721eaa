"""What the pack measures: one two-sided accuracy that decides, and figures that read the same answers by the published rules."""

from __future__ import annotations

from factory.contracts import Eval
from factory.domains.safety.figures import against_constants, instruction_figures, refusal_figures, tension_figures


def evals() -> dict[str, Eval]:
    """The pack's evals by name. `accuracy` decides which stage is kept: it holds safe and unsafe requests, so neither extreme wins it."""
    found = (
        Eval("accuracy", "qa", verifier="accuracy", primary=True),
        Eval("constant policies", "probe", probe=against_constants, needs_vision=False),
        Eval("refusal", "probe", probe=refusal_figures, needs_vision=False),
        Eval("reward and cost", "probe", probe=tension_figures, needs_vision=False),
        Eval("instructions", "probe", probe=instruction_figures, needs_vision=False),
    )
    return {evaluation.name: evaluation for evaluation in found}
