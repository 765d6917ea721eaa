"""A pack of random words for `benchmarks/gpu.py`: documents, lessons, pairs and questions of a wanted length, with or without images."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from factory.contracts import IMAGE, DataRequest, Document, Lesson, Manifest, Media, Message, Sample, Status, Verdict

WORDS = tuple(a + b for a in ("ba", "ce", "di", "fo", "gu", "ha", "je", "ki") for b in ("lan", "mer", "nil", "pos", "tur", "vas"))
TASK = "words"


class Coin:
    """Right for about half of all completions, by their hash: every group has both, and nothing can be learned."""

    name, version = "coin", "1"

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        is_right = hashlib.sha256(f"{sample.id}{completion}".encode()).digest()[0] % 2 == 0
        return Verdict(float(is_right), Status.ok if is_right else Status.wrong, "by hash")


VERIFIERS = {"coin": Coin()}


@cache
def picture(number: int, side_px: int) -> Media:
    """Noise, so that no two are alike. PNG."""
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(number).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return Media(data=buffer.getvalue())


@dataclass(frozen=True)
class Words:
    """A DomainPack in the parts that training touches."""

    num_words: int
    """Of one text; a word is about one token."""
    side_px: int = 0
    """Side of the image that each text has; 0 for none."""

    @property
    def manifest(self) -> Manifest:
        """What the stages read of it."""
        mix = {"verifiers": {"coin": 1.0}, "gate": None, "title": TASK}
        return Manifest(
            name="gpu_task", title="Words", version="1", license="Apache-2.0", intended_use="benchmarks", not_for="anything else",
            tasks={TASK: mix}, provides=("corpus", "samples", "lessons", "pairs"), modality="vl" if self.side_px else "text",
        )  # fmt: skip

    def verifiers(self) -> dict[str, Coin]:
        """By name."""
        return dict(VERIFIERS)

    def _text(self, key: str, share: float = 1.0) -> str:
        rng = random.Random(key)
        return " ".join(rng.choice(WORDS) for _ in range(max(1, round(share * self.num_words))))

    def _media(self, number: int) -> tuple[Media, ...]:
        return (picture(number % 16, self.side_px),) if self.side_px else ()

    def corpus(self, split: str, seed: int, request: DataRequest) -> Iterator[Document]:
        """Texts, each behind its image where there are images."""
        mark = IMAGE if self.side_px else ""
        for number in range(request.limit or 256):
            yield Document(f"d{number}", mark + self._text(f"{split}-{seed}-d{number}"), self._media(number))

    def samples(self, split: str, seed: int, request: DataRequest) -> Iterator[Sample]:
        """Questions of a quarter of the length."""
        mark = IMAGE if self.side_px else ""
        for number in range(request.limit or 256):
            text = mark + self._text(f"{split}-{seed}-q{number}", 0.25)
            yield Sample(f"s{number}", TASK, (Message("user", text),), "x", media=self._media(number), split=split, source=TASK)

    def lessons(self, split: str, seed: int, request: DataRequest) -> Iterator[Lesson]:
        """Questions with answers of three quarters of the length."""
        for sample in self.samples(split, seed, request):
            yield Lesson(sample, self._text(f"{split}-{seed}-{sample.id}-a", 0.75))

    def pairs(self, split: str, seed: int, request: DataRequest) -> Iterator[Any]:
        """Questions with two answers."""
        from factory.stages.pairs import Pair

        for sample in self.samples(split, seed, request):
            yield Pair(sample, *(self._text(f"{split}-{seed}-{sample.id}-{side}", 0.75) for side in ("chosen", "rejected")))
