"""What every answer verifier shares: a shape to read, how strictly, and the two verdicts that say what was got and wanted."""

from __future__ import annotations

from dataclasses import dataclass

from factory.contracts import Status, Verdict
from factory.errors import ConfigError
from factory.rewards.formats import Parsed, parse, shape_named

VERSION = "1"
"""Version of the ready-made verifiers; each class raises its own when a score can change."""
MAX_ANSWER_CHARS = 20_000
"""A longer answer is unparsable for verifiers whose work grows faster than the text."""


def short(text: object, limit: int = 80) -> str:
    """`repr` of a text, cut for a reason."""
    shown = repr(text)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def judged(is_right: bool, got: str, want: str) -> Verdict:
    """1 and `ok`, or 0 and `wrong`, with what was got and wanted."""
    return Verdict(float(is_right), Status.ok if is_right else Status.wrong, f"got {short(got)}, want {short(want)}")


def graded(score: float, threshold: float, reason: str, parts: dict[str, float] | None = None) -> Verdict:
    """A partial score, clipped to [0, 1]; `ok` from `threshold` on (with room for rounding)."""
    score = min(1.0, max(0.0, score))
    return Verdict(score, Status.ok if score >= threshold - 1e-9 else Status.wrong, reason, parts or {})


def unparsable(reason: str, want: str) -> Verdict:
    """0: nothing could be read that could be compared."""
    return Verdict(0.0, Status.unparsable, f"{reason}; want {short(want)}")


def one_of(owner: str, name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises ConfigError unless a setting of a verifier is one of the allowed words."""
    if value not in allowed:
        raise ConfigError(f"verifier '{owner}': {name} is {value!r}; want {' or '.join(map(repr, allowed))}.")


def share(owner: str, name: str, value: float) -> None:
    """Raises ConfigError unless a setting of a verifier lies in (0, 1]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value <= 1.0:
        raise ConfigError(f"verifier '{owner}': {name} is {value!r}; want a number in (0, 1].")


@dataclass(frozen=True)
class AnswerReader:
    """Base of the verifiers that judge an answer."""

    name: str = "accuracy"
    version: str = VERSION
    shape: str = "think_answer"
    """A name of `formats.SHAPES`."""
    mode: str = "strict"
    """`strict` reads the answer only where the shape marks it (training), `lenient` also bare answers (eval)."""

    def __post_init__(self) -> None:
        shape_named(self.shape)
        one_of(self.name, "mode", self.mode, ("strict", "lenient"))

    @property
    def is_lenient(self) -> bool:
        """Whether bare answers count."""
        return self.mode == "lenient"

    def read(self, completion: str) -> Parsed:
        """The completion taken apart in this verifier's shape and mode."""
        return parse(completion, self.shape, lenient=self.is_lenient)

    def answer(self, completion: str, want: str, limit: int = MAX_ANSWER_CHARS) -> str | Verdict:
        """The answer's text, or the `unparsable` verdict that says why there is none."""
        parsed = self.read(completion)
        if parsed.answer is None:
            return unparsable(parsed.reason if not parsed.well_formed else "no answer", want)
        if len(parsed.answer) > limit:
            return unparsable(f"the answer has {len(parsed.answer)} characters, more than {limit}", want)
        return parsed.answer
