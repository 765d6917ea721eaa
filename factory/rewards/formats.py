"""Output shapes: split a completion into reasoning and answer, and say whether it keeps the required form.

One parser for every shape of `guides/domains.md` 0; a shape is a row of `SHAPES`. Three rules hold for all of them:

- the answer is looked for outside the reasoning only, and never in an unfinished reasoning block;
- `well_formed` is judged strictly in both modes; `lenient` only widens where an answer may be found (bare text);
- with several answers, tag shapes have no answer at all (a rollout that lists every option must not win by luck),
  while `\\boxed{}`, `Answer:` and JSON shapes take the *last*, as their benchmarks do; neither is well-formed.

No text raises, and the time is linear in its length: tags are found by one pass over literal strings, braces with one stack.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

from factory.errors import ConfigError, near_miss


class AnswerForm(StrEnum):
    """How the answer is marked in what follows the reasoning."""

    tags = "tags"
    boxed = "boxed"
    line = "line"
    json = "json"
    tail = "tail"


Delimiters = tuple[str, str]
"""Opening and closing mark."""


def _tag(name: str) -> Delimiters:
    return f"<{name}>", f"</{name}>"


@dataclass(frozen=True)
class Shape:
    """One required form of a completion."""

    name: str
    form: AnswerForm
    thinking: Delimiters | None = ("<think>", "</think>")
    """Marks around the reasoning; None when the shape has none."""
    needs_thinking: bool = True
    answers: tuple[Delimiters, ...] = ()
    """For `tags`: any one of these blocks is the answer."""
    extras: tuple[Delimiters, ...] = ()
    """For `tags`: blocks that must follow the answer, each once and in this order."""
    is_whole: bool = True
    """Only white space may stand outside the blocks."""
    is_heading: bool = False
    """The reasoning marks are headings: they count only when alone on their line."""


SHAPES: Mapping[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape("think_answer", AnswerForm.tags, answers=(_tag("answer"),)),
        Shape("answer", AnswerForm.tags, needs_thinking=False, answers=(_tag("answer"),)),
        Shape("boxed", AnswerForm.boxed, needs_thinking=False, is_whole=False),
        Shape("huatuo", AnswerForm.tail, thinking=("## Thinking", "## Final Response"), is_heading=True),
        Shape("think_line", AnswerForm.line),
        Shape(
            "ether0", AnswerForm.tags, thinking=("<|think_start|>", "<|think_end|>"),
            answers=(("<|answer_start|>", "<|answer_end|>"),),
        ),
        Shape("json", AnswerForm.json, needs_thinking=False, is_whole=False),
        Shape(
            "smolinstruct", AnswerForm.tags, needs_thinking=False, is_whole=False,
            answers=tuple(_tag(name) for name in ("SMILES", "IUPAC", "MOLFORMULA", "NUMBER", "BOOLEAN")),
        ),
        Shape("timemaster", AnswerForm.tags, answers=(_tag("class"),), extras=(_tag("extension"),)),
        Shape("safework", AnswerForm.tail),
        Shape("whole", AnswerForm.tail, thinking=None, needs_thinking=False),
    )
}  # fmt: skip
"""The known shapes: pathology, Med-R1 and AlphaDrive `think_answer`; no-thinking variants `answer`; MedEvalKit and SSMR `boxed`;
HuatuoGPT-o1 `huatuo`; BioReason `think_line`; ChemCoTBench `json`; CLS-RL without thinking `whole` (the whole output is the answer); the others carry their system's name."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A completion taken apart."""

    thinking: str | None
    """The reasoning without its marks; None when there is none."""
    answer: str | None
    """The answer, stripped; for `json` the object's text; None when there is none or more than one in tag shapes."""
    well_formed: bool
    reason: str
    """What is wrong with the form; `well-formed` when nothing is."""
    extras: Mapping[str, str] = field(default_factory=dict)
    """Contents of the extra blocks by opening mark."""


@dataclass(frozen=True, slots=True)
class _Found:
    answer: str | None
    fault: str = ""
    is_ambiguous: bool = False
    extras: Mapping[str, str] = field(default_factory=dict)


def shape_named(name: str) -> Shape:
    """Look a shape up. Raises ConfigError (with a near miss) when unknown."""
    if name not in SHAPES:
        raise ConfigError(f"unknown output shape '{name}'.{near_miss(name, SHAPES)} Known: {', '.join(SHAPES)}.")
    return SHAPES[name]


