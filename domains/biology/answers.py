"""Answer verifiers of their own kind: sequences, proteins, reading frames, fragment lengths, HGVS names, labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from factory.contracts import Sample, Verdict
from factory.domains.biology import hgvs
from factory.domains.biology.codes import ONE, translate
from factory.domains.biology.sequences import orfs
from factory.errors import ConfigError
from factory.rewards.answers import Synonyms, accepted, normalise
from factory.rewards.reader import AnswerReader, graded, judged, unparsable

MAX_LETTERS = 10_000
"""A longer sequence is no answer to any question of the pack."""
_ENDS = re.compile(r"^(?:[53]['’′]\s*-?\s*)|(?:\s*-?\s*[53]['’′])$")


def read_sequence(text: str) -> str | None:
    """Letters of a DNA or RNA sequence in capitals; spaces, line breaks, position numbers (as in GenBank) and 5'/3' marks
    go. None for other text."""
    text = re.sub(r"(?<!\S)[0-9]+(?!\S)", " ", _ENDS.sub("", text.strip().strip('`"')))
    found = re.sub(r"[\s\-]", "", text).upper()
    return found if re.fullmatch(r"[ACGTURYSWKMBDHVN]+", found) else None


def read_protein(text: str) -> str | None:
    """One-letter form of a protein written in one or three letters (`GV*`, `GlyValTer`, `Gly-Val-Ter`). None for other text."""
    found = re.sub(r"[\s\-]", "", text.strip().strip("`'\""))
    if re.fullmatch(r"[ACDEFGHIKLMNPQRSTVWYUOX*]+", found):
        return found
    parts = re.findall(r"[A-Z][a-z]{2}|\*", found)
    if not parts or "".join(parts) != found or any(part not in ONE and part != "*" for part in parts):
        return None
    return "".join("*" if part == "*" else ONE[part] for part in parts)


@dataclass(frozen=True)
class SequenceAnswer(AnswerReader):
    """1 when the answer is the reference sequence. T and U are different letters; case, spaces and 5'/3' marks do not count."""

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is no sequence."""
        want = read_sequence(str(sample.reference))
        if want is None:
            raise ValueError(f"sample {sample.id}: the reference {sample.reference!r:.80} is no sequence")
        answer = self.answer(completion, want, MAX_LETTERS)
        if isinstance(answer, Verdict):
            return answer
        got = read_sequence(answer)
        return unparsable("not a sequence of DNA or RNA", want) if got is None else judged(got == want, got, want)


