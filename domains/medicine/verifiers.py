"""The pack's verifiers. Those that read an answer exist once per form of response; the sample's `meta["form"]` chooses.

| name | score | used for |
| --- | --- | --- |
| letter | 1 when the right option is named | `choice` |
| judgement | 1 when exactly one of yes and no is said and it is right | `judgement` |
| closed | 1 when the word is right, synonyms.yaml applied | `closed`, `triage`, `attending`, `acid_base`, `ecg` |
| number | 1 when the number is right within rounding, units converted by pint | `calculator` |
| entities | F1 of the findings named; more than one too many earns nothing | `entities` |
| open | 1 when equal, else the words' F1 where most words are right | `open` |
| report | findings and impression in their sections | `report` |
| code | share of the code's levels that agree, down to the asked depth | `code` |
| format | 1 when the form is kept | every task |
| huatuo | 1, 0.1 or 0: HuatuoGPT-o1's reward | its recipe |
| accuracy | the task's own verifier, bare answers also read; partial scores count from 1 only | the primary eval |
| medevalkit | MedEvalKit's rule for the question's type, its faults mended | the probe of that name |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import yaml

from factory.contracts import Sample, Status, Verdict, Verifier
from factory.domains.medicine.codes import CodeMatch
from factory.domains.medicine.open_answers import OpenAnswer
from factory.domains.medicine.published import huatuo_reward
from factory.domains.medicine.published_verifier import MedEvalKit
from factory.domains.medicine.reports import ReportSections
from factory.errors import PluginError
from factory.rewards.formats import parse
from factory.rewards.numeric import NumericAnswer
from factory.rewards.reader import AnswerReader
from factory.rewards.sets import LabelSet
from factory.rewards.verifiers import ClosedAnswer, FormatVerifier, OptionLetter, YesNo

VERSION = "1"
FORMS = ("think_answer", "answer", "huatuo")
"""Values of `meta["form"]`, each a shape of `factory.rewards.formats`."""


@cache
def synonyms() -> Mapping[str, tuple[str, ...]]:
    """Canonical answer -> other ways to write it, from synonyms.yaml."""
    raw = yaml.safe_load((Path(__file__).parent / "synonyms.yaml").read_text(encoding="utf-8"))
    return {str(canonical): tuple(str(other) for other in others) for canonical, others in raw.items()}


@dataclass(frozen=True)
class ByForm:
    """One verifier for each form of response. Raises ValueError for an unknown form: the sample is faulty."""

    name: str
    forms: Mapping[str, Verifier]
    version: str = VERSION

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """The verdict of the sample's form; without one it is `think_answer`."""
        form = str(sample.meta.get("form", FORMS[0]))
        if form not in self.forms:
            raise ValueError(f"sample {sample.id}: meta['form'] is {form!r}; want one of {', '.join(self.forms)}")
        return self.forms[form](completion, sample)


def by_form(reader: AnswerReader) -> ByForm:
    """The same reader for every form."""
    return ByForm(reader.name, {form: replace(reader, shape=form) for form in FORMS}, reader.version)


@dataclass(frozen=True)
class Bare:
    """The form `answer`: the answer block alone. A reasoning block is a fault."""

    name: str = "format"
    version: str = VERSION

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Judge the form only."""
        if "<think>" in completion.lower():
            return Verdict(0.0, Status.wrong, "a reasoning block, but this sample wants the answer alone")
        return FormatVerifier(shape="answer")(completion, sample)


@dataclass(frozen=True)
class ByTask:
    """Hand the completion to the verifier of the sample's task. Raises ValueError for a task without one: the sample is faulty."""

    name: str
    routes: Mapping[str, Verifier]
    is_binary: bool = False
    """Only a full score counts."""
    version: str = VERSION

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """The routed verifier's verdict."""
        if sample.task not in self.routes:
            raise ValueError(f"sample {sample.id} has the task {sample.task!r}; '{self.name}' knows {', '.join(self.routes)}")
        verdict = self.routes[sample.task](completion, sample)
        if self.is_binary and 0.0 < verdict.score < 1.0:
            return Verdict(0.0, Status.wrong, f"{verdict.reason}; a part of the answer does not count", verdict.parts)
        return verdict


@dataclass(frozen=True)
class HuatuoReward:
    """HuatuoGPT-o1 (arXiv 2412.18925): 0 unless both headings stand there once, else 1 when right and 0.1 when wrong.

    P(right) is the task's own verifier (1 or 0) in place of the paper's 3 B classifier; its threshold stays 0.4.
    """

    routes: Mapping[str, Verifier]
    name: str = "huatuo"
    version: str = VERSION

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError for a task without a rule."""
        parsed = parse(completion, "huatuo")
        inner = ByTask("huatuo", self.routes)(completion, sample)
        if not parsed.well_formed:
            return Verdict(0.0, Status.unparsable, f"form: {parsed.reason}; {inner.reason}")
        score = huatuo_reward(parsed.well_formed, inner.score)
        return Verdict(score, Status.ok if score == 1.0 else Status.wrong, inner.reason, {"p": inner.score})


def answer_verifiers() -> dict[str, AnswerReader]:
    """The verifiers of which each task names exactly one, in strict mode."""
    found: tuple[AnswerReader, ...] = (
        OptionLetter(name="letter"), YesNo(name="judgement"), ClosedAnswer(name="closed", synonyms=synonyms()),
        NumericAnswer(name="number", rel_tol=0.005, abs_tol=0.051), LabelSet(name="entities", synonyms=synonyms(), max_extra=1),
        OpenAnswer(name="open", synonyms=synonyms()), ReportSections(name="report", synonyms=synonyms()), CodeMatch(name="code"),
    )  # fmt: skip
    return {verifier.name: verifier for verifier in found}


def build_verifiers(tasks: Mapping[str, Mapping[str, object]]) -> dict[str, Verifier]:
    """All verifiers by name.

    Args:
        tasks: the manifest's tasks; each names exactly one answer verifier.

    Raises:
        PluginError: a task without exactly one answer verifier.
    """
    readers = answer_verifiers()
    routes, strict = {}, {}
    for task, row in tasks.items():
        named = [name for name in dict(row.get("verifiers") or {}) if name in readers]  # type: ignore[call-overload]
        if len(named) != 1:
            raise PluginError(
                f"pack.yaml: tasks.{task} must name exactly one of {', '.join(readers)}, it names {len(named)}. Mend it."
            )
        routes[task] = by_form(replace(readers[named[0]], mode="lenient"))
        strict[task] = replace(readers[named[0]], shape="huatuo")
    form = ByForm("format", {"think_answer": FormatVerifier(), "answer": Bare(), "huatuo": FormatVerifier(shape="huatuo")})
    found: list[Verifier] = [
        *(by_form(reader) for reader in readers.values()), form, HuatuoReward(strict), ByTask("accuracy", routes, is_binary=True),
        MedEvalKit(),
    ]  # fmt: skip
    return {verifier.name: verifier for verifier in found}
