"""Questions without an image: acid-base, ECG intervals, calculators, entities, and triage from a phrase."""

from __future__ import annotations

import random

from factory.domains.medicine.calculators import DISTRACTORS, Case, draw_calculation
from factory.domains.medicine.departments import DEPARTMENTS, MODALITY_WORDS
from factory.domains.medicine.entities import FINDINGS, draw_report
from factory.domains.medicine.labs import ACID_BASE, ECG, BloodGas, draw_ecg, draw_gas, winter
from factory.domains.medicine.options import Options
from factory.domains.medicine.questions import Question, letter_of, lettered, option_lines

COMPLAINTS = ("blurred vision", "a lump", "weight loss", "pain", "a routine visit", "tiredness", "bleeding", "a second opinion")


def acid_base_question(rng: random.Random, style: str) -> Question:
    """Name the disorder of a blood gas."""
    gas = draw_gas(rng)
    answer = gas.disorder()
    levels = gas.levels()
    if style == "terse":
        text = f"gas p {gas.ph:.2f} c {gas.pco2} b {gas.hco3:.1f} ?"
        steps = f"{' ; '.join(f'{name} {value}' for name, value in levels.items())} ; {answer}"
        return Question("acid_base", text, answer, answer, steps, "medium")
    text = f"Blood gas: pH {gas.ph:.2f}, pCO2 {gas.pco2} mmHg, bicarbonate {gas.hco3:.1f} mEq/L. Name the disorder, one of: {', '.join(ACID_BASE)}."
    return Question("acid_base", text, answer, answer, _gas_in_words(gas, answer), "medium")


def _gas_in_words(gas: BloodGas, answer: str) -> str:
    levels = gas.levels()
    steps = f"The pH is {levels['p']}, pCO2 is {levels['c']} and bicarbonate is {levels['b']}."
    if answer in ("metabolic acidosis", "mixed acidosis"):
        expected = winter(gas.hco3)
        fits = "as compensation would have it" if abs(gas.pco2 - expected) <= 2.5 else "higher than compensation explains"
        steps += f" Winter's formula expects a pCO2 of {expected:.4g} +- 2 mmHg; {gas.pco2} is {fits}."
    return f"{steps} This is: {answer}."


def ecg_question(rng: random.Random, style: str) -> Question:
    """Name the abnormal interval."""
    if style == "terse":
        ecg = draw_ecg(rng, corrected=True)
        ecg = type(ecg)(ecg.pr, ecg.qrs, ecg.qt)
        levels = ecg.levels()
        text = f"ecg pr {ecg.pr} qrs {ecg.qrs} qtc {ecg.qt} ?"
        steps = " ; ".join([*(f"{name.lower()} {value}" for name, value in levels.items()), ecg.reading()])
        return Question("ecg", text, ecg.reading(), ecg.reading(), steps, "medium")
    ecg = draw_ecg(rng, corrected=False)
    person = "woman" if ecg.is_woman else "man"
    text = (
        f"ECG of a {person}: PR {ecg.pr} ms, QRS {ecg.qrs} ms, QT {ecg.qt} ms, RR {ecg.rr} ms. "
        f"Correct the QT after Bazett and name the finding, one of: {', '.join(ECG)}."
    )
    levels = ecg.levels()
    steps = f"PR is {levels['PR']}. QRS is {levels['QRS']}. QTc = {ecg.qt} / sqrt({ecg.rr / 1000:g}) = {ecg.qtc:.0f} ms, which is {levels['QTc']}."
    return Question("ecg", text, ecg.reading(), ecg.reading(), steps, "hard")


def calculator_question(rng: random.Random, options: Options) -> Question:
    """A number with its unit."""
    name = rng.choice(options.calculator_names())
    if options.style == "terse":
        return _terse_calculation(draw_calculation(rng, name, trap_share=0.0))
    case = draw_calculation(rng, name, trap_share=options.traps)
    text = f"{_patient(rng, case, options.distractors)} {case.calculator.ask} {_wanted(case)}"
    return Question("calculator", text, printed(case), printed(case), _working(case), "hard", meta={"calculator": name})


def printed(case: Case) -> str:
    """The answer with its unit."""
    return f"{case.answer} {case.calculator.unit}".strip()


