"""Bedside calculators: formulas, units, unit traps, and the classic slips from which wrong options are made.

Formulas: guides/domains.md 2.7 (test vectors in 12); the alveolar gas equation is the usual one at sea level on room air
(0.21 x (760 - 47) - pCO2 / 0.8 - pO2). Teaching examples on invented patients: no dosing advice.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Values = Mapping[str, float]
Formula = Callable[[Values], float]


@dataclass(frozen=True)
class Item:
    """One number of a case. Its value is kept in `unit`; a trap shows it in another unit."""

    key: str
    label: str
    low: float
    high: float
    unit: str = ""
    decimals: int = 0
    trap_unit: str = ""
    trap_factor: float = 1.0
    """Shown number = value * factor, in `trap_unit`."""


@dataclass(frozen=True)
class Calculator:
    """One formula. `slips` are what hurried people do instead, by name."""

    name: str
    ask: str
    items: tuple[Item, ...]
    formula: Formula
    unit: str
    decimals: int
    slips: Mapping[str, Formula]
    steps: str
    """The working in words, for full style."""
    needs_patient: bool = False
    """Age and sex enter (`age` in years, `female` 0 or 1)."""
    is_sound: Callable[[Values], bool] = field(default=lambda v: True)
    """Draw again until this holds."""


_WEIGHT = Item("kg", "weight", 42, 120, "kg", 0, "lb", 2.20462)
_CREATININE = Item("scr", "serum creatinine", 0.5, 4.0, "mg/dL", 1, "umol/L", 88.42)
_GLUCOSE = Item("glucose", "glucose", 250, 900, "mg/dL", 0, "mmol/L", 1 / 18.016)


def cockcroft_gault(v: Values) -> float:
    """Creatinine clearance, mL/min."""
    return (140 - v["age"]) * v["kg"] / (72 * v["scr"]) * (0.85 if v["female"] else 1.0)


def ckd_epi_2021(v: Values) -> float:
    """eGFR without race, mL/min/1.73 m2."""
    kappa, alpha = (0.7, -0.241) if v["female"] else (0.9, -0.302)
    ratio = v["scr"] / kappa
    return 142 * min(ratio, 1) ** alpha * max(ratio, 1) ** -1.2 * 0.9938 ** v["age"] * (1.012 if v["female"] else 1.0)


def cha2ds2_vasc(v: Values) -> float:
    """Points from 0 to 9."""
    age = 2 if v["age"] >= 75 else 1 if v["age"] >= 65 else 0
    return v["chf"] + v["hypertension"] + age + v["diabetes"] + 2 * v["stroke"] + v["vascular"] + v["female"]


def _swapped(v: Values) -> Values:
    return {**v, "female": 1 - v["female"]}


def _flag(key: str, label: str) -> Item:
    return Item(key, label, 0, 1)


CALCULATORS: Mapping[str, Calculator] = {
    one.name: one
    for one in (
        Calculator("bmi", "What is the body mass index?", (_WEIGHT, Item("cm", "height", 148, 196, "cm", 0, "m", 0.01)),
            lambda v: v["kg"] / (v["cm"] / 100) ** 2, "kg/m^2", 1,
            {"height not squared": lambda v: v["kg"] / (v["cm"] / 100), "weight in pounds": lambda v: v["kg"] * 2.20462 / (v["cm"] / 100) ** 2,
             "height cubed": lambda v: v["kg"] / (v["cm"] / 100) ** 3},
            "weight in kg over the square of height in m"),
        Calculator("map", "What is the mean arterial pressure?",
            (Item("sbp", "systolic pressure", 90, 190, "mmHg"), Item("dbp", "diastolic pressure", 50, 110, "mmHg")),
            lambda v: (v["sbp"] + 2 * v["dbp"]) / 3, "mmHg", 1,
            {"weights swapped": lambda v: (2 * v["sbp"] + v["dbp"]) / 3, "plain mean": lambda v: (v["sbp"] + v["dbp"]) / 2,
             "pulse pressure": lambda v: v["sbp"] - v["dbp"]},
            "(systolic + 2 x diastolic) / 3", is_sound=lambda v: v["sbp"] - v["dbp"] >= 20),
        Calculator("anion_gap", "What is the anion gap?",
            (Item("na", "sodium", 130, 150, "mEq/L"), Item("cl", "chloride", 95, 112, "mEq/L"), Item("hco3", "bicarbonate", 8, 26, "mEq/L")),
            lambda v: v["na"] - (v["cl"] + v["hco3"]), "mEq/L", 0,
            {"bicarbonate forgotten": lambda v: v["na"] - v["cl"], "bicarbonate added": lambda v: v["na"] - v["cl"] + v["hco3"],
             "chloride forgotten": lambda v: v["na"] - v["hco3"]},
            "sodium - (chloride + bicarbonate)", is_sound=lambda v: v["na"] - v["cl"] - v["hco3"] >= 4),
        Calculator("corrected_sodium", "What is the sodium corrected for glucose (factor 1.6)?",
            (Item("na", "sodium", 118, 145, "mEq/L"), _GLUCOSE), lambda v: v["na"] + 1.6 * (v["glucose"] - 100) / 100, "mEq/L", 1,
            {"100 not taken off": lambda v: v["na"] + 1.6 * v["glucose"] / 100, "subtracted": lambda v: v["na"] - 1.6 * (v["glucose"] - 100) / 100,
             "factor 2.4": lambda v: v["na"] + 2.4 * (v["glucose"] - 100) / 100},
            "sodium + 1.6 x (glucose - 100) / 100, glucose in mg/dL"),
        Calculator("winter", "Which pCO2 does Winter's formula expect?", (Item("hco3", "bicarbonate", 6, 20, "mEq/L"),),
            lambda v: 1.5 * v["hco3"] + 8, "mmHg", 1,
            {"8 forgotten": lambda v: 1.5 * v["hco3"], "8 before the product": lambda v: 1.5 * (v["hco3"] + 8), "8 taken off": lambda v: 1.5 * v["hco3"] - 8},
            "1.5 x bicarbonate + 8 (give or take 2)"),
        Calculator("aa_gradient", "What is the alveolar-arterial oxygen gradient on room air at sea level?",
            (Item("pao2", "pO2", 50, 95, "mmHg", 0, "kPa", 0.133322), Item("paco2", "pCO2", 25, 55, "mmHg")),
            lambda v: 0.21 * 713 - v["paco2"] / 0.8 - v["pao2"], "mmHg", 1,
            {"no water vapour": lambda v: 0.21 * 760 - v["paco2"] / 0.8 - v["pao2"], "no respiratory quotient": lambda v: 0.21 * 713 - v["paco2"] - v["pao2"],
             "quotient multiplied": lambda v: 0.21 * 713 - v["paco2"] * 0.8 - v["pao2"]},
            "0.21 x (760 - 47) - pCO2 / 0.8 - pO2", is_sound=lambda v: 0.21 * 713 - v["paco2"] / 0.8 - v["pao2"] > 3),
        Calculator("qtc", "What is the corrected QT (Bazett)?", (Item("qt", "QT", 320, 480, "ms"), Item("rr", "RR", 550, 1200, "ms", 0, "s", 0.001)),
            lambda v: v["qt"] / math.sqrt(v["rr"] / 1000), "ms", 0,
            {"no root": lambda v: v["qt"] / (v["rr"] / 1000), "multiplied": lambda v: v["qt"] * math.sqrt(v["rr"] / 1000),
             "cube root": lambda v: v["qt"] / (v["rr"] / 1000) ** (1 / 3)},
            "QT over the square root of RR in seconds", is_sound=lambda v: abs(v["rr"] - 1000) >= 80),
        Calculator("cockcroft_gault", "What is the creatinine clearance (Cockcroft-Gault)?", (_WEIGHT, _CREATININE), cockcroft_gault, "mL/min", 1,
            {"sex factor swapped": lambda v: cockcroft_gault(_swapped(v)), "age from 220": lambda v: cockcroft_gault({**v, "age": v["age"] - 80}),
             "weight in pounds": lambda v: cockcroft_gault({**v, "kg": v["kg"] * 2.20462})},
            "(140 - age) x kg / (72 x creatinine in mg/dL), x 0.85 for women", needs_patient=True),
        Calculator("ckd_epi_2021", "What is the eGFR (CKD-EPI 2021)?", (_CREATININE,), ckd_epi_2021, "mL/min/1.73 m^2", 0,
            {"sex swapped": lambda v: ckd_epi_2021(_swapped(v)), "age left out": lambda v: ckd_epi_2021({**v, "age": 0}),
             "race factor of 2009": lambda v: ckd_epi_2021(v) * 1.159},
            "142 x min(Scr/k, 1)^a x max(Scr/k, 1)^-1.2 x 0.9938^age, x 1.012 for women", needs_patient=True),
        Calculator("friedewald", "What is the LDL cholesterol (Friedewald)?",
            (Item("tc", "total cholesterol", 140, 320, "mg/dL"), Item("hdl", "HDL cholesterol", 25, 80, "mg/dL"), Item("tg", "triglycerides", 60, 390, "mg/dL")),
            lambda v: v["tc"] - v["hdl"] - v["tg"] / 5, "mg/dL", 1,
            {"triglycerides whole": lambda v: v["tc"] - v["hdl"] - v["tg"], "triglycerides forgotten": lambda v: v["tc"] - v["hdl"],
             "divisor 2.2": lambda v: v["tc"] - v["hdl"] - v["tg"] / 2.2},
            "total - HDL - triglycerides / 5", is_sound=lambda v: v["tc"] - v["hdl"] - v["tg"] > 5),
        Calculator("fena", "What is the fractional excretion of sodium?",
            (Item("una", "urine sodium", 5, 90, "mEq/L"), Item("pna", "plasma sodium", 130, 148, "mEq/L"),
             Item("ucr", "urine creatinine", 30, 200, "mg/dL"), Item("pcr", "plasma creatinine", 1.2, 5.0, "mg/dL", 1)),
            lambda v: 100 * v["una"] * v["pcr"] / (v["pna"] * v["ucr"]), "%", 2,
            {"creatinines swapped": lambda v: 100 * v["una"] * v["ucr"] / (v["pna"] * v["pcr"]), "a share, not per cent": lambda v: v["una"] * v["pcr"] / (v["pna"] * v["ucr"]),
             "sodiums swapped": lambda v: 100 * v["pna"] * v["pcr"] / (v["una"] * v["ucr"])},
            "100 x urine Na x plasma creatinine / (plasma Na x urine creatinine)", is_sound=lambda v: v["una"] * v["pcr"] / (v["pna"] * v["ucr"]) > 0.001),
        Calculator("parkland", "How much fluid does the Parkland formula give in the first 24 hours?", (_WEIGHT, Item("tbsa", "burned area", 10, 60, "%")),
            lambda v: 4 * v["kg"] * v["tbsa"], "mL", 0,
            {"2 mL": lambda v: 2 * v["kg"] * v["tbsa"], "weight in pounds": lambda v: 4 * v["kg"] * 2.20462 * v["tbsa"],
             "area as a share": lambda v: 4 * v["kg"] * v["tbsa"] / 100},
            "4 mL x kg x % of body surface"),
        Calculator("cha2ds2_vasc", "What is the CHA2DS2-VASc score?",
            tuple(_flag(*pair) for pair in (("chf", "heart failure"), ("hypertension", "hypertension"), ("diabetes", "diabetes"),
                                           ("stroke", "previous stroke"), ("vascular", "vascular disease"))),
            cha2ds2_vasc, "", 0,
            {"stroke counts one": lambda v: cha2ds2_vasc(v) - v["stroke"], "sex forgotten": lambda v: cha2ds2_vasc(v) - v["female"],
             "75 counts one": lambda v: cha2ds2_vasc(v) - (v["age"] >= 75), "one too many": lambda v: cha2ds2_vasc(v) + 1,
             "two too many": lambda v: cha2ds2_vasc(v) + 2, "three too many": lambda v: cha2ds2_vasc(v) + 3},
            "one point each, two for stroke and for age from 75", needs_patient=True),
        Calculator("dose", "How many mg is one dose?", (_WEIGHT, Item("per_kg", "dose per kg and day", 2, 20, "mg/kg"), Item("doses", "doses a day", 2, 4)),
            lambda v: v["kg"] * v["per_kg"] / v["doses"], "mg", 0,
            {"not divided": lambda v: v["kg"] * v["per_kg"], "weight in pounds": lambda v: v["kg"] * 2.20462 * v["per_kg"] / v["doses"],
             "divided twice": lambda v: v["kg"] * v["per_kg"] / v["doses"] ** 2},
            "kg x mg/kg / doses a day"),
    )
}  # fmt: skip
"""All calculators by name."""

DISTRACTORS = (
    ("potassium", 3.4, 5.2, 1, "mEq/L"), ("haemoglobin", 9, 16, 1, "g/dL"), ("white cells", 4, 14, 1, "10^9/L"), ("albumin", 2.8, 4.8, 1, "g/dL"),
    ("calcium", 8.2, 10.4, 1, "mg/dL"), ("urea nitrogen", 8, 60, 0, "mg/dL"), ("temperature", 36.2, 38.9, 1, "degC"), ("heart rate", 55, 120, 0, "/min"),
)  # fmt: skip
"""Laboratory values that no formula above reads."""


@dataclass(frozen=True)
class Case:
    """One invented patient with the numbers of one calculator."""

    calculator: Calculator
    values: Values
    shown: Mapping[str, str]
    """Item key -> number and unit as printed; the values are exactly what is printed, converted back."""

    @property
    def exact(self) -> float:
        """The unrounded answer."""
        return self.calculator.formula(self.values)

    @property
    def answer(self) -> str:
        """The answer as printed."""
        return f"{self.exact:.{self.calculator.decimals}f}"

    def slips(self) -> dict[str, str]:
        """Slip -> wrong answer as printed; only those that differ from the right answer and from each other."""
        seen, found = {self.answer}, {}
        for name, formula in self.calculator.slips.items():
            printed = f"{formula(self.values):.{self.calculator.decimals}f}"
            if printed not in seen:
                seen.add(printed)
                found[name] = printed
        return found


def draw_calculation(rng: random.Random, name: str, *, trap_share: float) -> Case:
    """A case of one calculator; each item with another common unit is printed in it with probability `trap_share`."""
    calculator = CALCULATORS[name]
    while True:
        values: dict[str, float] = {"age": rng.randint(22, 88), "female": rng.randint(0, 1)}
        shown = {}
        for item in calculator.items:
            value = round(rng.uniform(item.low, item.high), item.decimals)
            if item.trap_unit and rng.random() < trap_share:
                printed = f"{value * item.trap_factor:.{_trap_decimals(item)}f}"
                values[item.key] = float(printed) / item.trap_factor
                shown[item.key] = f"{printed} {item.trap_unit}"
            else:
                values[item.key] = value
                shown[item.key] = f"{value:.{item.decimals}f} {item.unit}".strip()
        if calculator.is_sound(values):
            return Case(calculator, values, shown)


def _trap_decimals(item: Item) -> int:
    """Digits that keep the value recognisable: two for small numbers, none for large ones."""
    return 2 if item.high * item.trap_factor < 10 else 1 if item.high * item.trap_factor < 60 else 0
