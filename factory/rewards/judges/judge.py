"""One judge: from a completion to a verdict. Its failures are `error` and `timeout`, never a score of 0."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from factory.contracts import Message, Sample, Status, Verdict
from factory.rewards.bridges.bridge import answer_in
from factory.rewards.formats import parse
from factory.rewards.judges.prompt import UnparsableVerdict, ask, read_verdict
from factory.rewards.judges.settings import JudgeSettings


class JudgeFailed(Exception):
    """The model could not be asked, or broke off: becomes `error`."""


class JudgeTimeout(JudgeFailed):
    """No answer within `timeout_s`: becomes `timeout`."""


class Backend(Protocol):
    """The model behind a judge. Each call ends within `timeout_s`. Raises JudgeFailed or JudgeTimeout."""

    def close(self) -> None:
        """Let go of connections and processes."""


class TextBackend(Backend, Protocol):
    """A generative model."""

    def complete(self, messages: Sequence[Message]) -> str:
        """The model's text."""


class ScoreBackend(Backend, Protocol):
    """A scalar model."""

    def score(self, completion: str, sample: Sample) -> float:
        """Any number; higher is better."""


@dataclass(frozen=True)
class Curve:
    """From a raw score to [0, 1], and where `ok` begins."""

    threshold: float = 0.5
    """A score in [0, 1] from which an answer counts as right (the verdict's status; the reward keeps the score itself)."""
    centre: float = 0.0
    """Raw score that becomes 0.5."""
    width: float = 1.0
    """Raw units that move the score from 0.5 to 0.73."""

    def squash(self, raw: float) -> float:
        """Logistic curve; safe for any finite number. Raises JudgeFailed for any other."""
        if not math.isfinite(raw):
            raise JudgeFailed(f"the model's score is {raw}")
        x = max(-60.0, min(60.0, (raw - self.centre) / self.width))
        return 1.0 / (1.0 + math.exp(-x))


@dataclass(frozen=True)
class Judge:
    """A verifier backed by a model. `calibrated` gives it its curve."""

    name: str
    settings: JudgeSettings
    backend: Any
    curve: Curve = field(default_factory=Curve)
    calibration: Any = None
    """What its labelled set said of it (`calibrate.Calibration`); None when there is none."""

    @property
    def version(self) -> str:
        """Changes with every setting that can change a score, and with the curve."""
        settings = self.settings
        told = [settings.kind, settings.url, settings.model, settings.path, settings.criterion, settings.scale, settings.show_reference,
                settings.shape, settings.block, settings.stock, settings.stock_cap, settings.max_chars, settings.max_new_tokens,
                settings.against, settings.version, self.curve.threshold, self.curve.centre, self.curve.width]  # fmt: skip
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    def with_curve(self, curve: Curve) -> Judge:
        """The same judge with another curve."""
        return replace(self, curve=curve)

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """The verdict. Never raises for what a model does or says."""
        answer, fault = self._judged_part(completion)
        if answer is None:
            return Verdict(0.0, Status.unparsable, fault)
        if not any(letter.isalnum() for letter in answer):
            # A lone ":" is a known way to a judge's good grade (arXiv 2507.08794); it is not even asked.
            return Verdict(0.0, Status.wrong, "the answer holds no letter or digit")
        try:
            score, told = self._score(answer, sample)
        except JudgeTimeout as err:
            return Verdict(0.0, Status.timeout, f"judge: {err}")
        except UnparsableVerdict as err:
            return Verdict(0.0, Status.error, f"unparsable judge output: {err}")
        except JudgeFailed as err:
            return Verdict(0.0, Status.error, f"judge: {err}")
        if self.settings.stock and score > self.settings.stock_cap and re.search(self.settings.stock, answer, re.IGNORECASE):
            score, told = self.settings.stock_cap, f"{told}, capped at {self.settings.stock_cap:g} for a stock phrase"
        is_right = score >= self.curve.threshold
        return Verdict(score, Status.ok if is_right else Status.wrong, f"{told}; right from {self.curve.threshold:.2f}")

    def _judged_part(self, completion: str) -> tuple[str | None, str]:
        """(the text to be judged, why there is none)."""
        if not self.settings.block:
            return answer_in(completion, self.settings.shape or "whole")
        parsed = parse(completion, self.settings.shape)
        text = parsed.extras.get(f"<{self.settings.block}>", "")
        return (text, "") if text else (None, f"no <{self.settings.block}>: {parsed.reason}")

    def raw(self, completion: str, sample: Sample) -> float:
        """The score before the curve: a grade in [0, 1] of a generative judge, any number of a scalar one.

        Raises UnparsableVerdict, JudgeFailed or JudgeTimeout.
        """
        if hasattr(self.backend, "score"):
            return float(self.backend.score(completion, sample))
        settings = self.settings
        question = ask(
            completion, sample, criterion=settings.criterion, scale=settings.scale, show_reference=settings.show_reference,
            max_chars=settings.max_chars,
        )  # fmt: skip
        return read_verdict(self.backend.complete(question.messages), question.mark, settings.scale)

    @property
    def is_raw_share(self) -> bool:
        """True when raw scores lie in [0, 1] already."""
        return not hasattr(self.backend, "score") or getattr(self.backend, "is_share", False)

    def _score(self, completion: str, sample: Sample) -> tuple[float, str]:
        if self.settings.kind == "scalar" and self.settings.against == "reference":
            if not isinstance(sample.reference, str):
                raise JudgeFailed(f"sample {sample.id} has no reference text to compare with")
            gap = self.raw(completion, sample) - self.raw(sample.reference, sample)
            return Curve().squash(gap), f"{gap:+.3g} against the reference"
        raw = self.raw(completion, sample)
        if not self.is_raw_share:
            return self.curve.squash(raw), f"score {raw:.3g}"
        if not 0.0 <= raw <= 1.0:
            raise JudgeFailed(f"the score {raw} is outside of [0, 1]")
        return raw, f"grade {raw:.2f}"


Opener = Callable[[str, JudgeSettings], Judge]
"""Makes a judge from its name and settings."""
