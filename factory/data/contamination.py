"""How much of held-out data stands in training data: the same text, the same image, and shared runs of words.

Runs of 13 words as in GPT-3's analysis (arXiv 2005.14165, appendix C). A text of fewer words counts by the whole of it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from factory.contracts import EXACT_TEXT, Document, Lesson, Sample

RUN = 13
_WORD = re.compile(r"\w+", re.UNICODE)


@dataclass
class Hit:
    """One held-out sample that was met in training data."""

    id: str
    kinds: set[str] = field(default_factory=set)
    """`text`, `image`, `words`."""
    share: float = 0.0
    """Of its runs of words that were met."""
    where: str = ""
    """Id of the first training item."""


@dataclass
class Report:
    """What a comparison found."""

    num_held_out: int
    num_training: int = 0
    hits: dict[str, Hit] = field(default_factory=dict)

    def count(self, kind: str) -> int:
        """Held-out samples with a hit of that kind."""
        return sum(kind in hit.kinds for hit in self.hits.values())


def words_of(text: str, *, is_exact: bool = False) -> list[str]:
    """Lower-case words without punctuation; where signs are the question (`EXACT_TEXT`), everything between blanks as it stands."""
    return text.split() if is_exact else _WORD.findall(text.lower())


def _key(words: list[str], is_exact: bool) -> bytes:
    return _hash(f"{is_exact}\n{' '.join(words)}".encode("utf-8", "surrogatepass"))


def runs_of(words: list[str], length: int = RUN, *, is_exact: bool = False) -> set[bytes]:
    """Hashes of each run of `length` words; of the whole text when it is shorter."""
    if len(words) <= length:
        return {_key(words, is_exact)} if words else set()
    return {_key(words[start : start + length], is_exact) for start in range(len(words) - length + 1)}


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=12).digest()


def compare(held_out: Iterable[Sample], training: Iterable[Sample | Lesson | Document], *, length: int = RUN) -> Report:
    """Look for each held-out sample in everything of `training`; the held-out side is kept in memory, training is streamed."""
    texts: dict[bytes, list[str]] = {}
    images: dict[str, list[str]] = {}
    runs: dict[bytes, list[str]] = {}
    sizes: dict[str, int] = {}
    lengths: dict[bool, set[int]] = {}
    for sample in held_out:
        is_exact = bool(sample.meta.get(EXACT_TEXT))
        words = words_of(sample.text(), is_exact=is_exact)
        # An image is part of the question: a text that goes with one is not the same question under another.
        if not sample.media:
            texts.setdefault(_key(words, is_exact), []).append(sample.id)
        found = runs_of(words, length, is_exact=is_exact)
        sizes[sample.id] = len(found)
        lengths.setdefault(is_exact, {length}).update({len(words)} if 0 < len(words) < length else ())
        for run in found:
            runs.setdefault(run, []).append(sample.id)
        for media in sample.media:
            images.setdefault(media.sha256(), []).append(sample.id)
    report, met = Report(len(sizes)), dict[str, set[bytes]]()
    for item in training:
        report.num_training += 1
        sample = item.sample if isinstance(item, Lesson) else item
        text = sample.text if isinstance(sample, Document) else sample.text()
        answer = item.response if isinstance(item, Lesson) else ""
        for media in sample.media:
            for name in images.get(media.sha256(), ()):
                _note(report, name, "image", sample.id)
        for is_exact, wanted in lengths.items():
            words = words_of(text, is_exact=is_exact)
            for name in texts.get(_key(words, is_exact), ()):
                _note(report, name, "text", sample.id)
            said = words + words_of(answer, is_exact=is_exact)
            # Short held-out texts are looked for inside longer training texts too.
            for run in set[bytes]().union(*(runs_of(said, size, is_exact=is_exact) for size in wanted if len(said) >= size)):
                for name in runs.get(run, ()):
                    met.setdefault(name, set()).add(run)
                    _note(report, name, "words", sample.id)
    for name, found in met.items():
        report.hits[name].share = len(found) / sizes[name]
    return report


def _note(report: Report, name: str, kind: str, where: str) -> None:
    hit = report.hits.setdefault(name, Hit(name))
    hit.kinds.add(kind)
    hit.where = hit.where or where
