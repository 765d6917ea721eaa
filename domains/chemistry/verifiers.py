"""The pack's verifiers by name: the factory's, set up for chemistry, and its own.

| name | score | used for |
| --- | --- | --- |
| number | 1 when the number is right | counts, and measured values within their tolerance |
| yes_no | 1 when the right one of yes and no is said | same molecule, ring system present, classes |
| letter, text, words | option letter; exact name; likeness of free text | questions of the user's data |
| formula, molecule, edit, compose, property, objectives | see verifiers_molecules.py | molecules |
| retro, route, conditions, equation, ether0, ether0_original | see verifiers_reactions.py | reactions |
| edit_counts | the published edit rule, which also pays for unrelated molecules | comparison, weight 0 |
| format, length | the form; reasoning that suits the difficulty | reward of every task; measured |
| validity, likeness, maccs, rdk | figures of the evals | never rewards |
| accuracy | the task's own answer verifier, bare answers also read | the primary eval |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from factory.contracts import Sample, Status, Verdict, Verifier
from factory.domains.chemistry.ether0 import normalised_name
from factory.domains.chemistry.reading import InShape
from factory.domains.chemistry.verifiers_molecules import (
    ComposeAnswer,
    EditAnswer,
    FormulaAnswer,
    Likeness,
    MoleculeEquals,
    ObjectivesAnswer,
    PropertyGoal,
    Validity,
)
from factory.domains.chemistry.verifiers_reactions import ConditionsAnswer, EquationAnswer, Ether0Answer, RetroAnswer, RouteAnswer
from factory.packs.by_sample import ByTask, FormatOfSample, answer_of_each
from factory.rewards.answers import accepted
from factory.rewards.formats import parse
from factory.rewards.length import window_score
from factory.rewards.numeric import NumericAnswer
from factory.rewards.overlaps import TextOverlap
from factory.rewards.reader import MAX_ANSWER_CHARS, AnswerReader, judged, unparsable
from factory.rewards.verifiers import ClosedAnswer, OptionLetter, YesNo

VERSION = "1"
YES_NO = {"yes": ("true",), "no": ("false",)}
_BRACED = re.compile(r"\{\s{0,8}[\"']?(?:count|answer|value)[\"']?\s{0,8}:\s{0,8}[\"']?([-+.\deE]{1,24})[\"']?\s{0,8}\}")
LENGTH_WINDOW = (1, 400)
"""Words of reasoning: some, and no flood."""


@dataclass(frozen=True)
class NumberOfSample(NumericAnswer):
    """A number, within the sample's own tolerance (`meta["tolerance"]`, absolute) where it has one.

    `{count: 2}`, JSON without its quotes as models write it, is read too.
    """

    def answer(self, completion: str, want: str, limit: int = MAX_ANSWER_CHARS) -> str | Verdict:
        """The answer's text without braces and key."""
        found = super().answer(completion, want, limit)
        hit = _BRACED.fullmatch(found) if isinstance(found, str) else None
        return hit.group(1) if hit else found

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference or the tolerance is no number."""
        if "tolerance" not in sample.meta:
            return super().__call__(completion, sample)
        tolerance = float(sample.meta["tolerance"])
        plain = {key: value for key, value in sample.meta.items() if key != "tolerance"}
        return replace(self, abs_tol=tolerance)(completion, replace(sample, meta=plain))


@dataclass(frozen=True)
class NameAnswer(AnswerReader):
    """1 when a name equals an accepted one after ether0's IUPAC normalisation, dashes of all kinds unified."""

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is empty or no text."""
        wanted = accepted(sample.reference)
        answer = self.answer(completion, " | ".join(wanted), 2_000)
        if isinstance(answer, Verdict):
            return answer
        got = normalised_name(answer)
        if not any(char.isalnum() for char in got):
            return unparsable("no name", " | ".join(wanted))
        return judged(got in {normalised_name(text) for text in wanted}, answer, " | ".join(wanted))


def shape_named_by(sample: Sample) -> str:
    """`meta["shape"]`, `think_answer` by default."""
    return str(sample.meta.get("shape", "think_answer"))


@dataclass(frozen=True)
class LengthOfSample:
    """1 when there is some reasoning and no flood of it (1 to 400 words)."""

    name: str = "length"
    version: str = VERSION

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """`unparsable` when there is no reasoning block where the shape has one."""
        shape = shape_named_by(sample)
        if shape in ("answer", "whole", "json", "smolinstruct", "boxed"):
            return Verdict(1.0, Status.ok, "this shape asks for no reasoning")
        thinking = parse(completion, shape).thinking
        if thinking is None:
            return Verdict(0.0, Status.unparsable, f"no reasoning; want {LENGTH_WINDOW[0]}-{LENGTH_WINDOW[1]} words")
        count = len(thinking.split())
        score = window_score(count, *LENGTH_WINDOW)
        return Verdict(
            score, Status.ok if score == 1.0 else Status.wrong, f"got {count} words, want {LENGTH_WINDOW[0]}-{LENGTH_WINDOW[1]}"
        )


def answer_verifiers() -> dict[str, AnswerReader]:
    """The verifiers that judge an answer, strict; each is routed by `accuracy` in its lenient form."""
    readers: tuple[AnswerReader, ...] = (
        NumberOfSample(name="number"), ClosedAnswer(name="yes_no", synonyms=YES_NO), OptionLetter(name="letter"), NameAnswer(name="text"),
        TextOverlap(name="words", rule="rouge", threshold=0.5), FormulaAnswer(name="formula"), MoleculeEquals(name="molecule"),
        EditAnswer(name="edit"), ComposeAnswer(name="compose"), PropertyGoal(name="property"), ObjectivesAnswer(name="objectives"),
        RetroAnswer(name="retro"), RouteAnswer(name="route"), ConditionsAnswer(name="conditions"), EquationAnswer(name="equation"),
        Ether0Answer(name="ether0"),
    )  # fmt: skip
    return {reader.name: reader for reader in readers}


def build_verifiers(tasks: Mapping[str, Mapping[str, object]]) -> dict[str, Verifier]:
    """All verifiers by name.

    Args:
        tasks: the manifest's tasks; `accuracy` judges a task by its one answer verifier.

    Raises:
        PluginError: a task without exactly one answer verifier.
    """
    readers = answer_verifiers()
    routes: dict[str, Verifier] = {}
    for task, name in answer_of_each(tasks, readers).items():
        # A sentence with one of the two words counts in evals; in training the word stands alone, or a list with it would pay.
        reader = YesNo(name="yes_no") if name == "yes_no" else readers[name]
        routes[task] = InShape(replace(reader, mode="lenient"))
    lenient: list[AnswerReader] = [
        Validity(name="validity", mode="lenient"), Likeness(name="likeness", mode="lenient"),
        Likeness(name="maccs", mode="lenient", kind="maccs"), Likeness(name="rdk", mode="lenient", kind="rdk"),
    ]  # fmt: skip
    others: list[AnswerReader] = [
        EditAnswer(name="edit_counts", rule="counts"), Ether0Answer(name="ether0_original", original=True), *lenient,
    ]  # fmt: skip
    found: list[Verifier] = [InShape(reader) for reader in (*readers.values(), *others)]
    found += [FormatOfSample(shape_named_by), LengthOfSample(), ByTask("accuracy", routes)]
    return {verifier.name: verifier for verifier in found}
