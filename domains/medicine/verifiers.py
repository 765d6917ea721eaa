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

from factory.contracts import Sample, Status, Verdict, Verifier
from factory.domains.medicine.codes import CodeMatch
from factory.domains.medicine.open_answers import OpenAnswer
from factory.domains.medicine.published import huatuo_reward
from factory.domains.medicine.published_verifier import MedEvalKit
from factory.domains.medicine.reports import ReportSections
from factory.packs.by_sample import ByTask, FormatOfSample, InShapeOfSample, answer_of_each
from factory.quick_yaml import read_yaml
from factory.rewards.formats import parse
from factory.rewards.numeric import NumericAnswer
from factory.rewards.reader import AnswerReader
from factory.rewards.sets import LabelSet
from factory.rewards.verifiers import ClosedAnswer, OptionLetter, YesNo

VERSION = "1"
FORMS = ("think_answer", "answer", "huatuo")
"""Values of `meta["form"]`, each a shape of `factory.rewards.formats`."""


@cache
def synonyms() -> Mapping[str, tuple[str, ...]]:
    """Canonical answer -> other ways to write it, from synonyms.yaml."""
    raw = read_yaml((Path(__file__).parent / "synonyms.yaml").read_text(encoding="utf-8"))
    return {str(canonical): tuple(str(other) for other in others) for canonical, others in raw.items()}


def form_of(sample: Sample) -> str:
    """`meta["form"]`, `think_answer` by default. Raises ValueError for an unknown form: the sample is faulty."""
    form = str(sample.meta.get("form", FORMS[0]))
    if form not in FORMS:
        raise ValueError(f"sample {sample.id}: meta['form'] is {form!r}; want one of {', '.join(FORMS)}")
    return form


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
    routes: dict[str, Verifier] = {}
    strict: dict[str, Verifier] = {}
    for task, name in answer_of_each(tasks, readers).items():
        routes[task] = InShapeOfSample(replace(readers[name], mode="lenient"), form_of)
        strict[task] = replace(readers[name], shape="huatuo")
    found: list[Verifier] = [
        *(InShapeOfSample(reader, form_of) for reader in readers.values()), FormatOfSample(form_of), HuatuoReward(strict), ByTask("accuracy", routes, is_binary=True),
        MedEvalKit(),
    ]  # fmt: skip
    return {verifier.name: verifier for verifier in found}
