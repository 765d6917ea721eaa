"""What every bridge offers, and the rules that all of them share: splits, extraction of the answer, scores to verdicts."""

from __future__ import annotations

import hashlib
import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from factory.contracts import EXACT_TEXT, Message, Sample, Status, Verdict, Verifier
from factory.errors import ConfigError, DataError, PluginError
from factory.rewards.formats import parse

TEST_SHARE, VALIDATION_SHARE = 0.1, 0.1
"""Shares of a library's items, by hash of their prompt."""
FULL = 1.0 - 1e-9
"""From here on a score is full marks."""


class Bridge(Protocol):
    """One library's tasks. Deterministic in (split, seed)."""

    name: str
    """Name of its one verifier, which judges all of its tasks."""

    def tasks(self) -> Mapping[str, str]:
        """Routing task -> title. Names have the form `<library>/<task>`, so that a manifest can route `<library>/*`."""

    def samples(self, task: str, split: str, seed: int) -> Iterator[Sample]:
        """The task's samples, each once; possibly endless."""

    def verifier(self) -> Verifier:
        """Judges a completion of any of the tasks; survives pickling by import, so that pool workers can make their own."""

    def gold(self, sample: Sample) -> str | None:
        """A completion that earns full marks, or None where the library has none."""


def split_of(prompt: str) -> str:
    """The split that an item belongs to, by hash of its prompt: an equal prompt can never be in two splits."""
    share = int.from_bytes(hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
    if share < TEST_SHARE:
        return "test"
    return "validation" if share < TEST_SHARE + VALIDATION_SHARE else "train"


def make_sample(task: str, prompt: str, reference: Any, origin: Mapping[str, Any], *, split: str, source: str) -> Sample:
    """A one-turn sample. `origin` goes to `meta["bridge"]`: what the verifier needs to ask the library again.

    The id is a hash of task and prompt, so that the same item has the same id wherever it is drawn. Signs count in the check
    for overlap: puzzles and sums often differ in nothing else.
    """
    digest = hashlib.sha256(f"{task}\n{prompt}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return Sample(
        f"{task}:{digest}",
        task,
        (Message("user", prompt),),
        reference,
        meta={"bridge": dict(origin), EXACT_TEXT: True},
        split=split,
        source=source,
    )


def origin_of(sample: Sample, bridge: str) -> Mapping[str, Any]:
    """`meta["bridge"]` of a sample. Raises DataError when the sample does not come from a bridge."""
    origin = sample.meta.get("bridge")
    if not isinstance(origin, Mapping):
        raise DataError(
            f"sample {sample.id}: has no meta.bridge, so the verifier '{bridge}' cannot judge it. Route its task elsewhere."
        )
    return origin


def answer_in(completion: str, shape: str) -> tuple[str | None, str]:
    """(answer, why there is none). The shape `whole` hands the library the completion as it is: it extracts by itself."""
    if shape == "whole":
        return completion, ""
    parsed = parse(completion, shape)
    return parsed.answer, "" if parsed.answer is not None else f"no answer: {parsed.reason}"


def score_verdict(score: Any, *, partial: bool, low: float = 0.0, high: float = 1.0, what: str = "the library") -> Verdict:
    """A library's score as a verdict; the graded score stays in `parts`.

    Args:
        score: a bool or number. `low` becomes 0 and `high` becomes 1.
        partial: pay graded scores; otherwise only full marks count, because partial credit of foreign verifiers is
            often paid for listing many answers.

    Raises:
        ValueError: not a number, not finite, or out of [low, high]. Never clipped: the pool makes it `error` and masks it.
    """
    if hasattr(score, "item") and getattr(score, "ndim", 0) == 0:
        score = score.item()
    if not isinstance(score, bool | int | float) or not math.isfinite(score):
        raise ValueError(f"{what} returned the score {score!r}, want a finite number")
    graded = (float(score) - low) / (high - low)
    if not -1e-9 <= graded <= 1 + 1e-9:
        raise ValueError(f"{what} returned the score {score!r}, outside of [{low:g}, {high:g}]; set low and high to its range")
    graded = min(1.0, max(0.0, graded))
    is_full = graded >= FULL
    value = 1.0 if is_full else graded if partial else 0.0
    return Verdict(value, Status.ok if is_full else Status.wrong, f"{what} scored {float(score):g}", {"graded": graded})


@dataclass(frozen=True)
class FunctionVerifier:
    """Another library's reward function as a verifier: base of those for TRL and verl."""

    target: str
    """`module:function`."""
    low: float = 0.0
    high: float = 1.0
    """The function's own range; a value out of it is an error, never clipped."""
    partial: bool = True
    name: str = "function"
    version: str = "1"
    """Raise it when the function changes."""

    def __post_init__(self) -> None:
        if not self.high > self.low:
            raise ConfigError(
                f"verifier '{self.name}': high={self.high} must be above low={self.low}. Give the function's range."
            )

    def function(self) -> Callable[..., Any]:
        """The function itself. Raises PluginError when it cannot be imported."""
        module, _, name = self.target.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as err:
            raise PluginError(f"reward function '{self.target}' cannot be imported: {err}. Write MODULE:FUNCTION.") from err

    def verdict(self, score: Any) -> Verdict:
        """What the function returned, as a verdict. Raises ValueError as `score_verdict` does."""
        return score_verdict(score, partial=self.partial, low=self.low, high=self.high, what=self.target)
