"""Acid-base and ECG-interval cases with exact answers.

Acid-base: pCO2 and bicarbonate are drawn, pH follows from Henderson-Hasselbalch (6.1 + log10(HCO3 / (0.03 pCO2))), so every case is
consistent. Winter's formula (1.5 HCO3 + 8 +- 2, guides/domains.md 2.7) gives the expected pCO2 of a metabolic acidosis.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

PH, PCO2, HCO3 = (7.35, 7.45), (35, 45), (22, 26)
"""Normal ranges: pH, mmHg, mEq/L."""
PR, QRS, QTC_MEN, QTC_WOMEN = (120, 200), 120, 450, 460
"""ms: normal PR from..to, QRS from which it is wide, QTc above which it is long."""
ACID_BASE = (
    "normal", "metabolic acidosis", "respiratory acidosis", "mixed acidosis", "metabolic alkalosis", "respiratory alkalosis",
)  # fmt: skip
ECG = ("normal", "short PR", "first degree block", "wide QRS", "long QT")


def level(value: float, normal: tuple[float, float]) -> str:
    """`low`, `normal` or `high`; the ends of the range are normal."""
    return "low" if value < normal[0] else "high" if value > normal[1] else "normal"


def winter(hco3: float) -> float:
    """Expected pCO2 of a compensated metabolic acidosis, mmHg, +- 2."""
    return 1.5 * hco3 + 8


@dataclass(frozen=True, slots=True)
class BloodGas:
    """pCO2 in mmHg and bicarbonate in mEq/L."""

    pco2: int
    hco3: float
    """To one decimal."""

    @property
    def ph(self) -> float:
        """To two decimals, as laboratories print it."""
        return round(6.1 + math.log10(self.hco3 / (0.03 * self.pco2)), 2)

    def levels(self) -> dict[str, str]:
        """pH, pCO2 and bicarbonate against their normal ranges."""
        return {"p": level(self.ph, PH), "c": level(self.pco2, PCO2), "b": level(self.hco3, HCO3)}

    def disorder(self) -> str:
        """One of ACID_BASE. Both causes of one direction at once is `mixed`; a compensating change is not."""
        levels = self.levels()
        if levels["p"] == "low":
            causes = (levels["b"] == "low", levels["c"] == "high")
            return "mixed acidosis" if all(causes) else "metabolic acidosis" if causes[0] else "respiratory acidosis"
        if levels["p"] == "high":
            return "metabolic alkalosis" if levels["b"] == "high" else "respiratory alkalosis"
        return "normal"


def draw_gas(rng: random.Random) -> BloodGas:
    """A gas whose disorder is each of ACID_BASE equally often, and which no other reading of the table fits."""
    wanted = rng.choice(ACID_BASE)
    ranges = {
        "normal": ((37, 43), (23, 25)), "metabolic acidosis": ((18, 40), (8, 18)), "respiratory acidosis": ((50, 80), (23, 26)),
        "mixed acidosis": ((48, 70), (10, 20)), "metabolic alkalosis": ((36, 45), (30, 40)),
        "respiratory alkalosis": ((20, 30), (22, 25)),
    }[wanted]  # fmt: skip
    while True:
        gas = BloodGas(rng.randint(*ranges[0]), rng.randint(10 * ranges[1][0], 10 * ranges[1][1]) / 10)
        if wanted == "metabolic acidosis":
            gas = BloodGas(round(winter(gas.hco3)) + rng.randint(-2, 2), gas.hco3)
        is_within = 6.9 <= gas.ph <= 7.7
        if gas.disorder() == wanted and is_within:
            return gas


@dataclass(frozen=True, slots=True)
class Ecg:
    """Intervals in ms. `rr` is 1000 where the QT is already corrected."""

    pr: int
    qrs: int
    qt: int
    rr: int = 1000
    is_woman: bool = False

    @property
    def qtc(self) -> float:
        """Bazett: QT / sqrt(RR in s), ms."""
        return self.qt / math.sqrt(self.rr / 1000)

    def reading(self) -> str:
        """One of ECG; the cases are drawn with at most one abnormal interval."""
        if self.pr > PR[1]:
            return "first degree block"
        if self.pr < PR[0]:
            return "short PR"
        if self.qrs >= QRS:
            return "wide QRS"
        return "long QT" if self.qtc > (QTC_WOMEN if self.is_woman else QTC_MEN) else "normal"

    def levels(self) -> dict[str, str]:
        """PR, QRS and QTc against their limits."""
        return {
            "PR": level(self.pr, PR), "QRS": "high" if self.qrs >= QRS else "normal",
            "QTc": "high" if self.qtc > (QTC_WOMEN if self.is_woman else QTC_MEN) else "normal",
        }  # fmt: skip


def draw_ecg(rng: random.Random, *, corrected: bool) -> Ecg:
    """An ECG whose reading is each of ECG equally often; 10 ms away from every limit.

    Args:
        corrected: give the corrected QT itself (RR 1000 ms) instead of QT and RR.
    """
    wanted = rng.choice(ECG)
    pr = rng.randint(130, 190)
    pr = rng.randint(80, 110) if wanted == "short PR" else rng.randint(210, 320) if wanted == "first degree block" else pr
    qrs = rng.randint(130, 180) if wanted == "wide QRS" else rng.randint(70, 110)
    target = rng.randint(475, 560) if wanted == "long QT" else rng.randint(360, 439)
    rr = 1000 if corrected else rng.choice((600, 640, 700, 750, 800, 810, 850, 900, 1100, 1200))
    return Ecg(pr, qrs, round(target * math.sqrt(rr / 1000)), rr, rng.random() < 0.5)
