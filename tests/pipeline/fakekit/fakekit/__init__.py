"""An installed (not built-in) pack with stage kinds that train in no time, so that the conductor can be tested alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from factory.contracts import DataRequest, Document, Eval, Lesson, Message, Sample, Verdict, Verifier
from factory.plugins import read_manifest


class FakePack:
    """Questions that name their own split and number, so that splits cannot overlap unless `pack.leak` is set."""

    def __init__(self) -> None:
        self.manifest = read_manifest(Path(__file__).parent)

    def corpus(self, split: str, seed: int, request: DataRequest) -> Iterator[Document]:
        return iter(())

    def lessons(self, split: str, seed: int, request: DataRequest) -> Iterator[Lesson]:
        return (Lesson(sample, str(sample.reference)) for sample in self.samples(split, seed, request))

    def samples(self, split: str, seed: int, request: DataRequest) -> Iterator[Sample]:
        for number in range(request.limit or 50):
            told = "test" if request.options.get("leak") and split == "train" and number == 7 else split
            yield Sample(f"{split}-{number}", "say", (Message("user", f"Say {told} {number}."),), str(number), split=split)

    def verifiers(self) -> Mapping[str, Verifier]:
        return {"exact": _Exact()}

    def evals(self) -> Mapping[str, Eval]:
        return {"accuracy": Eval("accuracy", verifier="exact", primary=True)}


class _Exact:
    name, version = "exact", "1"

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        raise NotImplementedError("the fake eval scores by itself")


PACK = FakePack()
