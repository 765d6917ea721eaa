"""Formulas and cases against the guide's vectors and hand arithmetic; generated cases are consistent."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.domains.medicine.calculators import CALCULATORS, draw_calculation
from factory.domains.medicine.entities import draw_report
from factory.domains.medicine.labs import ACID_BASE, ECG, BloodGas, Ecg, draw_ecg, draw_gas, winter

VECTORS = [
    ("anion_gap", {"na": 140, "cl": 104, "hco3": 12}, 24.0),  # 140 - (104 + 12)
    ("winter", {"hco3": 12}, 26.0),  # 1.5 * 12 + 8
    ("map", {"sbp": 120, "dbp": 80}, 93.3333),  # (120 + 160) / 3
    ("cockcroft_gault", {"age": 60, "kg": 72, "scr": 1.2, "female": 0}, 66.6667),  # 80 * 72 / (72 * 1.2)
    ("cockcroft_gault", {"age": 60, "kg": 72, "scr": 1.2, "female": 1}, 56.6667),  # x 0.85
    ("ckd_epi_2021", {"age": 60, "scr": 1.2, "female": 0}, 69.2),
    ("ckd_epi_2021", {"age": 45, "scr": 0.6, "female": 1}, 112.7),
    ("corrected_sodium", {"na": 130, "glucose": 500}, 136.4),  # 130 + 1.6 * 4
    ("bmi", {"kg": 81, "cm": 180}, 25.0),  # 81 / 3.24
    ("friedewald", {"tc": 200, "hdl": 50, "tg": 150}, 120.0),  # 200 - 50 - 30
    ("fena", {"una": 20, "pna": 140, "ucr": 100, "pcr": 2.0}, 0.285714),  # 100 * 40 / 14000
    ("parkland", {"kg": 70, "tbsa": 20}, 5600.0),  # 4 * 70 * 20
    ("qtc", {"qt": 400, "rr": 640}, 500.0),  # 400 / 0.8
    ("aa_gradient", {"paco2": 40, "pao2": 90}, 9.73),  # 149.73 - 50 - 90
    ("dose", {"kg": 60, "per_kg": 15, "doses": 3}, 300.0),  # 900 / 3
    # heart failure 1, hypertension 1, age 76 2, stroke 2, woman 1
    ("cha2ds2_vasc", {"chf": 1, "hypertension": 1, "diabetes": 0, "stroke": 1, "vascular": 0, "age": 76, "female": 1}, 7.0),
]


@pytest.mark.parametrize(("name", "values", "want"), VECTORS)
def test_formula(name, values, want):
    assert CALCULATORS[name].formula(values) == pytest.approx(want, rel=1e-3)


def test_every_calculator_has_a_vector():
    assert {name for name, _, _ in VECTORS} == set(CALCULATORS)


@pytest.mark.parametrize("name", CALCULATORS)
@given(seed=st.integers(0, 10_000), traps=st.sampled_from((0.0, 1.0)))
def test_a_case_is_what_is_printed(name, seed, traps):
    case = draw_calculation(random.Random(seed), name, trap_share=traps)
    for item in case.calculator.items:
        number, _, unit = case.shown[item.key].partition(" ")
        assert unit == (item.trap_unit if traps and item.trap_unit else item.unit)
        factor = item.trap_factor if unit == item.trap_unit and item.trap_unit else 1.0
        assert float(number) == pytest.approx(case.values[item.key] * factor)
    slips = case.slips()
    assert case.answer not in slips.values()
    assert len(set(slips.values())) == len(slips)


def test_unit_trap_by_hand():
    # 106.1 umol/L of creatinine is 1.2 mg/dL: who reads 106 as mg/dL is wrong by two orders of magnitude
    item = next(item for item in CALCULATORS["ckd_epi_2021"].items if item.key == "scr")
    assert 1.2 * item.trap_factor == pytest.approx(106.1, abs=0.05)
    assert item.trap_unit == "umol/L"


def test_henderson_hasselbalch_by_hand():
    # 6.1 + log10(24 / 1.2) = 6.1 + 1.301
    assert BloodGas(40, 24).ph == 7.4


@pytest.mark.parametrize(
    ("gas", "want"),
    [
        (BloodGas(40, 24), "normal"),
        (BloodGas(26, 12), "metabolic acidosis"),  # compensated as Winter's formula has it
        (BloodGas(60, 24), "respiratory acidosis"),
        (BloodGas(60, 15), "mixed acidosis"),
        (BloodGas(40, 34), "metabolic alkalosis"),
        (BloodGas(24, 23), "respiratory alkalosis"),
    ],
)
def test_disorder(gas, want):
    assert gas.disorder() == want


@given(st.integers(0, 100_000))
def test_drawn_gases_are_possible_and_compensated(seed):
    gas = draw_gas(random.Random(seed))
    assert gas.disorder() in ACID_BASE and 6.9 <= gas.ph <= 7.7
    if gas.disorder() == "metabolic acidosis":
        assert abs(gas.pco2 - winter(gas.hco3)) <= 2.5
    if gas.disorder() == "mixed acidosis":
        assert gas.pco2 > winter(gas.hco3) + 2


def test_bazett_by_hand():
    # 384 / sqrt(0.64) = 480; RR 1000 leaves it
    assert Ecg(150, 90, 384, 640).qtc == pytest.approx(480.0)
    assert Ecg(150, 90, 455, 1000, is_woman=True).reading() == "normal"
    assert Ecg(150, 90, 455, 1000, is_woman=False).reading() == "long QT"


@given(st.integers(0, 100_000), st.booleans())
def test_at_most_one_interval_is_abnormal(seed, corrected):
    ecg = draw_ecg(random.Random(seed), corrected=corrected)
    assert sum(value != "normal" for value in ecg.levels().values()) == (ecg.reading() != "normal")
    assert ecg.reading() in ECG


@given(st.integers(0, 10_000))
def test_negated_findings_are_not_entities(seed):
    report = draw_report(random.Random(seed))
    for name, is_present in report.statements:
        assert (name in report.present) == is_present
        assert (f"no {name}" in report.terse()) != is_present