def parse(text: str, shape: str | Shape = "think_answer", *, lenient: bool = False) -> Parsed:
    """Take a completion apart. Never raises for any text.

    Args:
        text: the completion, without the prompt.
        shape: a name of SHAPES, or a shape of the caller's own.
        lenient: when the shape's own mark is missing, also take (in this order) one `<answer>` block, the last `\\boxed{}`,
            the rest of the line after the last "answer is" or "answer:", or all that follows the reasoning.
    """
    shape = shape_named(shape) if isinstance(shape, str) else shape
    thinking, rest, fault = _split_thinking(text, shape)
    found = _FINDERS[shape.form](rest, shape)
    if not fault and thinking and shape.form is AnswerForm.tags and _marks(shape).search(thinking):
        fault = f"a {shape.answers[0][0]} mark inside the reasoning"
    answer = found.answer
    if answer is None and lenient and not found.is_ambiguous:
        answer = _bare_answer(rest, shape)
    fault = fault or found.fault
    return Parsed(thinking, answer, not fault, fault or "well-formed", found.extras)


def _literal(marks: tuple[str, ...], *, is_heading: bool = False) -> re.Pattern[str]:
    # Any case is found, so that <Answer> is read; being written otherwise is a fault of form.
    one = "|".join(re.escape(mark) for mark in marks)
    return re.compile(rf"^(?:{one})(?=[ \t\r]*$)" if is_heading else one, re.IGNORECASE | re.MULTILINE | re.ASCII)


@lru_cache(maxsize=64)
def _thinking_marks(shape: Shape) -> re.Pattern[str]:
    return _literal(shape.thinking or (), is_heading=shape.is_heading)


@lru_cache(maxsize=64)
def _marks(shape: Shape) -> re.Pattern[str]:
    return _literal(tuple(mark for pair in (*shape.answers, *shape.extras) for mark in pair))


def _split_thinking(text: str, shape: Shape) -> tuple[str | None, str, str]:
    """Return (thinking, what follows it, fault)."""
    if shape.thinking is None:
        return None, text, ""
    opening, closing = shape.thinking
    hits = list(_thinking_marks(shape).finditer(text))
    opens = [hit for hit in hits if hit.group().lower() == opening.lower()]
    closes = [hit for hit in hits if hit.group().lower() != opening.lower()]
    if not hits:
        return None, text, f"no {opening} block" if shape.needs_thinking else ""
    if not closes:
        return text[opens[0].end() :], text[: opens[0].start()], f"{opening} is never closed"
    last = closes[-1]
    start = opens[0].end() if opens and opens[0].end() <= last.start() else 0
    rest_end = next((hit.start() for hit in opens if hit.start() >= last.end()), len(text))
    thinking, rest = text[start : last.start()], text[last.end() : rest_end]
    if not opens:
        fault = f"{closing} without {opening}"
    elif len(opens) > 1 or len(closes) > 1 or opens[0].start() > last.start():
        fault = f"{opening} and {closing} must occur once each, in this order; got {len(opens)} and {len(closes)}"
    elif text[: opens[0].start()].strip():
        fault = f"text before {opening}"
    elif not thinking.strip():
        fault = "the reasoning is empty"
    elif any(hit.group() not in shape.thinking for hit in hits):
        fault = f"the marks must be written exactly {opening} and {closing}"
    else:
        fault = ""
    return thinking, rest, fault


def _find_tags(rest: str, shape: Shape) -> _Found:
    pairs = {opening.lower(): (opening, closing) for opening, closing in (*shape.answers, *shape.extras)}
    openings = {opening for opening, _ in shape.answers}
    blocks: list[tuple[str, str]] = []
    outside, fault, cursor, num_opens = [], "", 0, 0
    current: Delimiters | None = None
    for hit in _marks(shape).finditer(rest):
        mark = hit.group()
        if mark.lower() in pairs:
            if current is not None:
                fault = fault or f"{current[0]} is opened again or not closed before {mark}"
            else:
                outside.append(rest[cursor : hit.start()])
            current = pairs[mark.lower()]
            num_opens += current[0] in openings
            fault = fault or ("" if mark == current[0] else f"{mark} must be written {current[0]}")
        elif current is None or mark.lower() != current[1].lower():
            fault = fault or f"{mark} without its opening mark"
            outside.append(rest[cursor : hit.start()] if current is None else "")
            current = None
        else:
            blocks.append((current[0], rest[cursor : hit.start()].strip()))
            fault = fault or ("" if mark == current[1] else f"{mark} must be written {current[1]}")
            current = None
        cursor = hit.end()
    outside.append(rest[cursor:])
    if current is not None:
        fault = fault or f"{current[0]} is never closed"
    answers = [content for opening, content in blocks if opening in openings]
    extras = {opening: content for opening, content in blocks if opening not in openings}
    num_answers = max(num_opens, len(answers))
    if num_answers > 1:
        return _Found(None, f"{num_answers} answer blocks, want 1", True, extras)
    fault = fault or _block_fault(blocks, answers, "".join(outside), shape)
    return _Found(answers[0] or None if answers else None, fault, False, extras)


def _block_fault(blocks: list[tuple[str, str]], answers: list[str], outside: str, shape: Shape) -> str:
    if not answers:
        return f"no {shape.answers[0][0]} block"
    if not answers[0]:
        return "the answer is empty"
    if [opening for opening, _ in blocks][1:] != [opening for opening, _ in shape.extras]:
        return f"the answer must be followed by {' '.join(opening for opening, _ in shape.extras) or 'no other block'}"
    if shape.is_whole and outside.strip():
        return f"text outside the blocks: {outside.strip()[:40]!r}"
    return ""


