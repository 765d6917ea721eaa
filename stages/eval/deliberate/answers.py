"""Which answer a text gives, so that two texts can be told to agree. The reference is never read.

The task's own answer verifier (pack.yaml `tasks.<task>.verifiers`) decides how: the letter of an option, yes or no, the canonical
form of a closed answer, a box, or the normalised text. A verifier of a pack may offer `answer_key(completion, sample)` -> text or
None, which wins. Answers are read leniently, as evals read them; a text that was cut off must mark its answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from factory.contracts import DomainPack, Sample, Verifier
from factory.rewards.answers import Synonyms, normalise, options_of, read_choice_anywhere, read_yes_no
from factory.rewards.formats import SHAPES, Shape, parse
from factory.rewards.regions import read_box
from factory.rewards.routing import row_of
from factory.rewards.verifiers import ClosedAnswer, ExactText, OptionLetter, RegionIoU, YesNo
from factory.stages.eval.deliberate.protocol import Draw

_READERS = (OptionLetter, YesNo, ClosedAnswer, ExactText, RegionIoU)


@dataclass(frozen=True)
class AnswerReader:
    """Reads answers of one pack."""

    pack: DomainPack
    verifiers: dict[str, Verifier]

    @classmethod
    def of(cls, pack: DomainPack) -> AnswerReader:
        """A reader with the pack's verifiers."""
        return cls(pack, dict(pack.verifiers()))

    def verifier_of(self, sample: Sample) -> Verifier | None:
        """The heaviest verifier of the sample's task that reads an answer; None when none is known to."""
        listed = dict((row_of(self.pack.manifest.tasks, sample.task) or {}).get("verifiers") or {})
        for name in sorted(listed, key=lambda name: -listed[name]):
            verifier = self.verifiers.get(name)
            if isinstance(verifier, _READERS) or hasattr(verifier, "answer_key"):
                return verifier
        return None

    def shape_of(self, sample: Sample) -> Shape:
        """The form in which the sample's task wants its answer; `think_answer` where the verifiers do not say."""
        return SHAPES[getattr(self.verifier_of(sample), "shape", "think_answer")]

    def key(self, draw: Draw, sample: Sample) -> str | None:
        """A text that is equal for equal answers; None when the draw gives no answer."""
        verifier = self.verifier_of(sample)
        own: Callable[[str, Sample], str | None] | None = getattr(verifier, "answer_key", None)
        if own is not None:
            return own(draw.text, sample)
        answer = parse(draw.text, self.shape_of(sample), lenient=draw.finished).answer
        return None if answer is None else _canonical(answer, sample, verifier) or None


def _canonical(answer: str, sample: Sample, verifier: Any) -> str | None:
    if isinstance(verifier, OptionLetter) and "options" in sample.meta:
        return read_choice_anywhere(answer, options_of(sample.meta["options"])).letter
    if isinstance(verifier, YesNo):
        return read_yes_no(answer)
    if isinstance(verifier, RegionIoU):
        return _box(answer)
    if isinstance(verifier, ClosedAnswer):
        return Synonyms(verifier.synonyms).canonical(answer)
    if isinstance(verifier, ExactText):
        text = " ".join(answer.split())
        return text.casefold() if verifier.ignore_case else text
    return normalise(answer)


def _box(answer: str) -> str | None:
    try:
        return str([float(edge) for edge in read_box(answer)])
    except ValueError:
        return None
