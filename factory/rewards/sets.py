"""Answers that are sets of labels or bags of words, scored by overlap."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from factory.contracts import Sample, Verdict
from factory.errors import ConfigError
from factory.rewards.answers import Synonyms, accepted
from factory.rewards.reader import AnswerReader, graded, one_of, share, short, unparsable

RULES = ("exact", "f1", "jaccard", "precision", "recall")
_SEPARATOR = re.compile(r"[,;\n|•]|\s/\s|\s\band\b\s")
_BULLET = re.compile(r"^\s*(?:[-*•]\s+|\d{1,3}[.)]\s+)")
MAX_ITEMS = 500


def overlap(got: AbstractSet[Hashable], want: AbstractSet[Hashable], rule: str) -> float:
    """Overlap of two sets by one of RULES, in [0, 1]; two empty sets agree, and an empty one earns nothing otherwise."""
    if not got or not want:
        return float(not got and not want)
    common = len(got & want)
    if rule == "exact":
        return float(got == want)
    if rule == "jaccard":
        return common / len(got | want)
    precision, recall = common / len(got), common / len(want)
    if rule in ("precision", "recall"):
        return precision if rule == "precision" else recall
    return 2 * common / (len(got) + len(want))


def read_items(text: str) -> list[str]:
    """The items of a list as written: a JSON list, lines with bullets, or items between commas, semicolons, `|` and `and`.

    Raises ValueError for a JSON list of anything but texts and numbers, and for more than 500 items.
    """
    stripped = text.strip()
    if stripped.startswith("["):
        try:
            found = json.loads(stripped)
        except (ValueError, RecursionError):
            stripped = stripped.strip("[]")
        else:
            if not isinstance(found, list) or any(isinstance(x, bool) or not isinstance(x, str | int | float) for x in found):
                raise ValueError("a JSON answer must be a list of texts")
            return _limited([str(item) for item in found])
    return _limited([_BULLET.sub("", item) for item in _SEPARATOR.split(stripped)])


def _limited(items: list[str]) -> list[str]:
    kept = [item.strip() for item in items if item.strip()]
    if len(kept) > MAX_ITEMS:
        raise ValueError(f"{len(kept)} items, more than {MAX_ITEMS}")
    return kept


@dataclass(frozen=True)
class LabelSet(AnswerReader):
    """Overlap of the set of labels in the answer with the reference's (a list, or a text in the same writing).

    `rule`: one of `exact`, `f1`, `jaccard`, `precision`, `recall`. Listing every label cannot win: only `recall` does not
    punish it, so `recall` needs `max_extra`.
    """

    rule: str = "f1"
    threshold: float = 1.0
    """Score from which the status is `ok`."""
    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """canonical form -> other ways to write it."""
    max_extra: int | None = None
    """More labels beyond the reference's than this score 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "rule", self.rule, RULES)
        share(self.name, "threshold", self.threshold)
        if self.rule == "recall" and self.max_extra is None:
            raise ConfigError(f"verifier '{self.name}': rule 'recall' pays for listing every label. Set max_extra, or use 'f1'.")
        object.__setattr__(self, "_table", Synonyms(self.synonyms))

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is empty or no text."""
        table: Synonyms = self._table  # type: ignore[attr-defined]
        items = accepted(sample.reference)
        wanted = {table.canonical(x) for x in (read_items(items[0]) if isinstance(sample.reference, str) else items)} - {""}
        if not wanted:
            raise ValueError(f"sample {sample.id}: the reference {sample.reference!r} holds no label")
        want = ", ".join(sorted(wanted))
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            return answer
        try:
            got = {table.canonical(item) for item in read_items(answer)} - {""}
        except ValueError as err:
            return unparsable(str(err), want)
        if not got:
            return unparsable("no label", want)
        extra = len(got - wanted)
        score = 0.0 if self.max_extra is not None and extra > self.max_extra else overlap(got, wanted, self.rule)
        parts = {"precision": overlap(got, wanted, "precision"), "recall": overlap(got, wanted, "recall")}
        return graded(score, self.threshold, f"got {short(', '.join(sorted(got)), 200)}, want {short(want, 200)}", parts)


def words(text: str) -> list[str]:
    """Lower-case words and numbers; a character of a script without spaces counts as a word."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return re.findall(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+", text)


def token_f1(got: Sequence[str], want: Sequence[str], *, is_bag: bool = False) -> tuple[float, float, float]:
    """(f1, precision, recall) of two lists of words: as sets (MedEvalKit's open questions), or as bags (SQuAD)."""
    if not got or not want:
        return (1.0, 1.0, 1.0) if not got and not want else (0.0, 0.0, 0.0)
    left, right = (Counter(got), Counter(want)) if is_bag else (Counter(set(got)), Counter(set(want)))
    common = sum((left & right).values())
    precision, recall = common / sum(left.values()), common / sum(right.values())
    return (2 * common / (sum(left.values()) + sum(right.values())), precision, recall)


@dataclass(frozen=True)
class TokenF1(AnswerReader):
    """F1 of the words of the answer and the best of the accepted references. For evaluation: it pays for likeness, not truth."""

    is_bag: bool = False
    """Count repeated words."""
    threshold: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        share(self.name, "threshold", self.threshold)

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is empty or no text."""
        wanted = accepted(sample.reference)
        want = " | ".join(wanted)
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            return answer
        got = words(answer)
        if not got:
            return unparsable("no word", want)
        best = max(token_f1(got, words(text), is_bag=self.is_bag) for text in wanted)
        parts = {"precision": best[1], "recall": best[2]}
        return graded(best[0], self.threshold, f"got {answer[:80]!r}, want {want[:80]!r}: F1 {best[0]:.3f}", parts)
