"""The fifteen instruction-following constraints of MathIF (IFEval's names and arguments; `guides/domains.md` 7.4).

Each check says whether a text keeps one constraint. Faults of the published checkers that are mended here: key words are
literal texts matched as whole words (not unescaped patterns inside words), and a language that cannot be told is not kept.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from factory.errors import near_miss
from factory.rewards.languages import detect

Arguments = Mapping[str, Any]
Check = Callable[[str, Arguments], bool]

_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")
_BULLET = re.compile(r"^[ \t]{0,40}(?:\*(?!\*)|-(?!-))[ \t]*\S", re.MULTILINE)
_HIGHLIGHT = re.compile(r"\*\*([^*\n]{1,2000})\*\*|(?<!\*)\*([^*\n]{1,2000})\*(?!\*)")


def _count(text: str, word: str) -> int:
    pattern = re.escape(word.casefold())
    return len(re.findall(rf"(?<!\w){pattern}(?!\w)", text.casefold()))


def _relation(count: int, number: int, relation: Any) -> bool:
    """`at least` n or `less than` n, as written in the data sets. Raises ValueError for another relation."""
    if relation == "at least":
        return count >= number
    if relation == "less than":
        return count < number
    raise ValueError(f"relation is {relation!r}; want 'at least' or 'less than'")


def _texts(args: Arguments, key: str) -> list[str]:
    value = args.get(key)
    if not isinstance(value, list | tuple) or not value or not all(isinstance(item, str) and item.strip() for item in value):
        raise ValueError(f"{key} must be a list of words, got {value!r}")
    return list(value)


def _text(args: Arguments, key: str) -> str:
    value = args.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key} must be a text, got {value!r}")
    return value


def _number(args: Arguments, key: str) -> int:
    value = args.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{key} must be a whole number, 0 or more, got {value!r}")
    return value


def _existence(text: str, args: Arguments) -> bool:
    return all(_count(text, word) for word in _texts(args, "keywords"))


def _frequency(text: str, args: Arguments) -> bool:
    return _relation(_count(text, _text(args, "keyword")), _number(args, "frequency"), args.get("relation"))


def _forbidden(text: str, args: Arguments) -> bool:
    return not any(_count(text, word) for word in _texts(args, "forbidden_words"))


def _language(text: str, args: Arguments) -> bool:
    return detect(text) == _text(args, "language").partition("-")[0].lower()


def _num_words(text: str, args: Arguments) -> bool:
    return _relation(len(_WORD.findall(text)), _number(args, "num_words"), args.get("relation"))


def _bullets(text: str, args: Arguments) -> bool:
    return len(_BULLET.findall(text)) == _number(args, "num_bullets")


def _highlights(text: str, args: Arguments) -> bool:
    found = sum(bool((bold or plain).strip()) for bold, plain in _HIGHLIGHT.findall(text))
    return found >= _number(args, "num_highlights")


def _sections(text: str, args: Arguments) -> bool:
    # Both spellings are in use: IFEval's data says `section_spliter`.
    splitter = _text(args, "section_spliter" if "section_spliter" in args else "section_splitter").strip()
    return len(re.findall(rf"(?<!\w){re.escape(splitter)}\s?\d+", text)) >= _number(args, "num_sections")


def _repeats_prompt(text: str, args: Arguments) -> bool:
    fold = lambda part: " ".join(part.split()).casefold()  # noqa: E731
    return fold(text).startswith(fold(_text(args, "prompt_to_repeat")))


def _ends(text: str, args: Arguments) -> bool:
    return text.strip().strip("\"'“”").rstrip().casefold().endswith(_text(args, "end_phrase").strip().casefold())


def _quoted(text: str, args: Arguments) -> bool:
    text = text.strip()
    return len(text) > 2 and text[0] == '"' and text[-1] == '"'


def _capital_words(text: str, args: Arguments) -> bool:
    count = sum(word.isupper() for word in _WORD.findall(text))
    return _relation(count, _number(args, "capital_frequency"), args.get("capital_relation"))


def _is_english(text: str) -> bool:
    letters = [char for char in text if char.isalpha()]
    if not letters or any(not unicodedata.name(char, "").startswith("LATIN") for char in letters):
        return False
    # A text too short to tell is English when nothing else is said of it.
    return detect(text) in ("en", None)


def _upper(text: str, args: Arguments) -> bool:
    return text.isupper() and _is_english(text)


def _lower(text: str, args: Arguments) -> bool:
    return text.islower() and _is_english(text)


def _no_comma(text: str, args: Arguments) -> bool:
    return not set(text) & set(",，、،")


CHECKS: Mapping[str, Check] = {
    "keywords:existence": _existence,
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": _forbidden,
    "language:response_language": _language,
    "length_constraints:number_words": _num_words,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "combination:repeat_prompt": _repeats_prompt,
    "startend:end_checker": _ends,
    "startend:quotation": _quoted,
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": _upper,
    "change_case:english_lowercase": _lower,
    "punctuation:no_comma": _no_comma,
}
"""The fifteen, by the names in the data."""


def is_kept(name: str, text: str, args: Arguments | None = None) -> bool:
    """Whether a text keeps one constraint; a blank text keeps none.

    Raises ValueError for an unknown constraint or faulty arguments: the sample is at fault, not the text.
    """
    if name not in CHECKS:
        raise ValueError(f"unknown constraint {name!r}.{near_miss(name, CHECKS)} Known: {', '.join(CHECKS)}")
    args = {key: value for key, value in (args or {}).items() if value is not None}
    try:
        return CHECKS[name](text, args) and bool(text.strip())
    except ValueError as err:
        raise ValueError(f"constraint {name}: {err}") from err
