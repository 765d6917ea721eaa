"""The pack's verifiers: factory ones, set up for biology, and its own for sequences, frames, fragments, HGVS names and labels.

| name | score | used for |
| --- | --- | --- |
| sequence | 1 when the DNA or RNA is the reference, letter by letter | transcribe, complement, reverse_complement |
| protein | 1 when the protein is the reference (one or three letters) and the translation of `meta["sequence"]` | translate |
| orf | 1 when the answered place is a longest open reading frame of `meta["sequence"]` | orf |
| number | 1 when the number (with unit) is right | gc, melting |
| numbers | 1 when the numbers are the reference's, in any order | restriction |
| hgvs | 1 when the HGVS name is equal after normalisation | hgvs_c, hgvs_p |
| label | 1 for the label or an alias of it; `partial` when a sentence holds exactly one known label, the right one | the other tasks |
| letter | 1 when the right option is named | choice (the user's data) |
| format | 1 when the form is kept | every task |
| accuracy | the task's answer verifier, bare answers also read, only full marks count | the primary eval |

BioReason's five rewards, as published and mended, are in `bioreason`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import yaml

from factory.contracts import Sample, Status, Verdict, Verifier
from factory.domains.biology.answers import FragmentList, HgvsName, LabelAnswer, OrfAnswer, ProteinAnswer, SequenceAnswer
from factory.domains.biology.bioreason import bioreason_rewards
from factory.errors import PluginError
from factory.rewards.numeric import NumericAnswer
from factory.rewards.verifiers import FormatVerifier, OptionLetter

VERSION = "1"


@cache
def aliases() -> Mapping[str, tuple[str, ...]]:
    """Canonical label -> other ways to write it, from aliases.yaml."""
    raw = yaml.safe_load((Path(__file__).parent / "aliases.yaml").read_text(encoding="utf-8"))
    return {str(canonical): tuple(str(other) for other in others) for canonical, others in raw.items()}


@dataclass(frozen=True)
class FormatOfSample:
    """Form by the sample: `meta["form"]` names the shape, and `meta["thinking"]` `off` wants the answer block alone."""

    name: str = "format"
    version: str = VERSION
    bare: FormatVerifier = field(default_factory=lambda: FormatVerifier(shape="answer"))

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Judge the form only. With thinking off, a reasoning block is a fault."""
        if sample.meta.get("thinking") != "off":
            return FormatVerifier(shape=str(sample.meta.get("form", "think_answer")))(completion, sample)
        if "<think>" in completion.lower():
            return Verdict(0.0, Status.wrong, "a reasoning block, but this sample wants the answer alone")
        return self.bare(completion, sample)


@dataclass(frozen=True)
class InFormOfSample:
    """An answer verifier that reads the shape that the sample asks for."""

    inner: Verifier
    version: str = VERSION

    @property
    def name(self) -> str:
        """That of the verifier inside."""
        return self.inner.name

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """The verdict of the verifier inside, with the sample's shape."""
        shape = str(sample.meta.get("form", "think_answer"))
        if sample.meta.get("thinking") == "off" and shape == "think_answer":
            shape = "answer"
        reader = self.inner if shape == self.inner.shape else replace(self.inner, shape=shape)  # type: ignore[attr-defined,type-var]
        return reader(completion, sample)


@dataclass(frozen=True)
class ByTask:
    """Full marks of the task's answer verifier, else 0. Raises ValueError for a task without one: the sample is faulty."""

    name: str
    routes: Mapping[str, Verifier]
    version: str = VERSION

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """The routed verifier's verdict; partial credit does not count."""
        if sample.task not in self.routes:
            raise ValueError(f"sample {sample.id} has the task {sample.task!r}; '{self.name}' knows {', '.join(self.routes)}")
        verdict = self.routes[sample.task](completion, sample)
        return verdict if verdict.score in (0.0, 1.0) else replace(verdict, score=0.0, status=Status.wrong)


def build_verifiers(tasks: Mapping[str, Mapping[str, object]]) -> dict[str, Verifier]:
    """All verifiers by name.

    Args:
        tasks: the manifest's tasks; `accuracy` judges a task by its one answer verifier.

    Raises:
        PluginError: a task without exactly one answer verifier.
    """
    answers = (
        SequenceAnswer(name="sequence"), ProteinAnswer(name="protein"), OrfAnswer(name="orf"), NumericAnswer(name="number"),
        FragmentList(name="numbers"), HgvsName(name="hgvs"), LabelAnswer(name="label", aliases=aliases()),
        OptionLetter(name="letter"),
    )  # fmt: skip
    lenient = {one.name: InFormOfSample(replace(one, mode="lenient")) for one in answers}
    routes: dict[str, Verifier] = {}
    for task, row in tasks.items():
        named = [name for name in dict(row.get("verifiers") or {}) if name in lenient]  # type: ignore[call-overload]
        if len(named) != 1:
            raise PluginError(
                f"pack.yaml: tasks.{task} must name exactly one of {', '.join(lenient)}, it names {len(named)}. Mend it."
            )
        routes[task] = lenient[named[0]]
    found: list[Verifier] = [InFormOfSample(one) for one in answers]
    found += [FormatOfSample(), ByTask("accuracy", routes), *bioreason_rewards(aliases())]
    return {verifier.name: verifier for verifier in found}
