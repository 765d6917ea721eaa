"""The biology pack: questions about DNA whose answers are exact.

Without data paths everything is generated (generator.py); with paths the user's files are read (loaders.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from factory.contracts import DataRequest, Document, Eval, Lesson, Sample, Verifier
from factory.domains.biology import generator
from factory.domains.biology.evals import evals
from factory.domains.biology.verifiers import build_verifiers
from factory.plugins import read_manifest

if TYPE_CHECKING:
    from factory.data.report import RowReport


class BiologyPack:
    """Strands, translation, variants and pathways, generated or from the user's own files."""

    def __init__(self) -> None:
        self.manifest = read_manifest(Path(__file__).parent)

    def corpus(self, split: str, seed: int, request: DataRequest) -> Iterable[Document]:
        """Statements with their working, or the user's sequences and texts, for continued pretraining."""
        if request.paths:
            from factory.domains.biology.loaders import LOADER

            return LOADER.documents(request, split, seed)
        return generator.documents(split, seed, request)

    def lessons(self, split: str, seed: int, request: DataRequest) -> Iterable[Lesson]:
        """Questions with worked responses for supervised fine-tuning."""
        if request.paths:
            from factory.domains.biology.loaders import LOADER

            return LOADER.lessons(request, split, seed)
        return generator.lessons(split, seed, request)

    def samples(self, split: str, seed: int, request: DataRequest) -> Iterable[Sample]:
        """Questions with references for reinforcement learning and evaluation."""
        if request.paths:
            from factory.domains.biology.loaders import LOADER

            return LOADER.samples(request, split, seed)
        return generator.samples(split, seed, request)

    def verifiers(self) -> Mapping[str, Verifier]:
        """All verifiers by name; see verifiers.py."""
        return build_verifiers(self.manifest.tasks)

    def evals(self) -> Mapping[str, Eval]:
        """Accuracy with the figures of label tasks, and the probes; see evals.py."""
        return evals()

    def gives(self, request: DataRequest) -> frozenset[str]:
        """Which of `corpus`, `lessons`, `samples` the request's paths hold; all of them without paths."""
        if not request.paths:
            return frozenset(self.manifest.provides)
        from factory.domains.biology.loaders import LOADER

        return LOADER.gives(request)

    def check(self, request: DataRequest) -> RowReport:
        """Read the user's files whole and report every bad row; raises only when a path or its shape is wrong."""
        from factory.domains.biology.loaders import LOADER

        return LOADER.check(request)

    def gold(self, sample: Sample) -> str:
        """A completion that earns the full reward: used by the conformance kit, never by training."""
        answer = gold_text(sample)
        if sample.meta.get("form") == "think_line":
            return f"<think>\nthe sequence decides this question\n</think>\n\nAnswer: {answer}"
        block = f"<answer>{answer}</answer>"
        return block if sample.meta.get("thinking") == "off" else f"<think>the sequence decides this question</think>{block}"


def gold_text(sample: Sample) -> str:
    """The reference as a right answer is written."""
    found = sample.reference
    if sample.task == "orf":
        return f"{found['start']}..{found['end']}"
    if isinstance(found, Mapping):
        return f"{found['value']} {found.get('unit', '')}".strip()
    if isinstance(found, list):
        return ", ".join(map(str, found)) if sample.task == "restriction" else str(found[0])
    return str(found)


PACK = BiologyPack()
