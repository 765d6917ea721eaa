"""Ready-made verifiers that packs compose. Pure functions of (completion, sample); each says what it got and what it wanted.

`mode="strict"` reads the answer only where the shape marks it (training); `mode="lenient"` also reads bare answers (eval).
A faulty *sample* (a reference that is no option, a missing difficulty) raises ValueError, which the pool turns into `error`:
it is never scored as a wrong answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from factory.contracts import Sample, Status, Verdict
from factory.errors import ConfigError
from factory.rewards.answers import (
    Synonyms,
    accepted,
    gold_letter,
    options_of,
    plain,
    read_choice,
    read_choice_anywhere,
    read_yes_no,
)
from factory.rewards.formats import parse, shape_named
from factory.rewards.length import DEFAULT_WINDOWS, Windows, check_windows, distinct_share, window_score
from factory.rewards.reader import VERSION, AnswerReader, judged, unparsable
from factory.rewards.regions import check_box, iou, read_box


@dataclass(frozen=True)
class FormatVerifier:
    """1 when the completion keeps its shape, else 0. `shape` is a name of `formats.SHAPES`."""

    shape: str = "think_answer"
    name: str = "format"
    version: str = VERSION

    def __post_init__(self) -> None:
        shape_named(self.shape)

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Judge the form only; the answer may be wrong."""
        parsed = parse(completion, self.shape)
        return Verdict(float(parsed.well_formed), Status.ok if parsed.well_formed else Status.wrong, parsed.reason)


@dataclass(frozen=True)
class OptionLetter(AnswerReader):
    """1 when the named option is the right one. Options: `sample.meta["options"]`; reference: the letter or the option's text."""

    version: str = "2"

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the sample's options or reference are faulty."""
        if "options" not in sample.meta:
            raise ValueError(f"sample {sample.id} has no meta['options']: {self.name} needs the option texts")
        options = options_of(sample.meta["options"])
        gold = gold_letter(sample.reference, options)
        parsed = self.read(completion)
        if parsed.answer is None:
            return unparsable(parsed.reason if not parsed.well_formed else "no answer", gold)
        choice = read_choice_anywhere(parsed.answer, options) if self.is_lenient else read_choice(parsed.answer, options)
        if choice.letter is None:
            return unparsable(choice.reason, gold)
        return judged(choice.letter == gold, choice.letter, gold)


@dataclass(frozen=True)
class ClosedAnswer(AnswerReader):
    """1 when the answer equals an accepted one after normalisation and synonyms; never by substring."""

    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """canonical form -> other ways to write it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "_table", Synonyms(self.synonyms))

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is empty or not text."""
        table: Synonyms = self._table  # type: ignore[attr-defined]
        wanted = accepted(sample.reference)
        parsed = self.read(completion)
        if parsed.answer is None:
            return unparsable(parsed.reason if not parsed.well_formed else "no answer", " | ".join(wanted))
        got = table.canonical(parsed.answer)
        if not got:
            return unparsable("the answer is only punctuation", " | ".join(wanted))
        return judged(got in {table.canonical(text) for text in wanted}, parsed.answer, " | ".join(wanted))


@dataclass(frozen=True)
class YesNo(AnswerReader):
    """1 when exactly one of the words yes and no occurs in the answer and it is the reference ("Yes, there is." counts)."""

    version: str = "2"
    max_words: int = 50
    """A longer answer is unparsable: in an essay, one of the two words says nothing."""

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is neither yes nor no."""
        gold = {"yes": "yes", "no": "no", "true": "yes", "false": "no"}.get(str(sample.reference).strip().casefold())
        if gold is None:
            raise ValueError(f"sample {sample.id}: reference {sample.reference!r} is neither yes nor no")
        parsed = self.read(completion)
        got = read_yes_no(parsed.answer) if parsed.answer else None
        if parsed.answer and len(parsed.answer.split()) > self.max_words:
            return unparsable(f"the answer has more than {self.max_words} words", gold)
        if got is None:
            return unparsable(parsed.reason if parsed.answer is None else "not exactly one of yes and no", gold)
        return judged(got == gold, got, gold)


@dataclass(frozen=True)
class ExactText(AnswerReader):
    """1 when the answer is the reference text; white space is collapsed, case counts unless `ignore_case`."""

    ignore_case: bool = False

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is empty or not text."""
        wanted = accepted(sample.reference)
        parsed = self.read(completion)
        if parsed.answer is None:
            return unparsable(parsed.reason if not parsed.well_formed else "no answer", " | ".join(wanted))
        fold = str.casefold if self.ignore_case else str
        got = fold(" ".join(parsed.answer.split()))
        return judged(got in {fold(" ".join(text.split())) for text in wanted}, parsed.answer, " | ".join(wanted))


@dataclass(frozen=True)
class RegionIoU(AnswerReader):
    """Overlap of the answered box with the reference box (x1, y1, x2, y2); the score is the IoU, or 0/1 when `is_binary`."""

    version: str = "2"
    threshold: float = 0.5
    """IoU from which the status is `ok`."""
    is_binary: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.threshold <= 1.0:
            raise ConfigError(f"verifier '{self.name}': threshold is {self.threshold}; want a number in (0, 1].")

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is not a valid box."""
        gold = check_box(sample.reference)
        parsed = self.read(completion)
        want = str(list(gold))
        if parsed.answer is None:
            return unparsable(parsed.reason if not parsed.well_formed else "no answer", want)
        try:
            box = read_box(parsed.answer)
        except ValueError as err:
            return unparsable(str(err), want)
        overlap = iou(box, gold)
        is_hit = overlap >= self.threshold
        score = float(is_hit) if self.is_binary else overlap
        reason = f"got {list(box)}, want {want}: IoU {overlap:.3f}"
        return Verdict(score, Status.ok if is_hit else Status.wrong, reason, {"iou": overlap})


@dataclass(frozen=True)
class ReasoningLength:
    """1 when the reasoning has as many words as its difficulty asks for (`sample.meta["difficulty"]`), less outside the window.

    Padding does not pay: the score is multiplied by the share of distinct word 4-grams when that is below one half.
    """

    windows: Windows = field(default_factory=lambda: dict(DEFAULT_WINDOWS))
    """difficulty -> (fewest, most) words."""
    shape: str = "think_answer"
    name: str = "length"
    version: str = VERSION

    def __post_init__(self) -> None:
        shape_named(self.shape)
        check_windows(self.windows)

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the sample has no known difficulty."""
        difficulty = sample.meta.get("difficulty")
        if difficulty not in self.windows:
            raise ValueError(f"sample {sample.id}: meta['difficulty'] is {difficulty!r}; want one of {', '.join(self.windows)}")
        low, high = self.windows[difficulty]
        thinking = parse(completion, self.shape).thinking
        if thinking is None:
            return Verdict(0.0, Status.unparsable, f"no reasoning; want {low}-{high} words ({difficulty})")
        words = plain(thinking).casefold().split()
        share = distinct_share(words)
        score = window_score(len(words), low, high) * (1.0 if share >= 0.5 else share)
        reason = f"got {len(words)} words ({share:.0%} distinct 4-grams), want {low}-{high} ({difficulty})"
        return Verdict(score, Status.ok if score == 1.0 else Status.wrong, reason, {"words": float(len(words))})
