"""Read what was answered: option letters, closed answers, yes or no, exact text.

Every comparison is equality after normalisation. Nothing is scored by substring or by similarity: a completion
that lists every label, or hedges between two options, has no answer.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from factory.errors import ConfigError

_EMPHASIS = re.compile(r"[*`]+|(?<!\w)_+|_+(?!\w)")
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\{([^{}]*)\}")
_EDGES = " \t\r\n.,;:!?\"'()[]“”‘’"


def plain(text: str) -> str:
    """NFKC form without Markdown emphasis and `\\text{}`, white space collapsed; case and punctuation stay."""
    text = _LATEX_TEXT.sub(r"\1", unicodedata.normalize("NFKC", text))
    return " ".join(_EMPHASIS.sub("", text).split())


def normalise(text: str) -> str:
    """`plain`, case-folded, without punctuation at either end. Equality of two answers is equality of these."""
    return plain(text).casefold().strip(_EDGES)


# --- options ------------------------------------------------------------------------------------------------------------

_LINE_BREAK = re.compile(r"\n|(?:(?<=\s)|^)/n\b")
_LINE_OPTION = re.compile(r"\s*\(?([A-Z])[.):]\s*(\S.*)?$", re.DOTALL)
_INLINE_OPTION = re.compile(r"(?<![\w(])\(?([A-Z])[.):](?=\s)|(?<!\w)\(([A-Z])\)")


def split_options(text: str) -> tuple[str, dict[str, str]]:
    """Split a question into its stem and its options {letter: text}; no options found gives an empty dict.

    Understands `A.`, `A)`, `A:` and `(A)`, one per line, after a literal ` /n ` (Patho-R1's prompts), or all on one line.
    Letters must run A, B, C ... without a gap; a mark out of turn ("hepatitis C. Acute") belongs to the text around it.
    """
    pieces = _LINE_BREAK.split(text)
    options: dict[str, str] = {}
    stem: list[str] = []
    for piece in pieces:
        hit = _LINE_OPTION.match(piece)
        if hit and hit.group(1) == _letter(len(options)):
            options[hit.group(1)] = hit.group(2) or ""
        elif options:
            options[_letter(len(options) - 1)] += f" {piece}"
        else:
            stem.append(piece)
    if len(options) < 2:
        stem, options = _inline_options(" ".join(pieces))
    return " ".join(" ".join(stem).split()), {letter: " ".join(value.split()) for letter, value in options.items()}


def _letter(index: int) -> str:
    return string.ascii_uppercase[index] if index < 26 else ""


def _inline_options(text: str) -> tuple[list[str], dict[str, str]]:
    marks: list[re.Match[str]] = []
    for hit in _INLINE_OPTION.finditer(text):
        if (hit.group(1) or hit.group(2)) == _letter(len(marks)):
            marks.append(hit)
    if len(marks) < 2:
        return [text], {}
    ends = [hit.start() for hit in marks[1:]] + [len(text)]
    found = {_letter(i): text[hit.end() : end] for i, (hit, end) in enumerate(zip(marks, ends, strict=True))}
    return [text[: marks[0].start()]], found


def options_of(meta_options: Any) -> dict[str, str]:
    """Options as {letter: text} from a list of texts (lettered A, B, ...) or a mapping. Raises ValueError for anything else."""
    if isinstance(meta_options, Mapping):
        options = {str(letter).strip().upper(): str(text) for letter, text in meta_options.items()}
    elif isinstance(meta_options, Sequence) and not isinstance(meta_options, str):
        options = {_letter(i): str(text) for i, text in enumerate(meta_options)}
    else:
        raise ValueError(f"options must be a list of texts or a mapping letter -> text, got {type(meta_options).__name__}")
    if not 2 <= len(options) <= 26 or any(len(letter) != 1 or letter not in string.ascii_uppercase for letter in options):
        raise ValueError(f"want 2 to 26 options with letters A-Z, got {len(options)}: {', '.join(options)[:80]}")
    return options


def gold_letter(reference: Any, options: Mapping[str, str]) -> str:
    """The reference as a letter: a letter, or the text of one option. Raises ValueError otherwise: the sample is faulty."""
    if isinstance(reference, str):
        choice = read_choice(reference, options)
        if choice.letter:
            return choice.letter
    raise ValueError(f"the sample's reference {reference!r} is neither one of {'/'.join(options)} nor the text of one option")


@dataclass(frozen=True, slots=True)
class Choice:
    """The option that a text names."""

    letter: str | None
    reason: str = ""
    """Why there is no letter."""


_LEAD = re.compile(r"(?:the\s)?(?:(?:correct|best|final|right)\s)?(?:answer|option|choice)\b\s?(?:is\b)?\s?:?\s?", re.IGNORECASE)
_ALONE = re.compile(r"[(\[]?([A-Za-z])[)\]]?[.):,]?")
_LETTER_TEXT = re.compile(r"(?:\(([A-Za-z])\)[.:]?|([A-Za-z])\s?[.):]|([A-Za-z])\s[-–—]|([A-Z])(?=\s))\s?(.+)", re.DOTALL)
_OTHER_LETTER = re.compile(r"(?<![\w.])\(?(?:([A-Z])(?![\w'’])|([a-z])[).:](?!\w))")


def read_choice(answer: str, options: Mapping[str, str]) -> Choice:
    """Which option `answer` names. Never raises; linear in the length of the text.

    Taken: `B`, `(B)`, `B.`, `b)`, `Option B`, `The answer is B`, `**B**`, `B. <text>`, `B <its own text>`, and the text of
    exactly one option. Not taken: several letters, a letter with the text of another option, a letter that is no option.
    """
    text = plain(answer)
    by_text = [letter for letter, value in options.items() if normalise(value) == normalise(text)]
    for _ in range(3):
        lead = _LEAD.match(text)
        text = text[lead.end() :].strip() if lead else text
    alone = _ALONE.fullmatch(text)
    if alone:
        letter = alone.group(1).upper()
        return Choice(letter) if letter in options else Choice(None, f"{letter!r} is not one of {'/'.join(options)}")
    by_text = by_text or [letter for letter, value in options.items() if normalise(value) == normalise(text)]
    joined = _LETTER_TEXT.fullmatch(text)
    if joined:
        choice = _lettered(joined, options)
        # "C. difficile" may be the whole text of option A: then it is not the letter C.
        if not by_text or (choice.letter and normalise(joined.group(5)) == normalise(options[choice.letter])):
            return choice
    if len(by_text) == 1:
        return Choice(by_text[0])
    if by_text:
        return Choice(None, f"the text stands under several letters: {', '.join(by_text)}")
    return Choice(None, f"no option letter in {_short(answer)}")


def _lettered(hit: re.Match[str], options: Mapping[str, str]) -> Choice:
    """A letter followed by text: the text must be that option's, or at least name no other option."""
    letter = next(group for group in hit.groups()[:4] if group).upper()
    rest = hit.group(5)
    if letter not in options:
        return Choice(None, f"{letter!r} is not one of {'/'.join(options)}")
    if normalise(rest) == normalise(options[letter]):
        return Choice(letter)
    if hit.group(4):
        # "A tumour of ...": without a mark after it, a capital may be an article, so only the option's own text will do.
        return Choice(None, f"no option letter in {_short(hit.group())}")
    others = {(a or b).upper() for a, b in _OTHER_LETTER.findall(rest)} & set(options) - {letter}
    # Its own text is taken out first: "carcinoma" may be an option beside "ductal carcinoma".
    said = f" {_words(rest)} ".replace(f" {_words(options[letter])} ", " ")
    others |= {other for other, value in options.items() if other != letter and f" {_words(value) or chr(0)} " in said}
    if others:
        return Choice(None, f"several options named: {', '.join(sorted(others | {letter}))}")
    return Choice(letter)


def _words(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))


