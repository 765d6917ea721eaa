"""Questions about one phantom: closed, yes or no, lettered, open, triage and the whole report."""

from __future__ import annotations

import random
from collections.abc import Mapping

from factory.domains.medicine.departments import DEPARTMENTS, department_of, draw_case
from factory.domains.medicine.phantoms import VALUES, Phantom, draw_phantom
from factory.domains.medicine.questions import Question, letter_of, lettered, option_lines

PHRASES = {
    "modality": "With which modality was this image made", "organ": "Which part of the body does this image show",
    "lesion": "Is a lesion present or absent in this image", "side": "On which side of the patient do the lesions lie",
    "count": "How many lesions does this image show", "size": "Are the lesions small or large",
}  # fmt: skip
STATEMENTS = {
    "modality": "the modality of this image {}", "organ": "the part of the body {}", "lesion": "a lesion {}",
    "side": "the patient's side of the lesions {}", "count": "the number of lesions {}", "size": "the size of the lesions {}",
}  # fmt: skip
NOUNS = {("small", False): "nodule", ("small", True): "nodules", ("large", False): "mass", ("large", True): "masses"}
"""(size, several) -> word of the impression."""


def impression(phantom: Phantom) -> str:
    """`clear`, or the side and a word for size and number: `left masses`."""
    if not phantom.lesions:
        return "clear"
    return f"{phantom.side} {NOUNS[phantom.size, len(phantom.lesions) > 1]}"


def caption(findings: Mapping[str, str], style: str) -> str:
    """The findings in the given order, in the words that the reasoning uses."""
    if style == "terse":
        return " ; ".join(f"{name} {value}" for name, value in findings.items())
    return " ".join(_sentence(name, value) for name, value in findings.items())


def shuffled_caption(rng: random.Random, phantom: Phantom, style: str) -> str:
    """All findings of a phantom in random order."""
    found = list(phantom.findings().items())
    rng.shuffle(found)
    return caption(dict(found), style)


def _sentence(name: str, value: str) -> str:
    subject = STATEMENTS[name].format("is")
    return f"{subject[0].upper()}{subject[1:]} {value}."


def _draw_for(rng: random.Random, name: str) -> tuple[Phantom, str]:
    """A phantom in which every value of a finding is equally likely, and that value."""
    value = rng.choice(VALUES[name])
    return draw_phantom(rng, **{name: value}), value


def closed_question(rng: random.Random, style: str, name: str = "") -> Question:
    """One finding in one word."""
    name = name or rng.choice(list(VALUES))
    phantom, value = _draw_for(rng, name)
    text = f"{name} ?" if style == "terse" else f"{PHRASES[name]}? Answer with one of: {', '.join(VALUES[name])}."
    return Question("closed", text, value, value, caption({name: value}, style), "easy", phantom, meta={"answer_type": "CLOSED"})


def judgement_question(rng: random.Random, style: str) -> Question:
    """Whether a statement about one finding is true; half of them are."""
    name = rng.choice(list(VALUES))
    phantom, value = _draw_for(rng, name)
    asked = value if rng.random() < 0.5 else rng.choice([other for other in VALUES[name] if other != value])
    answer = "yes" if asked == value else "no"
    subject = STATEMENTS[name].format(asked)
    text = f"is {name} {asked} ?" if style == "terse" else f"Is {subject}? Answer yes or no."
    steps = caption({name: value}, style)
    return Question("judgement", text, answer, answer, steps, "easy", phantom, meta={"answer_type": "CLOSED"})


def choice_question(rng: random.Random, style: str) -> Question:
    """One finding, its values under letters in random order."""
    name = rng.choice(list(VALUES))
    phantom, value = _draw_for(rng, name)
    options = lettered(rng, VALUES[name])
    letter = letter_of(options, value)
    stem = f"{name} ?" if style == "terse" else f"{PHRASES[name]}?"
    text = f"{stem}\n{option_lines(options, style)}"
    return Question("choice", text, letter, letter, caption({name: value}, style), "medium", phantom, options, {"answer_type": "CLOSED"})  # fmt: skip


def open_question(rng: random.Random, style: str) -> Question:
    """The impression: three findings joined in two words."""
    phantom = draw_phantom(rng, lesion="absent") if rng.random() < 0.12 else draw_phantom(rng, lesion="present")
    answer = impression(phantom)
    text = (
        "impression ?"
        if style == "terse"
        else "Give the impression in two words: the side, and nodule, nodules, mass or masses (or: clear)."
    )
    return Question(
        "open", text, answer, answer, _steps_to_impression(phantom, style), "hard", phantom, meta={"answer_type": "OPEN"}
    )


def _steps_to_impression(phantom: Phantom, style: str) -> str:
    found = phantom.findings()
    if not phantom.lesions:
        return f"{caption({'lesion': 'absent'}, style)}{' ; clear' if style == 'terse' else ' So the image is clear.'}"
    steps = caption({name: found[name] for name in ("side", "count", "size")}, style)
    noun = impression(phantom).split()[1]
    return f"{steps} ; {noun}" if style == "terse" else f"{steps} So the word is {noun}."


def triage_question(rng: random.Random, style: str) -> Question:
    """Which department sees this image."""
    phantom = draw_case(rng)
    answer = department_of(phantom)
    found = phantom.findings()
    names = ["modality", "organ"]
    if answer in ("radiologist", "oncologist"):
        names.append("size" if phantom.lesions else "lesion")
    steps = caption({name: found[name] for name in names}, style)
    steps = f"{steps} ; {answer}" if style == "terse" else f"{steps} That is a case for the {answer}."
    text = "department ?" if style == "terse" else f"Which department should see this image? One of: {', '.join(DEPARTMENTS)}."
    return Question("triage", text, answer, answer, steps, "medium", phantom)


def report_question(rng: random.Random, style: str) -> Question:
    """Findings and impression, each in its section."""
    phantom = draw_phantom(rng)
    findings = [value for name, value in phantom.findings().items() if name in ("modality", "organ", "count", "size")]
    answer = f"Findings: {', '.join(findings)}. Impression: {impression(phantom)}."
    reference = {"findings": findings, "impression": [impression(phantom)]}
    text = "report ?" if style == "terse" else (
        "Write the report as `Findings: ...` (modality, part of the body, number and size of lesions, parted by commas) and "
        "`Impression: ...` (side and nodule, nodules, mass or masses, or clear)."
    )  # fmt: skip
    return Question(
        "report", text, reference, answer, caption(phantom.findings(), style), "hard", phantom, meta={"answer_type": "REPORT"}
    )
