"""Mathematical answers compared by math-verify: `1/2` is `0.5`, `(x+1)^2` is `x^2+2x+1`, `{2, 1}` is `{1, 2}`.

math-verify limits time with `signal.alarm`, which raises off the main thread and which callers then swallow: every right
answer scores 0 (verl #5635, TRL #5281). Here its own limits are switched off, because the worker pool kills what runs too
long; errors are raised, never scored; and what a completion could use to stall the comparison is refused beforehand.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from factory.contracts import Sample, Status, Verdict
from factory.errors import ConfigError, PluginError
from factory.rewards.answers import accepted
from factory.rewards.reader import AnswerReader, judged, unparsable

MAX_CHARS = 500
MAX_DEPTH = 20
_WRAPPERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"))
_TOWER = re.compile(
    r"(?:\^|\*\*)\s*\{?[^{}+\-=,;]{0,40}?(?:\^|\*\*)|(?:\^|\*\*)\s*[{(]?\s*[-+]?\d{4,}|\d{3,}\s*!|!\s*!|[^!]!\s*(?:\^|\*\*)|(?:\^|\*\*)\s*\{?[^{}]{0,40}!"
)
_CHAIN = re.compile(r"(?<![<>!:])=(?!=)")
_NAME = re.compile(r"\\?[A-Za-z]{1,12}(?:_\{?\w{1,4}\}?|'|\([A-Za-z]\))?")
_DIGITS = re.compile(r"\d{200}")


@dataclass(frozen=True)
class MathAnswer(AnswerReader):
    r"""1 when the answer equals an accepted one mathematically. With `shape="boxed"` it reads `\boxed{}` answers.

    Several values are one set, so `5, 6` is not `5`. Floats are compared at `float_digits` decimals.
    """

    shape: str = "boxed"
    float_digits: int = 6
    strict_sets: bool = False
    """Tell `(1, 2)` from `[1, 2]` and `1, 2` from `{1, 2}`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.float_digits <= 15:
            raise ConfigError(f"verifier '{self.name}': float_digits is {self.float_digits}; want 1 to 15.")

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is no mathematics; PluginError when math-verify is missing."""
        wanted = accepted(sample.reference)
        shown = " | ".join(wanted)
        golds = [expressions(text) for text in wanted]
        if not all(golds):
            raise ValueError(f"sample {sample.id}: the reference {shown[:80]!r} cannot be read as mathematics")
        answer = self.answer(completion, shown)
        if isinstance(answer, Verdict):
            return answer
        fault = refusal(answer) or _bare_equality(answer, wanted)
        if fault:
            return unparsable(fault, shown)
        got = expressions(answer)
        if not got:
            return unparsable(f"no mathematics in {answer[:60]!r}", shown)
        try:
            is_right = any(_equal(gold, got, self.float_digits, self.strict_sets) for gold in golds)
        except RecursionError:
            return unparsable("too deeply nested to compare", shown)
        except (ArithmeticError, TypeError, ValueError, AttributeError, NotImplementedError) as err:
            return Verdict(0.0, Status.error, f"math-verify could not compare {answer[:60]!r}: {type(err).__name__}: {err}"[:300])
        return judged(is_right, answer, shown)


def refusal(text: str) -> str:
    """Why a text is not handed to the computer algebra; empty when it may be. Linear in the text's length."""
    if len(text) > MAX_CHARS:
        return f"the answer has {len(text)} characters, more than {MAX_CHARS}"
    depth = deepest = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        return f"brackets are nested {deepest} deep, more than {MAX_DEPTH}"
    if _TOWER.search(text) or _DIGITS.search(text):
        return "towers of powers, large factorials and numbers of 200 digits are not evaluated"
    if len(_CHAIN.findall(text)) > 1:
        return "more than one equality"
    return ""


def _bare_equality(answer: str, wanted: list[str]) -> str:
    """math-verify takes the right side of any equality, so that `6 = 5` would be 5: only a name may stand on the left."""
    if any(_CHAIN.search(text) for text in wanted):
        return ""
    parts = _CHAIN.split(answer)
    if len(parts) == 1 or _NAME.fullmatch(parts[0].strip().lstrip("$").strip()):
        return ""
    return "an equality whose left side is no name"


@lru_cache(maxsize=1)
def _library() -> tuple[Any, Any, Any]:
    """(parse, verify, LaTeX settings). Raises PluginError when math-verify is not installed."""
    try:
        from math_verify import LatexExtractionConfig, parse, verify
    except ImportError as err:
        raise PluginError("mathematical answers need 'math-verify', which is not installed. pip install math-verify") from err
    # It warns once a call that its alarm is off, which is what we want.
    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return parse, verify, LatexExtractionConfig(boxed_match_priority=-1)


@lru_cache(maxsize=4096)
def expressions(text: str) -> tuple[Any, ...]:
    """What the text means, as sympy expressions or strings; empty when it is no mathematics. The whole text is one formula."""
    text = text.strip().rstrip(".")
    for opening, closing in _WRAPPERS:
        if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing):
            text = text[len(opening) : -len(closing)].strip()
            break
    text = re.sub(r"(?<![\\\w])sqrt\s*\(([^()]{1,80})\)", r"\\sqrt{\1}", text.replace("$", " "))
    if not text or refusal(text):
        return ()
    parse, _, settings = _library()
    try:
        found = parse(f"${text}$", [settings], parsing_timeout=None, fallback_mode="no_fallback", raise_on_error=False)
    except RecursionError:
        return ()
    return tuple(found)


def _equal(gold: tuple[Any, ...], got: tuple[Any, ...], digits: int, strict_sets: bool) -> bool:
    _, verify, _ = _library()
    # Unless told to be strict, math-verify matches variables by position: `y` would be `x`.
    if _variables(gold[0]) != _variables(got[0]):
        return False
    return bool(
        verify(list(gold), list(got), float_rounding=digits, strict=strict_sets, timeout_seconds=None, raise_on_error=True)
    )


def _variables(found: Any) -> frozenset[str]:
    """Names of the free variables; those of the right side when a name stands alone on the left of an equality."""
    if getattr(found, "is_Equality", False) and getattr(found.lhs, "is_Symbol", False):
        found = found.rhs
    return frozenset(str(symbol).lower() for symbol in getattr(found, "free_symbols", ()))
