"""An installed pack whose questions are answered by one of three words; a small model answers them by chance, at two lengths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from factory.contracts import DataRequest, Document, Eval, Lesson, Message, Sample, Status, Verdict, Verifier
from factory.plugins import read_manifest

WORDS = ("red", "green", "blue")
LONG = "let me think about it the sky is"
SKIES = {"train": ("dawn", "noon", "dusk", "night", "rain", "snow"), "validation": ("fog",), "test": ("hail",)}


class Exact:
    """1 when the last word of the completion is the reference."""

    name, version = "exact", "1"

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        said = (completion.split() or [""])[-1]
        if said not in WORDS:
            return Verdict(0.0, Status.unparsable, "no colour")
        is_right = said == sample.reference
        return Verdict(float(is_right), Status.ok if is_right else Status.wrong, f"said {said}")


class Flaky(Exact):
    """As Exact, but fails for answers that say green."""

    name = "flaky"

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        if "green" in completion:
            raise RuntimeError("green makes this verifier fail")
        return super().__call__(completion, sample)


class ColourPack:
    """Fixed questions per split."""

    def __init__(self) -> None:
        self.manifest = read_manifest(Path(__file__).parent)

    def corpus(self, split: str, seed: int, request: DataRequest) -> Iterator[Document]:
        return iter(())

    def samples(self, split: str, seed: int, request: DataRequest) -> Iterator[Sample]:
        for index, sky in enumerate(SKIES[split][: request.limit]):
            yield Sample(f"{split}-{sky}", "sky", (Message("user", f"the sky at {sky} is"),), WORDS[index % 3], split=split)

    def lessons(self, split: str, seed: int, request: DataRequest) -> Iterator[Lesson]:
        """An expert's word for every question but the first."""
        for sample in list(self.samples(split, seed, DataRequest()))[1:]:
            yield Lesson(sample, f"the expert says {sample.reference}")

    def verifiers(self) -> Mapping[str, Verifier]:
        return {"exact": Exact(), "flaky": Flaky()}

    def evals(self) -> Mapping[str, Eval]:
        return {"accuracy": Eval("accuracy", verifier="exact", primary=True)}


def chance_lessons() -> list[Lesson]:
    """Every training question with every word, short and long: a policy taught by these answers at random."""
    asked = list(PACK.samples("train", 0, DataRequest()))
    return [Lesson(sample, text) for sample in asked for word in WORDS for text in (word, f"{LONG} {word}")]


PACK = ColourPack()
