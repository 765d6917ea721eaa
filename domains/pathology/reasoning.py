"""Worked responses and captions, rendered from the same parameters as the tile. Easy gets little reasoning, hard gets much."""

from __future__ import annotations

import random
from collections.abc import Mapping

from factory.domains.pathology.decision import FULL_NAMES, HE_TABLE, IHC_TABLE, axes, candidates, diagnose, table
from factory.domains.pathology.findings import CORE, SIDE, VALUES, Field
from factory.domains.pathology.questions import (
    PHRASES,
    Question,
    choice_question,
    diagnosis_question,
    lettered,
    option_lines,
    shown,
    yes_no_question,
)

EXERCISES = 6
"""Exercises on one sheet of the textbook."""

SENTENCES: Mapping[tuple[str, str], str] = {
    ("stain", "he"): "Pink stroma and blue nuclei: the stain is H&E.",
    ("stain", "ihc"): "No eosin, pale blue counterstain: this is immunohistochemistry.",
    ("size", "small"): "The nuclei are small, near the size of a lymphocyte.",
    ("size", "large"): "The nuclei are large, about twice a lymphocyte.",
    ("density", "low"): "Only a few nuclei lie in the field, so the density is low.",
    ("density", "high"): "Nuclei crowd the field, so the density is high.",
    ("gland", "absent"): "No lumen is seen: a gland is absent.",
    ("gland", "present"): "Nuclei ring an empty lumen: a gland is present.",
    ("dab", "negative"): "There is no brown: the staining is negative (below 1 %).",
    ("dab", "focal"): "Brown covers a small part, under a tenth: focal.",
    ("dab", "patchy"): "Brown covers between a tenth and a half: patchy.",
    ("dab", "diffuse"): "Brown covers more than half: diffuse.",
    ("shape", "uniform"): "The nuclei are alike: uniform.",
    ("shape", "pleomorphic"): "The nuclei vary much in size: pleomorphic.",
    ("mitosis", "absent"): "No mitotic figure is seen: absent.",
    ("mitosis", "present"): "A dense dark plate in a clear cell: a mitosis is present.",
    ("necrosis", "absent"): "No smudged area with debris is seen: necrosis is absent.",
    ("necrosis", "present"): "A smudged area with nuclear dust: necrosis is present.",
}
"""(finding, value) -> what one sees."""


def respond(question: Question, field: Field, *, style: str, thinking: str, extra: tuple[str, ...] = ()) -> str:
    """The worked response: `<think>...</think><answer>...</answer>`, or the answer block alone when thinking is `off`."""
    answer = f"<answer>{question.answer}</answer>"
    if thinking == "off":
        return answer
    found = field.findings(extra)
    render = _terse if style == "terse" else _full
    return f"<think>{render(question, field, found, thinking)}</think>{answer}"


def caption(rng: random.Random, field: Field, style: str, extra: tuple[str, ...] = ()) -> str:
    """All findings of a field in random order, in the words that the reasoning uses."""
    found = list(field.findings(extra).items())
    rng.shuffle(found)
    return caption_of(dict(found), style, field.nest)


def caption_of(findings: Mapping[str, str], style: str, nest: tuple[int, int, int, int] | None = None) -> str:
    """The findings in the given order, then the nest, as one caption."""
    if style == "terse":
        parts = [f"{name} {value}" for name, value in findings.items()]
        parts += [f"nest {list(nest)}"] if nest else []
        return " ; ".join(parts)
    sentences = [SENTENCES[item] for item in findings.items()]
    sentences += [f"A nest of large nuclei in a capsule lies at {list(nest)} of {SIDE} px."] if nest else []
    return " ".join(sentences)


