"""Multiple-choice options as people write them, and the letter of the right one."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from factory.data.rows import RowFault
from factory.rewards.answers import LETTERS, split_options

__all__ = ["LETTERS", "check_options", "parse_options", "render_options", "resolve_answer", "split_options"]

_LETTERED = re.compile(r"^\s*(?:\(([A-J])\)|([A-J])[.):])\s*(.*)$", re.DOTALL)


def parse_options(value: Any) -> tuple[str, ...]:
    """Option texts of a cell: a list, a `{letter: text}` mapping, or text that holds either or is lettered or split by lines.

    Raises:
        RowFault: fewer than two options, more than ten, a blank one, or two that are equal.
    """
    if isinstance(value, str):
        value = _from_text(value)
    if isinstance(value, Mapping):
        value = [text for _, text in sorted(value.items(), key=lambda item: str(item[0])) if text not in (None, "")]
    if not isinstance(value, (list, tuple)):
        raise RowFault("options", f"must be a list, a mapping or text, got {type(value).__name__}.")
    return check_options(_without_letters([str(text).strip() for text in value]))


def _from_text(text: str) -> Any:
    stripped = text.strip()
    if stripped[:1] in ("[", "{"):
        for parse in (json.loads, ast.literal_eval):
            try:
                return parse(stripped)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    _, options = split_options(text)
    return options or [line for line in re.split(r"\s*/n\s+|\n", stripped) if line.strip()]


def _without_letters(options: Sequence[str]) -> tuple[str, ...]:
    """Drop the letters when all options carry theirs, in order; otherwise they belong to the texts."""
    hits = [_LETTERED.match(option) for option in options]
    letters = [hit and (hit.group(1) or hit.group(2)) for hit in hits]
    if options and letters == list(LETTERS[: len(options)]):
        return tuple(hit.group(3).strip() for hit in hits if hit)
    return tuple(options)


def check_options(options: Sequence[str]) -> tuple[str, ...]:
    """Return the options, or raise RowFault: too few, too many, blank, or two equal."""
    if not 2 <= len(options) <= len(LETTERS):
        raise RowFault("options", f"{len(options)} options; a choice has 2 to {len(LETTERS)}.")
    folded = [_fold(option) for option in options]
    for i, text in enumerate(folded):
        if not text:
            raise RowFault("options", f"option {LETTERS[i]} is blank.")
        if text in folded[:i]:
            raise RowFault("options", f"options {LETTERS[folded.index(text)]} and {LETTERS[i]} are equal: {options[i]!r}.")
    return tuple(options)


def resolve_answer(answer: Any, options: Sequence[str]) -> str:
    """Letter of the right option from `B`, `b)`, `(B)`, `B) its text`, or the text alone.

    Raises:
        RowFault: not among the options, letter and text contradict each other, or a one-letter text makes it ambiguous.
    """
    text = str(answer).strip()
    folded = [_fold(option) for option in options]
    letters = LETTERS[: len(options)]
    by_text = letters[folded.index(_fold(text))] if _fold(text) in folded else None
    bare = re.fullmatch(r"\(?([A-Ja-j])[.):]?\)?", text)
    lettered = _LETTERED.match(text)
    if bare:
        letter = bare.group(1).upper()
        if by_text and by_text != letter:
            raise RowFault("answer", f"{text!r} is ambiguous: it is a letter and also the text of option {by_text}.")
        if letter in letters:
            return letter
    elif by_text:
        return by_text
    elif lettered:
        letter, claimed = lettered.group(1) or lettered.group(2), _fold(lettered.group(3))
        if letter in letters and claimed == folded[letters.index(letter)]:
            return letter
        if letter in letters and claimed in folded:
            actual = letters[folded.index(claimed)]
            raise RowFault("answer", f"{text!r} contradicts itself: that text is option {actual}.")
    shown = "; ".join(f"{letter}. {option}" for letter, option in zip(letters, options, strict=True))
    raise RowFault("answer", f"{text!r} is not among the options ({shown:.200}).")


def _fold(text: str) -> str:
    """For comparison only: case, runs of white space and a final full stop do not count."""
    return " ".join(str(text).split()).rstrip(".").casefold()


def render_options(options: Sequence[str]) -> str:
    """`A. first` and so on, one a line."""
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
