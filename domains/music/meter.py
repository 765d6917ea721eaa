"""Metres and note lengths, exact in whole notes (Fractions): `M:`, `L:`, `2`, `/2`, `3/2`, and which lengths notation can write."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from factory.errors import DataError

MAX_DIGITS = 4
_LENGTH = re.compile(r"(\d*)(/*)(\d*)")
_METER = re.compile(r"\(?(\d{1,3}(?:\s*\+\s*\d{1,3})*)\)?\s*/\s*(\d{1,4})")
NAMES = {
    Fraction(2): "breve", Fraction(1): "whole", Fraction(1, 2): "half", Fraction(1, 4): "quarter", Fraction(1, 8): "eighth",
    Fraction(1, 16): "sixteenth", Fraction(1, 32): "thirty-second", Fraction(1, 64): "sixty-fourth",
}  # fmt: skip


class MeterError(DataError, ValueError):
    """A metre or a length that cannot be read."""


@dataclass(frozen=True, slots=True)
class Meter:
    """A time signature. Free metre (`M:none`) has no length."""

    beats: int
    unit: int
    """Note value below the line: 4 is a quarter. 0 for free metre."""
    text: str = ""
    """As written, where that is not `beats/unit`: `C`, `C|`, `2+3/8`."""

    @property
    def length(self) -> Fraction | None:
        """Length of a full bar in whole notes; None for free metre."""
        return Fraction(self.beats, self.unit) if self.unit else None

    @property
    def is_compound(self) -> bool:
        """6/8, 9/8, 12/8 ...: beats of three."""
        return self.unit >= 8 and self.beats % 3 == 0 and self.beats > 3

    @property
    def name(self) -> str:
        """`6/8`, or `none`."""
        return f"{self.beats}/{self.unit}" if self.unit else "none"


FREE = Meter(0, 0, "none")


def parse_meter(text: str) -> Meter:
    """The value of an `M:` field: `6/8`, `C`, `C|`, `none`, `2+3/8`, `(2+3)/8`.

    Raises:
        MeterError: anything else, also `4/0`.
    """
    said = text.strip()
    if said.casefold() in ("none", ""):
        return FREE
    if said in ("C", "c"):
        return Meter(4, 4, "C")
    if said in ("C|", "c|"):
        return Meter(2, 2, "C|")
    hit = _METER.fullmatch(said)
    if hit is None or int(hit[2]) == 0:
        raise MeterError(f"M:{said[:20]} is no metre; want a fraction such as 6/8, C, C| or none.")
    beats = sum(int(part) for part in hit[1].split("+"))
    if beats == 0:
        raise MeterError(f"M:{said[:20]}: a bar needs a length above 0.")
    return Meter(beats, int(hit[2]), said if "+" in said else "")


def parse_length(text: str) -> Fraction:
    """The multiplier behind a note: nothing 1, `2`, `/` 1/2, `//` 1/4, `/4`, `3/2`, `3/` 3/2.

    Raises:
        MeterError: another text, a division by 0, or more than four digits.
    """
    hit = _LENGTH.fullmatch(text)
    if (
        hit is None
        or len(hit[1]) > MAX_DIGITS
        or len(hit[3]) > MAX_DIGITS
        or len(hit[2]) > MAX_DIGITS
        or (hit[3] and len(hit[2]) != 1)
    ):
        raise MeterError(f"{text[:20]!r} is no note length; want 2, /2, 3/2 or /.")
    above = Fraction(int(hit[1]) if hit[1] else 1)
    below = int(hit[3]) if hit[3] else 2 ** len(hit[2])
    if below == 0 or above == 0:
        raise MeterError(f"{text[:20]!r}: a length above 0 is needed.")
    return above / below


def write_length(multiplier: Fraction) -> str:
    """The shortest text of a multiplier: 1 is empty, 1/2 is `/`, 3/2 is `3/2`."""
    if multiplier.denominator == 1:
        return "" if multiplier == 1 else str(multiplier.numerator)
    if multiplier == Fraction(1, 2):
        return "/"
    return f"{multiplier.numerator if multiplier.numerator != 1 else ''}/{multiplier.denominator}"


def default_unit(meter: Meter) -> Fraction:
    """`L:` where it is missing: 1/16 for metres below 3/4, else 1/8 (ABC standard 2.1, 3.1.7)."""
    return Fraction(1, 16) if meter.length is not None and meter.length < Fraction(3, 4) else Fraction(1, 8)


def note_value(duration: Fraction) -> tuple[str, int] | None:
    """Name and dots of a single note of this length (`("quarter", 1)`), or None when one note cannot have it."""
    for dots in range(3):
        plain = duration / (2 - Fraction(1, 2**dots))
        if plain in NAMES:
            return NAMES[plain], dots
    return None
