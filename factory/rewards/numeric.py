"""A number with a unit, right within a tolerance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from factory.contracts import Sample, Status, Verdict
from factory.errors import ConfigError
from factory.rewards.quantities import Quantity, converted, read_quantity
from factory.rewards.reader import AnswerReader, one_of, unparsable


@dataclass(frozen=True)
class NumericAnswer(AnswerReader):
    """The answer is one number, close enough to the reference.

    The reference is a number, a text such as `24 mEq/L`, or `{"value": 24, "unit": "mEq/L"}`. Units are converted by pint.

    `rule`:
    - `tolerance`: 1 when |got - want| <= max(abs_tol, rel_tol * |want|) (Mixed-R1's chart reward: rel_tol 0.05);
    - `decimals`: 1 when both round to the same number at `decimals` places (HumanOmniV2: 2);
    - `closeness`: 1 - |got - want| / |want|, not below 0 (HumanOmniV2's regression); `ok` within the tolerance.
    """

    rule: str = "tolerance"
    rel_tol: float = 0.0
    abs_tol: float = 1e-9
    is_open: bool = False
    """The bound itself is outside (Q-Insight: |got - want| < 0.35)."""
    decimals: int = 2
    unit: str = ""
    """Unit of references that carry none."""
    needs_unit: bool = False
    """An answer without a unit is unparsable when the reference has one."""
    definitions: tuple[str, ...] = ()
    """More units in pint's own syntax, such as `puff = [dose]`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "rule", self.rule, ("tolerance", "decimals", "closeness"))
        for key in ("rel_tol", "abs_tol"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"verifier '{self.name}': {key} is {value!r}; want a finite number, 0 or more.")
        if not 0 <= self.decimals <= 15:
            raise ConfigError(f"verifier '{self.name}': decimals is {self.decimals}; want 0 to 15.")

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is no number; PluginError when units must be converted and pint is missing."""
        gold = self.gold(sample)
        want = f"{gold.value:.12g} {gold.unit}".strip()
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            return answer
        try:
            got = read_quantity(answer)
        except ValueError as err:
            return unparsable(str(err), want)
        if gold.unit and self.needs_unit and not got.unit:
            return unparsable("no unit", want)
        try:
            value = converted(got, gold.unit, self.definitions)
        except ValueError as err:
            return Verdict(0.0, Status.wrong, f"{err}; want {want!r}")
        return self._verdict(value, gold.value, f"got {value:.12g}, want {want}")

    def _verdict(self, value: float, want: float, reason: str) -> Verdict:
        error = abs(value - want)
        bound = max(self.abs_tol, self.rel_tol * abs(want))
        is_right = error < bound if self.is_open else error <= bound
        score = float(is_right)
        if self.rule == "decimals":
            score = float(round(value, self.decimals) == round(want, self.decimals))
            is_right = score == 1.0
        elif self.rule == "closeness":
            score = max(0.0, 1.0 - error / abs(want)) if want else float(error == 0.0)
        return Verdict(score, Status.ok if is_right else Status.wrong, reason, {"error": min(error, 1e300)})

    def gold(self, sample: Sample) -> Quantity:
        """The reference. Raises ValueError when it is no finite number: the sample is faulty."""
        reference: Any = sample.reference
        unit = self.unit
        if isinstance(reference, Mapping):
            unit, reference = str(reference.get("unit") or self.unit), reference.get("value")
        if isinstance(reference, str):
            quantity = read_quantity(reference)
            return Quantity(quantity.value, quantity.unit or unit, quantity.decimals)
        if isinstance(reference, bool) or not isinstance(reference, int | float) or not math.isfinite(reference):
            raise ValueError(f"sample {sample.id}: reference {sample.reference!r} is no finite number")
        return Quantity(float(reference), unit)
