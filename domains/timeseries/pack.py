"""The time-series pack: signals as plots or numbers, with questions whose answers are exact.

Without data paths everything is generated (generator.py); with paths the user's files are read (loaders.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.contracts import DataRequest, Document, Eval, Lesson, Sample, Verifier
from factory.domains.timeseries import generator
from factory.domains.timeseries.evals import evals
from factory.domains.timeseries.verifiers import build_verifiers
from factory.domains.timeseries.wording import interval_text
from factory.plugins import read_manifest

if TYPE_CHECKING:
    from factory.data.report import RowReport


class TimeSeriesPack:
    """Six families of synthetic signals and five kinds of puzzles, or the user's own series."""

    def __init__(self) -> None:
        self.manifest = read_manifest(Path(__file__).parent)

    def corpus(self, split: str, seed: int, request: DataRequest) -> Iterable[Document]:
        """Captioned series for continued pretraining."""
        if request.paths:
            from factory.domains.timeseries.loaders import load_documents

            return load_documents(request, split, seed)
        return generator.documents(split, seed, request)

    def lessons(self, split: str, seed: int, request: DataRequest) -> Iterable[Lesson]:
        """Questions with worked reasoning for supervised fine-tuning."""
        if request.paths:
            from factory.domains.timeseries.loaders import load_lessons

            return load_lessons(request, split, seed)
        return generator.lessons(split, seed, request)

    def samples(self, split: str, seed: int, request: DataRequest) -> Iterable[Sample]:
        """Questions with references for reinforcement learning and evaluation."""
        if request.paths:
            from factory.domains.timeseries.loaders import load_samples

            return load_samples(request, split, seed)
        return generator.samples(split, seed, request)

    def verifiers(self) -> Mapping[str, Verifier]:
        """All verifiers by name; see verifiers.py."""
        return build_verifiers(self.manifest.tasks)

    def evals(self) -> Mapping[str, Eval]:
        """Accuracy, perception, and macro-F1 beside the classical baselines; see evals.py."""
        return evals()

    def gives(self, request: DataRequest) -> frozenset[str]:
        """Which of `corpus`, `lessons`, `samples` the request's paths hold; all of them without paths."""
        if not request.paths:
            return frozenset(self.manifest.provides)
        from factory.domains.timeseries.loaders import loader

        return loader(request).gives(request)

    def modality(self, options: Mapping[str, Any]) -> str:
        """`text` when series are written as numbers (`pack.mode=text`), so that a model without vision will do; else `vl`."""
        return "text" if options.get("mode") == "text" else self.manifest.modality

    def check(self, request: DataRequest) -> RowReport:
        """Read the user's files whole and report every bad row; raises only when a path or its shape is wrong."""
        from factory.domains.timeseries.loaders import loader

        return loader(request).check(request)

    def gold(self, sample: Sample) -> str:
        """A completion that earns the full reward: used by the conformance kit, never by training."""
        answer = interval_text(sample.reference) if isinstance(sample.reference, list) else str(sample.reference)
        if sample.meta.get("form") == "timemaster":
            extension = str(sample.meta.get("extension", ""))
            seen = " ; ".join(f"{name} {value}" for name, value in dict(sample.meta.get("features", {})).items())
            return f"<think>{seen or 'the plot decides'}</think><class>{answer}</class><extension>{extension}</extension>"
        block = f"<answer>{answer}</answer>"
        return block if sample.meta.get("thinking") == "off" else f"<think>what the series shows decides</think>{block}"


PACK = TimeSeriesPack()