@dataclass(frozen=True)
class ProteinAnswer(AnswerReader):
    """1 when the answer is the reference protein; a last stop may be left out. The reference is checked against the DNA."""

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is no protein, or not what `meta["sequence"]` codes for."""
        want = read_protein(str(sample.reference))
        if want is None:
            raise ValueError(f"sample {sample.id}: the reference {sample.reference!r:.80} is no protein")
        if "sequence" in sample.meta:
            coded = translate(str(sample.meta["sequence"]), int(sample.meta.get("frame", 1)), int(sample.meta.get("code", 1)))
            if coded.removesuffix("*") != want.removesuffix("*"):
                raise ValueError(f"sample {sample.id}: the sequence codes for {coded[:80]}, the reference says {want[:80]}")
        answer = self.answer(completion, want, MAX_LETTERS)
        if isinstance(answer, Verdict):
            return answer
        got = read_protein(answer)
        if got is None:
            return unparsable("not a protein in one or three letters", want)
        is_right = got == want or (len(want) > 1 and got == want.removesuffix("*"))
        return judged(is_right, got, want)


_PLACE = re.compile(r"\(?\s*([0-9]{1,9})\s*(?:\.\.|-|–|to|,|;)\s*([0-9]{1,9})\s*\)?(?:\s*\(?\s*([+-])\s*(?:strand)?\s*\)?)?")


@dataclass(frozen=True)
class OrfAnswer(AnswerReader):
    """1 when the answered place `start..end` is a longest open reading frame of the sample's sequence (any of equal length)."""

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the sample has no sequence, or its reference is no longest frame of it."""
        sequence, code = str(sample.meta.get("sequence", "")), int(sample.meta.get("code", 1))
        found = orfs(sequence, code=code, both_strands=bool(sample.meta.get("both_strands", False)))
        if not found:
            raise ValueError(f"sample {sample.id}: meta['sequence'] has no open reading frame")
        best = {(orf.start, orf.end, orf.strand) for orf in found if orf.length == found[0].length}
        reference = sample.reference if isinstance(sample.reference, Mapping) else {}
        gold = (reference.get("start"), reference.get("end"), reference.get("strand", "+"))
        if gold not in best:
            raise ValueError(f"sample {sample.id}: the reference {sample.reference!r:.80} is no longest open reading frame")
        want = f"{gold[0]}..{gold[1]}"
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            return answer
        hit = _PLACE.fullmatch(answer.strip())
        if hit is None:
            return unparsable("not a place such as 4..15", want)
        got = (int(hit[1]), int(hit[2]))
        is_right = any(got == orf[:2] and hit[3] in (None, orf[2]) for orf in best)
        return judged(is_right, f"{got[0]}..{got[1]}", want)


@dataclass(frozen=True)
class FragmentList(AnswerReader):
    """1 when the answer's whole numbers are those of the reference list, each as often, in any order; `bp` may follow a number."""

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is no list of whole numbers."""
        gold = sample.reference
        if not isinstance(gold, Sequence) or isinstance(gold, str) or not gold or not all(type(n) is int for n in gold):
            raise ValueError(f"sample {sample.id}: the reference {gold!r:.80} is no list of whole numbers")
        want = ", ".join(map(str, gold))
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            return answer
        text = answer.strip().removeprefix("[").removesuffix("]")
        parts = [part.strip() for part in re.split(r"[,;+\s]\s*(?:and\s)?|\sand\s", re.sub(r"\s*bp\b", "", text)) if part.strip()]
        if not parts or len(parts) > 500 or not all(re.fullmatch(r"[0-9]{1,9}", part) for part in parts):
            return unparsable("not a list of whole numbers", want)
        return judged(Counter(map(int, parts)) == Counter(gold), ", ".join(parts), want)


@dataclass(frozen=True)
class HgvsName(AnswerReader):
    """1 when the answer names the reference's change in HGVS notation; see `hgvs` for what is normalised."""

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is no HGVS description, PluginError when it needs a parser that is not installed."""
        wanted = accepted(sample.reference)
        want = " | ".join(wanted)
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            for text in wanted:  # a faulty reference must not depend on the answer
                hgvs.equal(text, text)
            return answer
        faults = []
        for text in wanted:
            is_same, fault = hgvs.equal(answer, text)
            if is_same:
                return judged(True, answer, want)
            faults.append(fault)
        return unparsable(faults[0], want) if all(faults) else judged(False, answer, want)


_LABEL_LEAD = re.compile(r"^\s*(?:the\s+)?(?:final\s+)?answer\s*(?:is\b)?\s*:?\s*", re.IGNORECASE)
_PARENTHESES = re.compile(r"\([^()]{0,200}\)")


def bare_label(text: str) -> str:
    """A label without `Answer:`, parentheses and punctuation at its ends, in lower case."""
    return normalise(_PARENTHESES.sub(" ", _LABEL_LEAD.sub("", text)))


@dataclass(frozen=True)
class LabelAnswer(AnswerReader):
    """1 when the answer is the label or an alias of it. Several references are all right.

    The one-label rule: a sentence that holds exactly one known label (`meta["labels"]` and their aliases), the right one,
    earns `partial`; a list of labels earns nothing. Without known labels there is no partial credit.
    """

    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)
    partial: float = 0.2
    max_words: int = 30
    """A longer answer is no sentence about one label."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.partial < 0.5:
            raise ConfigError(f"verifier '{self.name}': partial is {self.partial}; want a number from 0 to below 0.5.")
        object.__setattr__(self, "_table", Synonyms(self.aliases))

    def canonical(self, text: str) -> str:
        """The label's canonical form, after `bare_label`."""
        table: Synonyms = self._table  # type: ignore[attr-defined]
        return table.canonical(bare_label(text))

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is empty or no text."""
        wanted = accepted(sample.reference)
        want = " | ".join(wanted)
        gold = {self.canonical(text) for text in wanted}
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            return answer
        got = self.canonical(answer)
        if not got:
            return unparsable("the answer is only punctuation", want)
        if got in gold:
            return judged(True, answer, want)
        held = self._held(answer, sample)
        score = self.partial if len(held) == 1 and held <= gold else 0.0
        said = ", ".join(sorted(held)) or "no known label"
        return graded(score, 1.0, f"got {answer[:80]!r} ({said}), want {want[:80]!r}")

    def _held(self, answer: str, sample: Sample) -> set[str]:
        """Canonical forms of the known labels that stand in a short answer; longer writings are looked for first."""
        known = [str(label) for label in sample.meta.get("labels") or ()]
        words = _words(answer)
        if len(words.split()) > self.max_words or _DENIALS & set(words.split()):
            return set()
        writings = {
            writing: canonical for label in known for canonical in [self.canonical(label)]
            for writing in (label, *self.aliases.get(canonical, ()))
        }  # fmt: skip
        text, held = words, set()
        for writing in sorted(writings, key=len, reverse=True):
            sought = _words(writing)
            if sought.strip() and sought in text:
                held.add(writings[writing])
                text = text.replace(sought, " | ")
        return held


_DENIALS = {"not", "no", "without", "neither", "nor", "rather", "unlike", "except"}


def _words(text: str) -> str:
    """Words in lower case with one space before, between and after them."""
    joined = " ".join(re.findall(r"[^\W_]+", text.casefold()))
    return f" {joined} "
