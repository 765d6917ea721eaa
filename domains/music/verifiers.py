"""The pack's verifiers. An answer to a question about a score is recomputed from the score, never compared with a stored one.

| name | score | used for |
| --- | --- | --- |
| answer | 1 when right; music that breaks a rule at most 0.4; copies 0 | reward of every task with a score |
| letter | 1 when the right option is named | reward of `knowledge` (the user's questions) |
| closed | 1 when the text is right | reward of `question` (the user's questions) |
| format | 1 when the form is kept | reward of every task |
| abc, bars, key, range, voice_leading | share of one rule that the written music keeps | measured; weight 0 until a recipe raises it |
| accuracy | 1 when the answer is right, bare answers also read | the primary eval |
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from factory.contracts import Sample, Status, Verdict, Verifier
from factory.domains.music import rules
from factory.domains.music.abc_writer import header
from factory.domains.music.answers import AnswerError, read_notes
from factory.domains.music.asks import KINDS, Ask, is_right, right_answers
from factory.domains.music.composed import COMPOSED, Judged, judge
from factory.domains.music.meter import parse_meter
from factory.domains.music.question import accepts
from factory.domains.music.reading import read_answer, shape_of
from factory.domains.music.score import Tune
from factory.errors import ConfigError
from factory.packs.by_sample import FormatOfSample
from factory.rewards.answers import gold_letter, options_of, read_choice, read_choice_anywhere
from factory.rewards.formats import Parsed
from factory.rewards.reader import judged, short, unparsable
from factory.rewards.verifiers import ClosedAnswer

VERSION = "1"
LEVELS = ("spelled", "enharmonic")
_ONE_NOTE = re.compile(r"\s*(?:[\^_=]+[A-Ga-g][,']*|[a-z][,']*|[A-G][,']+)\s*")
RULES = ("abc", "bars", "key", "range", "voice_leading")


@dataclass(frozen=True)
class OneBox:
    """The form of the sample, with at most one boxed answer anywhere."""

    name: str = "format"
    version: str = VERSION
    form: FormatOfSample = field(default_factory=lambda: FormatOfSample(shape_of))

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Judge the form only; raises ValueError for a sample of unknown form."""
        if completion.count("\\boxed") > 1:
            return Verdict(0.0, Status.wrong, f"{completion.count(chr(92) + 'boxed')} boxed answers, want 1")
        return self.form(completion, sample)


def _letter(parsed: Parsed, options: dict[str, str], gold: str, *, lenient: bool) -> Verdict:
    if parsed.answer is None:
        return unparsable(parsed.reason if not parsed.well_formed else "no answer", gold)
    exact = [letter for letter, text in options.items() if text == parsed.answer and parsed.answer not in options]
    if len(exact) == 1:  # case and signs count in ABC: `_B` and `b` are notes, not the option B
        return judged(exact[0] == gold, exact[0], gold)
    if _ONE_NOTE.fullmatch(parsed.answer):
        return unparsable(f"{parsed.answer!r} is a note and no option; options are named by capital letters", gold)
    choice = read_choice_anywhere(parsed.answer, options) if lenient else read_choice(parsed.answer, options)
    if choice.letter is None:
        return unparsable(choice.reason, gold)
    return judged(choice.letter == gold, choice.letter, gold)


@dataclass(frozen=True)
class LetterOfSample:
    """1 when the right option is named: for questions without a score, whose key comes with them."""

    name: str = "letter"
    version: str = VERSION
    lenient: bool = False

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the sample's options or reference are faulty."""
        if "options" not in sample.meta:
            raise ValueError(f"sample {sample.id} has no meta['options']: {self.name} needs the option texts")
        options = options_of(sample.meta["options"])
        return _letter(
            read_answer(completion, sample, lenient=self.lenient),
            options,
            gold_letter(sample.reference, options),
            lenient=self.lenient,
        )