def calculator_choice(rng: random.Random, options: Options) -> Question:
    """The same with options: the right number and what the classic slips give."""
    while True:
        name = rng.choice(options.calculator_names())
        case = draw_calculation(rng, name, trap_share=options.traps if options.style == "full" else 0.0)
        slips = case.slips()
        if len(slips) >= 3:
            break
    texts = [f"{number} {case.calculator.unit}".strip() for number in (case.answer, *rng.sample(sorted(slips.values()), 3))]
    lines = lettered(rng, texts)
    letter = letter_of(lines, texts[0])
    by_text = {f"{number} {case.calculator.unit}".strip(): slip for slip, number in slips.items()}
    meta = {
        "calculator": name,
        "answer_type": "CLOSED",
        "slips": {key: by_text[text] for key, text in lines.items() if text in by_text},
    }
    if options.style == "terse":
        plain = _terse_calculation(case)
        stem, steps = plain.text, plain.steps
    else:
        stem, steps = f"{_patient(rng, case, options.distractors)} {case.calculator.ask}", _working(case)
    return Question("choice", f"{stem}\n{option_lines(lines, options.style)}", letter, letter, steps, "hard", None, lines, meta)


def _terse_calculation(case: Case) -> Question:
    v = {key: round(value) for key, value in case.values.items()}
    name = case.calculator.name
    if name == "anion_gap":
        total = v["cl"] + v["hco3"]
        text, steps = (
            f"gap na {v['na']} cl {v['cl']} b {v['hco3']} ?",
            f"{v['cl']} + {v['hco3']} = {total} ; {v['na']} - {total} = {case.answer}",
        )
    elif name == "friedewald":
        fifth = f"{v['tg'] / 5:.1f}"
        text = f"ldl tc {v['tc']} hdl {v['hdl']} tg {v['tg']} ?"
        steps = f"{v['tg']} / 5 = {fifth} ; {v['tc']} - {v['hdl']} = {v['tc'] - v['hdl']} ; {v['tc'] - v['hdl']} - {fifth} = {case.answer}"
    else:
        text, steps = (
            f"winter b {v['hco3']} ?",
            f"1.5 x {v['hco3']} = {1.5 * v['hco3']:.1f} ; {1.5 * v['hco3']:.1f} + 8 = {case.answer}",
        )
    return Question("calculator", text, printed(case), case.answer, steps, "medium", meta={"calculator": name})


def _patient(rng: random.Random, case: Case, num_distractors: int) -> str:
    """Age and sex, then the needed numbers among others, in random order."""
    person = "woman" if case.values["female"] else "man"
    lines = []
    for item in case.calculator.items:
        is_flag = not item.unit and item.high == 1
        lines.append(
            f"{item.label}: {'yes' if case.values[item.key] else 'no'}" if is_flag else f"{item.label} {case.shown[item.key]}"
        )
    for label, low, high, decimals, unit in rng.sample(DISTRACTORS, num_distractors):
        lines.append(f"{label} {rng.uniform(low, high):.{decimals}f} {unit}")
    rng.shuffle(lines)
    return f"{case.values['age']:.0f}-year-old {person}; {'; '.join(lines)}."


def _wanted(case: Case) -> str:
    unit = f" in {case.calculator.unit}" if case.calculator.unit else ""
    digits = {0: "to a whole number", 1: "to one decimal", 2: "to two decimals"}[case.calculator.decimals]
    return f"Answer{unit}, {digits}."


def _working(case: Case) -> str:
    """Units first, then the formula and its value."""
    converted = [
        f"{item.label} {case.shown[item.key]} = {case.values[item.key]:.4g} {item.unit}"
        for item in case.calculator.items if item.trap_unit and case.shown[item.key].endswith(f" {item.trap_unit}")
    ]  # fmt: skip
    first = f"Convert: {'; '.join(converted)}. " if converted else ""
    return (
        f"{first}Formula: {case.calculator.steps}. That gives {case.exact:.4g}, so {case.answer} {case.calculator.unit}".strip()
        + "."
    )


def entities_question(rng: random.Random, style: str) -> Question:
    """The findings that a text says are there."""
    report = draw_report(rng)
    answer = ", ".join(report.present)
    if style == "terse":
        steps = " ; ".join(f"{name} {'yes' if is_present else 'no'}" for name, is_present in report.statements)
        return Question("entities", f"{report.terse()} ?", report.present, answer, steps, "medium")
    text = f"{report.full(rng)}\nList the findings that are present, parted by commas, from: {', '.join(FINDINGS)}."
    steps = " ".join(f"{name.capitalize()} is {'stated' if is_present else 'denied'}." for name, is_present in report.statements)
    return Question("entities", text, report.present, answer, steps, "medium")


def triage_from_text(rng: random.Random) -> Question:
    """Which department sees a patient, from a phrase (full style)."""
    answer = rng.choice(DEPARTMENTS)
    phrase = rng.choice(MODALITY_WORDS[answer])
    text = (
        f"A {rng.randint(18, 90)}-year-old {rng.choice(('man', 'woman'))} comes with {rng.choice(COMPLAINTS)} and brings {phrase}. "
        f"Which department should see it? One of: {', '.join(DEPARTMENTS)}."
    )
    return Question("triage", text, answer, answer, f"It is {phrase}. That is a case for the {answer}.", "easy")
