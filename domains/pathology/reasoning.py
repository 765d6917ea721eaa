"""Worked responses and captions, rendered from the same parameters as the tile. Easy gets little reasoning, hard gets much."""

from __future__ import annotations

import random
from collections.abc import Mapping

from factory.domains.pathology.decision import FULL_NAMES, HE_TABLE, IHC_TABLE, axes, candidates, diagnose, table
from factory.domains.pathology.findings import CORE, SIDE, VALUES, Field
from factory.domains.pathology.questions import PHRASES, Question, lettered, option_lines, shown

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
    """A text without image: a row of the decision table, or how a lettered question is answered once a value is known."""
    if rng.random() < 0.5:
        rows = rng.choice((HE_TABLE, HE_TABLE, IHC_TABLE))
        cell = rng.choice(sorted(rows))
        names = ("gland", "size", "density") if rows is HE_TABLE else ("dab",)
        return _rule(dict(zip(names, cell, strict=True)), rows[cell], style)
    name = rng.choice(CORE)
    value = rng.choice(VALUES[name])
    options = lettered(rng, [shown(v, style) for v in VALUES[name]])
    letter = next(key for key, text in options.items() if text == shown(value, style))
    if style == "terse":
        return f"{name} ?\n{option_lines(options, style)}\n{name} {value} ; {letter}"
    return f"Which option is true of {PHRASES[name]}?\n{option_lines(options, style)}\n{SENTENCES[name, value]} So the answer is {letter}."


def _rule(findings: Mapping[str, str], name: str, style: str) -> str:
    if style == "terse":
        return " ; ".join([*(f"{key} {value}" for key, value in findings.items()), name])
    listed = ", ".join(f"{PHRASES[key]} {value}" for key, value in findings.items())
    return f"With {listed}, the field is called {FULL_NAMES[name]}."


def _terse(question: Question, field: Field, found: Mapping[str, str], thinking: str) -> str:
    if field.nest is not None:
        return f"nest {list(field.nest)}"
    steps = [f"{name} {found[name]}" for name in question.asked]
    if question.conclusion:
        steps = [*steps, question.conclusion] if thinking == "graded" else [question.conclusion]
    return " ; ".join(steps)


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
