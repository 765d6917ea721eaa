"""The pack's verifiers: factory ones, set up for time series, and a few of its own for what depends on the sample.

| name | score | used for |
| --- | --- | --- |
| label | 1 when the class is right, read in the sample's form | reward of `classify` |
| label_format | 1 when the form is kept and the class is a known one | reward of `classify` |
| extension | TimeMaster's ext by the rubric | measured; weight 0 until a recipe raises it |
| timemaster, timemaster_original | the whole of R / 1.5, mended and as released | to compare with the paper |
| closed | 1 when the word is right | reward of `feature`, `forecast`, `compare` |
| interval | overlap (IoU) of the stretches | reward of `anomaly` |
| step | 1 within 2 time steps | reward of `change` |
| number | 1 when the number is equal | reward of `count` |
| letter | 1 when the right option is named | reward of `choice` |
| value | 1 - relative error | reward of `regress` |
| format | 1 when the form is kept | reward of every other task |
| accuracy | right or wrong by the task's own verifier, bare answers also read | the primary eval |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from factory.contracts import Sample, Status, Verdict, Verifier
from factory.domains.timeseries.timemaster import Extension, TimeMasterReward, classes_of
from factory.packs.by_sample import BARE, THINKING, ByTask, FormatOfSample, answer_of_each
from factory.rewards.answers import normalise
from factory.rewards.formats import parse
from factory.rewards.intervals import IntervalIoU
from factory.rewards.numeric import NumericAnswer
from factory.rewards.verifiers import ClosedAnswer, OptionLetter

VERSION = "1"
STEP_TOLERANCE = 2.0
"""Time steps by which a change may be missed; the generator's grid is 8."""
VALUE_TOLERANCE = 0.1
"""Relative error up to which a regression counts as right."""


def shape_of(sample: Sample) -> str:
    """TimeMaster's form, or an answer block with (`thinking` long, short) or without (`off`) reasoning before it.

    Any other `meta["form"]` is a question's own word for how its series is shown, and says nothing about the answer.
    """
    if sample.meta.get("form") == "timemaster":
        return "timemaster"
    return BARE if sample.meta.get("thinking") == "off" else THINKING


@dataclass(frozen=True)
class Label:
    """Equality with the reference class, case aside, read in the sample's form (`meta["form"]`)."""

    name: str = "label"
    version: str = VERSION
    mode: str = "strict"

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the sample's classes are faulty."""
        classes_of(sample)
        shape = "timemaster" if sample.meta.get("form") == "timemaster" else "think_answer"
        return ClosedAnswer(name=self.name, shape=shape, mode=self.mode)(completion, sample)


@dataclass(frozen=True)
class NamesClass:
    """The form, and an answer that is one of the sample's classes: TimeMaster's fmt, by which an unknown label earns nothing."""

    name: str = "label_format"
    version: str = VERSION
    form: FormatOfSample = field(default_factory=lambda: FormatOfSample(shape_of))

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Judge the form, then whether the answer is a class; it may be the wrong one."""
        verdict = self.form(completion, sample)
        if verdict.score < 1.0:
            return verdict
        answer = parse(completion, self.form.shape_of(sample)).answer or ""
        if normalise(answer) not in classes_of(sample):
            return Verdict(0.0, Status.wrong, f"well-formed, but {answer!r:.60} is none of the classes")
        return verdict


@dataclass(frozen=True)
class Hit:
    """1 when the inner verifier's status is `ok`, else 0: right or wrong instead of a share."""

    inner: Verifier
    name: str = "hit"
    version: str = VERSION

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """The inner verdict with a score of 0 or 1."""
        verdict = self.inner(completion, sample)
        return replace(verdict, score=float(verdict.status is Status.ok))


def build_verifiers(tasks: Mapping[str, Mapping[str, object]]) -> dict[str, Verifier]:
    """All verifiers by name.

    Args:
        tasks: the manifest's tasks; `accuracy` judges a task by its one answer verifier.

    Raises:
        PluginError: a task without exactly one answer verifier.
    """
    answers: dict[str, Verifier] = {
        "label": Label(),
        "closed": ClosedAnswer(name="closed"),
        "interval": IntervalIoU(name="interval", clip_key="length"),
        "step": NumericAnswer(name="step", abs_tol=STEP_TOLERANCE),
        "number": NumericAnswer(name="number"),
        "letter": OptionLetter(name="letter"),
        "value": NumericAnswer(name="value", rule="closeness", rel_tol=VALUE_TOLERANCE),
    }
    lenient = {name: Hit(replace(verifier, mode="lenient")) for name, verifier in answers.items()}  # type: ignore[type-var]
    routes: dict[str, Verifier] = {task: lenient[name] for task, name in answer_of_each(tasks, lenient).items()}
    others: list[Verifier] = [
        FormatOfSample(shape_of), NamesClass(), Extension(), TimeMasterReward(),
        TimeMasterReward(name="timemaster_original", variant="released"), ByTask("accuracy", routes),
    ]  # fmt: skip
    return {verifier.name: verifier for verifier in (*answers.values(), *others)}
