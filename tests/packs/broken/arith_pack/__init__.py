"""A small, sound third-party pack: sums of two numbers. The tests of the kit break copies of it, one rule at a time."""

import random
from pathlib import Path

from factory.contracts import Document, Eval, Lesson, Message, Sample
from factory.plugins import read_manifest
from factory.rewards.verifiers import ClosedAnswer, FormatVerifier


class ArithPack:
    def __init__(self):
        self.manifest = read_manifest(Path(__file__).parent)
        self.exact = ClosedAnswer(name="exact")

    def _sample(self, role, split, seed, index):
        rng = random.Random(f"{role}-{split}-{seed}-{index}")
        low = {"train": 100, "validation": 4000, "test": 7000}[split] + {"corpus": 0, "lessons": 1000, "samples": 2000}[role]
        a, b = rng.randrange(low, low + 999), rng.randrange(1000)
        text = f"What is {a} plus {b}?"
        return Sample(f"{role}-{split}-{seed}-{index}", "sum", (Message("user", text),), str(a + b), split=split, source="arith")

    def corpus(self, split, seed, request):
        for index in range(request.limit or 100):
            sample = self._sample("corpus", split, seed, index)
            yield Document(sample.id, f"{sample.text()} It is {sample.reference}.", split=split)

    def lessons(self, split, seed, request):
        for index in range(request.limit or 100):
            sample = self._sample("lessons", split, seed, index)
            yield Lesson(sample, self.gold(sample))

    def samples(self, split, seed, request):
        for index in range(request.limit or 100):
            yield self._sample("samples", split, seed, index)

    def verifiers(self):
        return {"exact": self.exact, "format": FormatVerifier()}

    def evals(self):
        return {"accuracy": Eval("accuracy", verifier="exact", primary=True)}

    def gold(self, sample):
        return f"<think>add the numbers</think><answer>{sample.reference}</answer>"


PACK = ArithPack()