def _short(text: str) -> str:
    text = " ".join(text[:200].split())
    return repr(text if len(text) <= 60 else text[:57] + "...")


def read_choice_anywhere(answer: str, options: Mapping[str, str]) -> Choice:
    """Lenient form: the whole text, else its first or last non-empty line, if no other line names another option.

    So a copied list of options names none, though its last line alone would read as an answer.
    """
    whole = read_choice(answer, options)
    lines = [line for line in answer.splitlines() if line.strip()]
    if whole.letter or len(lines) < 2:
        return whole
    named = [read_choice(line, options).letter for line in lines]
    letters = sorted({letter for letter in named if letter})
    if len(letters) > 1:
        return Choice(None, f"several options named: {', '.join(letters)}")
    return Choice(letters[0]) if letters and (named[0] or named[-1]) else whole


# --- closed and exact answers -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Synonyms:
    """Canonical form -> other ways to write it. Equality is of canonical forms, after `normalise`.

    Raises ConfigError when one writing stands for two canonical forms.
    """

    table: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lookup: dict[str, str] = {}
        for canonical, others in self.table.items():
            if isinstance(others, str):
                raise ConfigError(f"synonyms of '{canonical}' must be a list, got the text {others!r}. Write [{others!r}].")
            for writing in (canonical, *others):
                key = normalise(writing)
                if lookup.setdefault(key, canonical) != canonical:
                    raise ConfigError(
                        f"synonym '{writing}' stands for both '{lookup[key]}' and '{canonical}'. Keep it under one of them."
                    )
        object.__setattr__(self, "_lookup", lookup)

    def canonical(self, text: str) -> str:
        """The canonical form, or the normalised text itself when the table does not know it."""
        key = normalise(text)
        lookup: dict[str, str] = self._lookup  # type: ignore[attr-defined]
        return normalise(lookup[key]) if key in lookup else key


def accepted(reference: Any) -> list[str]:
    """The reference as a list of accepted answers. Raises ValueError when it is empty or not text: the sample is faulty."""
    if isinstance(reference, bool) or reference is None:
        raise ValueError(f"the sample's reference must be a text, a number or a list of them, got {reference!r}")
    items: Iterable[Any] = [reference] if isinstance(reference, str | int | float) else reference
    texts = [str(item) for item in items] if isinstance(items, Sequence) else []
    if not texts or any(not text.strip() for text in texts):
        raise ValueError(f"the sample's reference must hold non-empty answers, got {reference!r}")
    return texts


def read_yes_no(text: str) -> str | None:
    """`yes` or `no` when exactly one of the two words occurs, else None ("yes and no", "certainly")."""
    words = set(re.findall(r"[^\W\d_]+", unicodedata.normalize("NFKC", text).casefold())) & {"yes", "no"}
    return words.pop() if len(words) == 1 else None
