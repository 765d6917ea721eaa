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

LETTERS = "ABCDEFGHIJ"
"""Letters that mark options in running text."""
_MARKER = re.compile(r"(?:(?<=\s)|^)(?:\(([A-J])\)|([A-J])[.):])(?=\s|$)\s*")
"""`A.`, `A)`, `A:` or `(A)` at the start of a word and followed by white space."""
_GLUED = re.compile(r"(?:(?<=\n)|^)[ \t]*(?:\(([A-J])\)|([A-J])[.):])\s*")
"""The same at the start of a line, where `A.adenoma` without a space is an option too."""


def split_options(text: str) -> tuple[str, tuple[str, ...]]:
    """Split a prompt into its question and the options it ends with.

    Options begin with `A.`, `A)`, `A:` or `(A)`, run on without a gap, and are parted by spaces, line breaks or a literal
    ` /n ` (Patho-R1's demo prompt). The last run that begins with A and has two or more options counts, so that "Fig. A."
    in the question does no harm.

    Returns:
        (question, option texts without letters); no options when there is no such run.
    """
    text = re.sub(r"/n(?=\s|$)[ \t]*", "\n", text)
    for pattern in (_MARKER, _GLUED):
        marks = [(match.group(1) or match.group(2), match.start(), match.end()) for match in pattern.finditer(text)]
        run = _last_run(marks)
        if run:
            ends = [mark[1] for mark in run[1:]] + [len(text)]
            return text[: run[0][1]].strip(), tuple(text[mark[2] : end].strip() for mark, end in zip(run, ends, strict=True))
    return text.strip(), ()


def _last_run(marks: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """The last run of marks A, B, C ... with two or more of them; marks out of turn are text. Linear: B must follow the A."""
    last_b = next((i for i in range(len(marks) - 1, -1, -1) if marks[i][0] == "B"), None)
    first = next((i for i in range((last_b or 0) - 1, -1, -1) if marks[i][0] == "A"), None) if last_b else None
    if first is None:
        return []
    run = [marks[first]]
    for mark in marks[first + 1 :]:
        if len(run) < len(LETTERS) and mark[0] == LETTERS[len(run)]:
            run.append(mark)
    return run


def _letter(index: int) -> str:
    return string.ascii_uppercase[index] if index < 26 else ""


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

    Lines of a list of options (a letter with its text, where two or more options are listed anywhere) name none: neither a
    copied question nor the end of one reads as an answer, and an answer below a copied list still does.
    """
    whole = read_choice(answer, options)
    lines = [line for line in answer.splitlines() if line.strip()]
    if whole.letter or len(lines) < 2:
        return whole
    items = {letter: _list_item(letter, text) for letter, text in options.items()}
    text = "\n".join(plain(line) for line in lines)
    listed = [letter for letter, item in items.items() if item.search(text)]
    if len(listed) > 1:
        lines = [line for line in lines if not any(items[letter].fullmatch(plain(line)) for letter in listed)]
    named = [read_choice(line, options).letter for line in lines]
    letters = sorted({letter for letter in named if letter})
    if len(letters) > 1:
        return Choice(None, f"several options named: {', '.join(letters)}")
    if letters and (named[0] or named[-1]):
        return Choice(letters[0])
    return Choice(None, f"the options {', '.join(listed)} are listed, none is chosen") if len(listed) > 1 else whole


def _list_item(letter: str, text: str) -> re.Pattern[str]:
    """An option as it stands in a list: `B. text`, `(B) text`, `b: text`; without a mark only at the start of a line."""
    shown = re.escape(plain(text))
    marked = rf"(?<![^\W_])\(?{letter}\s?[.):]\)?\s?{shown}"
    return re.compile(rf"(?:{marked}|^\s?{letter}\s{shown})(?![^\W_])[\s.,;]{{0,8}}", re.IGNORECASE | re.MULTILINE)


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