@dataclass(frozen=True)
class TheoryAnswer:
    """The answer to `meta["ask"]`, recomputed from its score. With options, the one option that is right is worked out the same way."""

    name: str = "answer"
    version: str = VERSION
    lenient: bool = False
    level: str = "spelled"
    """`spelled`: F# is not Gb. `enharmonic`: for notes, it is."""
    is_binary: bool = False
    """No partial score for music."""

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ConfigError(f"verifier '{self.name}': level is {self.level!r}; want {' or '.join(LEVELS)}.")

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the question cannot be answered from its score, or not exactly one option is right."""
        if "ask" not in sample.meta and "options" in sample.meta:
            return LetterOfSample(self.name, lenient=self.lenient)(completion, sample)  # a benchmark's own key
        ask = Ask.from_meta(sample.meta)
        if ask.kind not in KINDS and ask.kind not in COMPOSED:
            raise ValueError(f"sample {sample.id}: unknown kind of question {ask.kind!r}")
        parsed = read_answer(completion, sample, lenient=self.lenient)
        if "options" in sample.meta:
            options = options_of(sample.meta["options"])
            return _letter(parsed, options, right_letter(sample, ask, options), lenient=self.lenient)
        want = " | ".join(right_answers(ask)) if ask.kind in KINDS else f"music that keeps the rules of '{ask.kind}'"
        if parsed.answer is None:
            return unparsable(parsed.reason if not parsed.well_formed else "no answer", want)
        try:
            if ask.kind in KINDS:
                return judged(is_right(ask, parsed.answer, level=self.level), parsed.answer, want)
            return self._music(judge(ask, parsed.answer), parsed.answer)
        except AnswerError as err:
            return unparsable(str(err), want)

    def _music(self, found: Judged, got: str) -> Verdict:
        kept = sum(rule.is_kept for rule in found.rules)
        score = float(found.score == 1.0) if self.is_binary else found.score
        status = Status.ok if found.score == 1.0 else Status.wrong
        parts = {rule.name: rule.share for rule in found.rules}
        return Verdict(score, status, f"got {short(got)}: {found.reason} (rules {kept}/{len(found.rules)})", parts)


def right_letter(sample: Sample, ask: Ask, options: dict[str, str]) -> str:
    """The one option that answers the question. Raises ValueError when none or several do, or the sample's key is another."""
    right = [letter for letter, text in options.items() if accepts(ask, text)]
    if len(right) != 1:
        raise ValueError(f"sample {sample.id}: {len(right)} options answer the question ({', '.join(right)}); exactly one must")
    if sample.reference not in (right[0], options[right[0]]):
        raise ValueError(f"sample {sample.id}: the reference is {sample.reference!r}, by the score it is {right[0]}")
    return right[0]


@dataclass(frozen=True)
class MusicRule:
    """How far the music in an answer keeps one rule, whatever else was asked; a copy of the score's notes counts nothing."""

    name: str
    version: str = VERSION

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the sample asks for no music."""
        ask = Ask.from_meta(sample.meta)
        if ask.kind not in COMPOSED:
            raise ValueError(f"sample {sample.id} asks for '{ask.kind}'; the rule '{self.name}' judges music only")
        want = f"music that keeps the rule '{self.name}'"
        parsed = read_answer(completion, sample, lenient=False)
        if parsed.answer is None:
            return unparsable(parsed.reason if not parsed.well_formed else "no answer", want)
        tune = ask.tune()
        meter = parse_meter(str(ask.params["meter"])) if "meter" in ask.params else tune.meter
        try:
            answer = read_notes(parsed.answer, header(tune.key, meter, tune.unit))
            share, fault = self._share(ask, tune, answer, parsed.answer)
        except AnswerError as err:
            return unparsable(str(err), want)
        if parsed.answer.split() == ask.score.splitlines()[-1].rstrip("|]").split():
            return Verdict(0.0, Status.wrong, f"the score is copied; want {want}")
        return Verdict(share, Status.ok if share >= 1.0 else Status.wrong, fault or f"the rule '{self.name}' is kept")

    def _share(self, ask: Ask, tune: Tune, answer: Tune, text: str) -> tuple[float, str]:
        pitches = [pitch for note in answer.notes() if not note.is_grace for pitch in note.pitches]
        if not pitches:
            return 0.0, "no note sounds"
        if self.name == "abc":
            return 1.0, ""
        if self.name == "voice_leading":
            if ask.kind != "harmonise":
                return 0.0, "the question asks for no second voice"
            found = judge(ask, text)
            share = 0.0 if found.is_void else sum(rule.share for rule in found.rules) / len(found.rules)
            return share, "" if share == 1.0 else found.reason
        rule = {
            "bars": lambda: rules.bars_full(answer.bars),
            "key": lambda: rules.in_key(pitches, tune.key),
            "range": lambda: rules.in_range(pitches, 36, rules.MELODY_RANGE[1]),
        }[self.name]()
        return rule.share, rule.fault


@dataclass(frozen=True)
class Accuracy:
    """Right or wrong, with answers outside the tags read too."""

    name: str = "accuracy"
    version: str = VERSION
    theory: TheoryAnswer = field(default_factory=lambda: TheoryAnswer("accuracy", lenient=True, is_binary=True))
    letter: LetterOfSample = field(default_factory=lambda: LetterOfSample("accuracy", lenient=True))
    closed: ClosedAnswer = field(default_factory=lambda: ClosedAnswer(name="accuracy", mode="lenient"))

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """The verdict of the verifier that fits the sample."""
        chosen: Verifier = self.theory if "ask" in sample.meta else self.letter if "options" in sample.meta else self.closed
        return chosen(completion, sample)


@dataclass(frozen=True)
class ClosedOfSample:
    """1 when a short free answer is the reference after normalisation: for the user's own questions."""

    name: str = "closed"
    version: str = VERSION
    inner: ClosedAnswer = field(default_factory=lambda: ClosedAnswer(name="closed"))

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is empty or no text."""
        shape = shape_of(sample)
        if completion.count("\\boxed") > 1:
            return unparsable("several boxed answers, want 1", str(sample.reference))
        return ClosedAnswer(name=self.name, shape=shape)(completion, sample)


def build_verifiers() -> dict[str, Verifier]:
    """All verifiers by name."""
    found: list[Verifier] = [TheoryAnswer(), LetterOfSample(), ClosedOfSample(), OneBox(), Accuracy()]
    found += [MusicRule(name) for name in RULES]
    return {verifier.name: verifier for verifier in found}