def textbook(rng: random.Random, style: str) -> str:
    """A sheet of exercises without image: rows of the table, lettered questions and statements, each with findings given and its key.

    It teaches in text what a question about a tile needs beyond seeing: the table, which letter stands before a word, and whether
    a statement agrees with a finding.
    """
    kinds = (
        _table_exercise,
        _letter_exercise,
        _any_letter_exercise,
        _any_letter_exercise,
        _statement_exercise,
        _statement_exercise,
    )
    return "\n\n".join(rng.choice(kinds)(rng, style) for _ in range(EXERCISES))


def _random_findings(rng: random.Random) -> dict[str, str]:
    findings = {name: rng.choice(VALUES[name]) for name in CORE}
    return findings if findings["stain"] == "ihc" else {name: value for name, value in findings.items() if name != "dab"}


def _table_exercise(rng: random.Random, style: str) -> str:
    """A question about the diagnosis, the deciding findings, the diagnosis, and its letter."""
    findings = _random_findings(rng)
    question = diagnosis_question(rng, findings, style)
    return f"{question.text}\n{_steps(question, findings, style)}\n{question.answer}"


def _letter_exercise(rng: random.Random, style: str) -> str:
    """A lettered question about one finding, the finding, and its letter."""
    name = rng.choice(CORE)
    value = rng.choice(VALUES[name])
    question = choice_question(rng, name, value, style)
    return f"{question.text}\n{_steps(question, {name: value}, style)}\n{question.answer}"


def _any_letter_exercise(rng: random.Random, style: str) -> str:
    """Two to four words of any kind under letters, one of the words, and its letter. Varied, so that looking up beats remembering."""
    words = sorted({value for name in CORE for value in VALUES[name]} | set(HE_TABLE.values()) | set(IHC_TABLE.values()))
    options = lettered(rng, [shown(word, style) for word in rng.sample(words, rng.randint(2, 4))])
    letter = rng.choice(list(options))
    return f"{option_lines(options, style)}\n{options[letter]}\n{letter}"


def _statement_exercise(rng: random.Random, style: str) -> str:
    """A statement about one finding, the finding, and yes or no."""
    name = rng.choice(CORE)
    value = rng.choice(VALUES[name])
    question = yes_no_question(rng, name, value, style)
    return f"{question.text}\n{_steps(question, {name: value}, style)}\n{question.answer}"


def _steps(question: Question, found: Mapping[str, str], style: str) -> str:
    """The findings asked for, then the conclusion."""
    if style == "terse":
        return " ; ".join(
            [*(f"{name} {found[name]}" for name in question.asked), *([question.conclusion] if question.conclusion else [])]
        )
    seen = [SENTENCES[name, found[name]] for name in question.asked]
    return " ".join([*seen, *([f"Together this is {question.conclusion}."] if question.conclusion else [])])


def _terse(question: Question, field: Field, found: Mapping[str, str], thinking: str) -> str:
    if field.nest is not None:
        return f"nest {list(field.nest)}"
    if question.conclusion and thinking == "short":
        return question.conclusion
    return _steps(question, found, "terse")


def _full(question: Question, field: Field, found: Mapping[str, str], thinking: str) -> str:
    if field.nest is not None:
        return f"One group of large, crowded nuclei has a capsule. Its edges are at {list(field.nest)}."
    seen = [SENTENCES[name, found[name]] for name in question.asked]
    if not question.conclusion:
        return " ".join(seen)
    named = f"Together this is {question.conclusion}."
    if thinking == "short":
        return named
    return " ".join([SENTENCES["stain", found["stain"]], *seen, *_exclusions(found), named])


def _exclusions(found: Mapping[str, str]) -> list[str]:
    """Why each distractor of the table does not fit: the first finding in which its cell differs."""
    rows, names = table(found), axes(found)
    right = diagnose(found)
    lines = []
    for other in candidates(found):
        cell = next(cell for cell, name in rows.items() if name == other)
        differs = [(name, value) for name, value in zip(names, cell, strict=True) if found[name] != value]
        if other != right and differs:
            name, value = differs[0]
            lines.append(f"{FULL_NAMES[other].capitalize()} would need {PHRASES[name]} {value}.")
    return lines
