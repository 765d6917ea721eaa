"""Verifiers that ask the sample first: which form it wants, and which of the pack's verifiers judges its task."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache

from factory.contracts import Sample, Status, Verdict, Verifier
from factory.errors import PluginError
from factory.rewards.reader import AnswerReader
from factory.rewards.verifiers import FormatVerifier

THINKING = "think_answer"
BARE = "answer"
ShapeOf = Callable[[Sample], str]
"""From a sample to the shape (a name of `factory.rewards.formats.SHAPES`) that its completion should have."""


def shape_of(sample: Sample) -> str:
    """`meta["form"]`, else `think_answer`; where thinking is `off`, that becomes the answer block alone."""
    form = str(sample.meta.get("form", THINKING))
    return BARE if form == THINKING and sample.meta.get("thinking") == "off" else form


@dataclass(frozen=True)
class FormatOfSample:
    """1 when the completion keeps the shape that its sample wants. Where that has no reasoning, a reasoning block is a fault."""

    shape_of: ShapeOf = shape_of
    name: str = "format"
    version: str = "1"

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Judge the form only; the answer may be wrong. Raises ConfigError, or what `shape_of` raises, for an unknown form."""
        shape = self.shape_of(sample)
        if shape == BARE and "<think>" in completion.lower():
            return Verdict(0.0, Status.wrong, "a reasoning block, but this sample wants the answer alone")
        return _format(shape)(completion, sample)


@cache
def _format(shape: str) -> FormatVerifier:
    return FormatVerifier(shape=shape)


@dataclass(frozen=True)
class InShapeOfSample:
    """An answer verifier that reads the shape that the sample wants."""

    inner: AnswerReader
    shape_of: ShapeOf = shape_of

    @property
    def name(self) -> str:
        """That of the verifier inside."""
        return self.inner.name

    @property
    def version(self) -> str:
        """That of the verifier inside."""
        return self.inner.version

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """The verdict of the verifier inside, with the sample's shape."""
        shape = self.shape_of(sample)
        reader = self.inner if shape == self.inner.shape else replace(self.inner, shape=shape)
        return reader(completion, sample)


@dataclass(frozen=True)
class ByTask:
    """Hand the completion to the verifier of the sample's task. Raises ValueError for a task without one: the sample is faulty."""

    name: str
    routes: Mapping[str, Verifier]
    is_binary: bool = False
    """Only full marks count."""
    version: str = "1"

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """The routed verifier's verdict."""
        if sample.task not in self.routes:
            raise ValueError(f"sample {sample.id} has the task {sample.task!r}; '{self.name}' knows {', '.join(self.routes)}")
        verdict = self.routes[sample.task](completion, sample)
        if self.is_binary and 0.0 < verdict.score < 1.0:
            return Verdict(0.0, Status.wrong, f"{verdict.reason}; a part of the answer does not count", verdict.parts)
        return verdict


def answer_of_each(tasks: Mapping[str, Mapping[str, object]], answers: Collection[str]) -> dict[str, str]:
    """Task -> the one verifier of its answer.

    Args:
        tasks: the manifest's tasks.
        answers: names of the verifiers that judge an answer (not its form or length).

    Raises:
        PluginError: a task that names none of them, or several.
    """
    found = {}
    for task, row in tasks.items():
        named = [name for name in dict(row.get("verifiers") or {}) if name in answers]  # type: ignore[call-overload]
        if len(named) != 1:
            raise PluginError(
                f"pack.yaml: tasks.{task} must name exactly one of {', '.join(answers)}, it names {len(named)}. Mend it."
            )
        found[task] = named[0]
    return found
