"""The seeded task of `benchmarks/techniques.py`: turn a short word of letters around, or replace each letter by its partner.

Exact answers, held-out words, lessons that are too few to solve it: what is left is what RL can add. Words are split by
their hash, so no held-out word is ever trained on. `VERIFIERS` is importable by name, so the real worker pool runs it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from factory.contracts import DataRequest, Lesson, Manifest, Message, Sample, Status, Verdict

LETTERS = "ABCDEFGH"
PARTNER = dict(zip(LETTERS, "HGFEDCBA", strict=True))
TASKS = ("reverse", "partner")
LENGTHS = (2, 3, 4, 5)


def answer(task: str, word: str) -> str:
    """The exact answer, letters apart."""
    return " ".join(reversed(word)) if task == "reverse" else " ".join(PARTNER[letter] for letter in word)


class Exact:
    """1 when the completion is the answer; the share of right places is kept as a part."""

    name, version = "exact", "1"

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        said, gold = completion.split(), str(sample.reference).split()
        right = sum(a == b for a, b in zip(said, gold, strict=False)) / max(len(said), len(gold), 1)
        if not said:
            return Verdict(0.0, Status.unparsable, "empty", {"places": 0.0})
        is_right = said == gold
        return Verdict(float(is_right), Status.ok if is_right else Status.wrong, " ".join(said)[:40], {"places": right})


VERIFIERS = {"exact": Exact()}


def is_held_out(word: str) -> bool:
    """A fifth of all words."""
    return hashlib.sha256(word.encode()).digest()[0] < 51


def words(split: str, seed: int) -> Iterator[tuple[str, str]]:
    """Endless (task, word) of a split."""
    rng = random.Random(f"{seed}-{split}")
    while True:
        word = "".join(rng.choice(LETTERS) for _ in range(rng.choice(LENGTHS)))
        if is_held_out(word) == (split != "train"):
            yield rng.choice(TASKS), word


def samples(split: str = "train", seed: int = 0, request: DataRequest | None = None) -> list[Sample]:
    """`request.limit` questions, 256 without one; harder for longer words (`meta.difficulty` 0 to 1)."""
    limit = (request.limit if request else None) or 256
    found: dict[str, Sample] = {}
    for task, word in words(split, seed):
        name = f"{task}-{word}"
        if name not in found:
            found[name] = Sample(
                id=name, task=task, messages=(Message("user", f"{task} {' '.join(word)}"),), reference=answer(task, word),
                meta={"difficulty": (len(word) - 2) / 3}, split=split, source=task,
            )  # fmt: skip
        if len(found) == limit:
            return list(found.values())
    return []


def lessons(split: str = "train", seed: int = 0, request: DataRequest | None = None) -> list[Lesson]:
    """Questions with their answers."""
    return [Lesson(sample, str(sample.reference)) for sample in samples(split, seed, request)]


def texts() -> list[str]:
    """What the tokenizer is trained on."""
    return [f"{task} {' '.join(LETTERS)}" for task in TASKS] * 50


def pack() -> Any:
    """A DomainPack in the parts that training touches."""
    mix = {"verifiers": {"exact": 1.0}, "gate": None}
    manifest = Manifest(
        name="toy_task", title="Toy task", version="1", license="Apache-2.0", intended_use="benchmarks", not_for="anything else",
        tasks={task: {**mix, "title": task} for task in TASKS}, provides=("samples", "lessons"),
    )  # fmt: skip
    return SimpleNamespace(manifest=manifest, samples=samples, lessons=lessons, verifiers=lambda: VERIFIERS)
