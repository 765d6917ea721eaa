"""The signs of ABC notation (standard 2.1) in one line of music, as tokens. Fields and comments are the reader's business."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_NUMBER = r"\d*/*\d*"
_ONE_NOTE = rf"(?:\^\^|\^|__|_|=)?[A-Ga-g][,']*{_NUMBER}-?"
_PATTERNS = (
    ("space", r"[ \t`\\*;?@$]+"),
    ("quoted", r'"[^"]*"'),
    ("decoration", r"![^!|\s]{1,40}!|\+[^+|\s]{1,40}\+"),
    ("field", r"\[[A-Za-z]:[^\]]*\]"),
    ("ending", r"\[[1-9]\d*(?:[,-]\d+)*"),
    ("bar", r":*\[?\|+\]?:*(?:[1-9]\d*(?:[,-]\d+)*)?|::+"),
    ("note", r"(?P<sign>\^\^|\^|__|_|=)?(?P<letter>[A-Ga-g])(?P<marks>[,']*)"),
    ("rest", r"[zx]"),
    ("bars_rest", r"[ZX](?P<bars>\d*)"),
    ("length", r"\d+/*\d*|/+\d*"),
    ("broken", r">+|<+"),
    ("tie", r"\.?-"),
    ("chord_open", r"\["),
    ("chord_close", r"\]"),
    ("grace_open", r"\{/?"),
    ("grace_close", r"\}"),
    ("tuplet", r"\((?P<p>[2-9])(?::(?P<q>\d?)(?::(?P<r>\d{0,2}))?)?"),
    ("slur", r"\.?\(|\)"),
    ("overlay", r"&+"),
    ("spacer", r"y\d*"),
    ("decoration_letter", r"[.~H-Wh-w]"),
)
_PARTS = {"note": ("sign", "letter", "marks"), "bars_rest": ("bars",), "tuplet": ("p", "q", "r")}
"""Pattern -> its inner groups."""
_TOKEN = re.compile("|".join(f"(?P<t_{name}>{pattern})" for name, pattern in _PATTERNS))


@dataclass(frozen=True, slots=True)
class Token:
    """One sign. `parts` are the named groups of its pattern."""

    kind: str
    """Name of the pattern; `unknown` for a character that ABC does not have."""
    text: str
    column: int
    """1-based place in the line."""
    parts: dict[str, str]


def tokens(line: str) -> Iterator[Token]:
    """The signs of one line of music. Never raises; linear in its length."""
    place = 0
    while place < len(line):
        hit = _TOKEN.match(line, place)
        if hit is None:
            yield Token("unknown", line[place], place + 1, {})
            place += 1
            continue
        kind = str(hit.lastgroup)[2:]  # an outer group closes last, so it is the pattern's own
        parts = {name: hit[name] or "" for name in _PARTS.get(kind, ())}
        yield Token(kind, hit.group(), place + 1, parts)
        place = hit.end()