_BOXED = re.compile(r"\\boxed[ \t]?\{|\\[{}\\]|[{}]")
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\{([^{}]*)\}")


def _boxed_contents(text: str) -> list[str]:
    """Contents of the outermost `\\boxed{...}`, in order; nested braces are matched with one stack."""
    stack: list[tuple[bool, int]] = []
    spans: list[tuple[int, int]] = []
    for hit in _BOXED.finditer(text):
        mark = hit.group()
        if mark in ("\\{", "\\}", "\\\\"):
            continue
        if mark != "}":
            stack.append((mark != "{", hit.end()))
        elif stack:
            is_boxed, start = stack.pop()
            if is_boxed:
                while spans and spans[-1][0] > start:
                    spans.pop()
                spans.append((start, hit.start()))
    return [_LATEX_TEXT.sub(r"\1", text[start:end]).strip() for start, end in spans]


def _find_boxed(rest: str, shape: Shape) -> _Found:
    contents = _boxed_contents(rest)
    if not contents:
        return _Found(None, "no \\boxed{} answer")
    fault = "" if len(contents) == 1 else f"{len(contents)} \\boxed{{}} answers, want 1"
    return _Found(contents[-1] or None, fault if contents[-1] else "the answer is empty")


_LINE = re.compile(r"^[ \t]{0,16}answer[ \t]{0,16}:(.*)$", re.IGNORECASE | re.MULTILINE)


def _find_line(rest: str, shape: Shape) -> _Found:
    hits = list(_LINE.finditer(rest))
    if not hits:
        return _Found(None, "no 'Answer:' line")
    answer = hits[-1].group(1).strip()
    if len(hits) > 1:
        fault = f"{len(hits)} 'Answer:' lines, want 1"
    elif not answer:
        fault = "the answer is empty"
    elif not hits[0].group().startswith("Answer:"):
        fault = "the line must begin with 'Answer:'"
    elif (rest[: hits[0].start()] + rest[hits[0].end() :]).strip():
        fault = "text outside the reasoning and the 'Answer:' line"
    else:
        fault = ""
    return _Found(answer or None, fault)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _object_start(text: str, end: int) -> int | None:
    """Index of the `{` that matches the `}` before `end`, walking backwards once; braces in strings do not count."""
    depth, in_string = 0, False
    for hit in reversed(list(re.finditer(r'(?<!\\)(?:\\\\)*"|[{}]', text[:end]))):
        mark = hit.group()
        if mark.endswith('"'):
            in_string = not in_string
        elif not in_string:
            depth += 1 if mark == "}" else -1
            if depth == 0:
                return hit.start()
    return None


def _find_json(rest: str, shape: Shape) -> _Found:
    end = rest.rfind("}") + 1
    start = _object_start(rest, end) if end else None
    if start is None:
        return _Found(None, "no JSON object")
    candidate = rest[start:end]
    try:
        json.loads(candidate, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except (ValueError, RecursionError) as err:
        return _Found(None, f"not a JSON object: {err}"[:120])
    trailing = rest[end:].strip().removeprefix("```").strip()
    return _Found(candidate, "" if not trailing else "text after the JSON object")


def _find_tail(rest: str, shape: Shape) -> _Found:
    answer = rest.strip()
    return _Found(answer or None, "" if answer else "nothing follows the reasoning")


_FINDERS: Mapping[AnswerForm, Callable[[str, Shape], _Found]] = {
    AnswerForm.tags: _find_tags,
    AnswerForm.boxed: _find_boxed,
    AnswerForm.line: _find_line,
    AnswerForm.json: _find_json,
    AnswerForm.tail: _find_tail,
}

_PHRASE = re.compile(r"\banswer\s{0,8}(?:is\b|:)\s{0,8}:?", re.IGNORECASE)
_BECAUSE = re.compile(r"[,;]?\s(?:because|since)\b", re.IGNORECASE)


def _bare_answer(rest: str, shape: Shape) -> str | None:
    """An answer without the shape's mark: see `parse`."""
    tagged = _find_tags(rest, SHAPES["answer"])
    if tagged.is_ambiguous or tagged.answer:
        return tagged.answer
    boxed = _boxed_contents(rest)
    if boxed and boxed[-1]:
        return boxed[-1]
    text = _marks(SHAPES["answer"]).sub(" ", rest)
    if shape.answers:
        text = _marks(shape).sub(" ", text)
    phrases = list(_PHRASE.finditer(text))
    if phrases:
        line = text[phrases[-1].end() :].partition("\n")[0]
        if line.strip(" *_.:"):
            return _BECAUSE.split(line, maxsplit=1)[0].strip()
    return text.strip() or None
