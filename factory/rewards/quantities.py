"""Numbers as people write them, with or without a unit: `-1,234.5`, `1.2e-3`, `1.2 × 10^{-3}`, `3/4`, `5 %`, `24 mEq/L`.

Units are compared by `pint`, which sees only a short, checked unit expression and never the completion.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from factory.errors import PluginError

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,400})(?:\.\d{0,400})?|\.\d{1,400}"
_NUMBER = re.compile(
    rf"(?P<sign>[-+])?(?P<base>{_DIGITS})"
    r"(?:\s?[eE](?P<exp>[-+]?\d{1,4})(?!\d)|\s?(?:[x×*·]|\\times|\\cdot)\s?10\s?(?:\^|\*\*)\s?\{?(?P<power>[-+]?\d{1,4})\}?)?"
    r"(?:\s?/\s?(?P<over>\d{1,15}(?:\.\d{1,15})?)(?![\d/]))?"
)
_UNIT_CHARS = re.compile(r"[A-Za-zµμΩÅ°%‰/·*^()\d\s.\-²³⁻¹]{1,60}")
_ABOUT = re.compile(r"^(?:≈|~|=|about|approximately|approx\.?|ca\.?)\s*", re.IGNORECASE)
_BODY_SURFACE = re.compile(r"(?<=/)\s?\(?1\.73\s?m\^?2\)?")
_LATEX_SPACE = re.compile(r"\\[,;:! ]|\\(?:mathrm|text|mathbf|textbf|operatorname)\s?\{([^{}]*)\}|[$]|\\[()\[\]]")
_NAMES_OF_UNITS = (
    "equivalent = [charge_equivalent] = Eq",
    "international_unit = [biological_activity] = IU",
    "beat = []", "cell = []", "copies = [] = copy", "body_surface = [body_surface] = bsa",
)  # fmt: skip
"""What clinical laboratories write and pint does not know."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number and the unit that follows it (empty when there is none)."""

    value: float
    unit: str = ""
    decimals: int = 0
    """Digits written after the decimal point."""


def read_quantity(text: str) -> Quantity:
    """The one quantity that `text` is. Raises ValueError for none, several, a range, words around it, or an infinite number."""
    # A superscript would become a digit under NFKC: 10³ must not read as 103.
    kept = {"³": "^3", "²": "^2", "¹": "^1", "⁻": "^-"}
    text = "".join(kept.get(char, unicodedata.normalize("NFKC", char)) for char in text[:400]) if len(text) <= 400 else ""
    if not text:
        raise ValueError("no number, or more than 400 characters")
    text = text.replace("−", "-").replace("^-^", "^-")
    text = " ".join(_LATEX_SPACE.sub(lambda hit: f" {hit.group(1) or ''}", text).split()).lstrip(" ,;*`_").rstrip(" .,;*`_")
    text = _BODY_SURFACE.sub("bsa", _ABOUT.sub("", text))
    if any(unicodedata.category(char) == "Nd" and not char.isascii() for char in text):
        raise ValueError("digits of another script")
    hit = _NUMBER.match(text)
    if hit is None:
        raise ValueError(f"no number in {text[:60]!r}")
    unit = text[hit.end() :].strip()
    if unit and (not _UNIT_CHARS.fullmatch(unit) or re.match(r"[-/.^(*·\d]", unit) or re.search(r"(?<![\w^)\-])\d", unit)):
        raise ValueError(f"more than one number and its unit in {text[:60]!r}")
    digits = hit["base"].replace(",", "")
    value = float(f"{hit['sign'] or ''}{digits}e{hit['exp'] or hit['power'] or 0}")
    if hit["over"]:
        if float(hit["over"]) == 0.0:
            raise ValueError("a division by zero")
        value /= float(hit["over"])
    if not math.isfinite(value):
        raise ValueError("a number that is not finite")
    return Quantity(value, unit, len(digits.partition(".")[2]))


@lru_cache(maxsize=8)
def unit_registry(definitions: tuple[str, ...] = ()) -> Any:
    """The pint registry with the laboratory's units and the caller's own. Raises PluginError when pint is missing."""
    try:
        import pint
    except ImportError as err:
        raise PluginError("units need the package 'pint', which is not installed. pip install pint") from err
    registry = pint.UnitRegistry()
    for line in (*_NAMES_OF_UNITS, *definitions):
        registry.define(line)
    return registry


@lru_cache(maxsize=4096)
def _unit(text: str, definitions: tuple[str, ...]) -> Any:
    text = re.sub(r"(?<=[A-Za-zµμ])\^?(-?\d)", r"**\1", text.replace("·", "*").replace("μ", "µ").replace("‰", "permille"))
    text = re.sub(r"(?<=[A-Za-z\d])\s+(?=[A-Za-zµ])", "*", text)
    if re.search(r"\*\*\s?-?\d\d", text):
        raise ValueError(f"unit {text[:40]!r} has a power above 9")
    try:
        return unit_registry(definitions).parse_units(text)
    except PluginError:
        raise
    except Exception as err:  # pint raises AttributeError, TypeError, its own and tokenize's errors for a text that is no unit
        raise ValueError(f"unknown unit {text[:40]!r}") from err


def converted(quantity: Quantity, unit: str, definitions: tuple[str, ...] = ()) -> float:
    """The quantity's value in `unit`. A quantity without a unit is taken to be in `unit` already.

    Raises:
        ValueError: one of the units is unknown, or they measure different things.
        PluginError: pint is not installed.
    """
    if not quantity.unit or quantity.unit == unit:
        return quantity.value
    got = _unit(quantity.unit, definitions)
    want = _unit(unit, definitions) if unit else unit_registry(definitions).dimensionless
    registry = unit_registry(definitions)
    if got.dimensionality != want.dimensionality:
        raise ValueError(f"{quantity.unit!r} does not measure what {unit or 'a plain number'!r} does")
    value = float(registry.Quantity(quantity.value, got).to(want).magnitude)
    if not math.isfinite(value):
        raise ValueError("a number that is not finite")
    return value
