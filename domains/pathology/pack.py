"""The pathology pack: histology tiles with questions whose answers are exact.

Without data paths everything is generated (generator.py); with paths the user's files are read (loaders.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from factory.contracts import DataRequest, Document, Eval, Lesson, Sample, Verifier
from factory.domains.pathology import generator
from factory.domains.pathology.evals import evals
from factory.domains.pathology.verifiers import build_verifiers
from factory.plugins import read_manifest

if TYPE_CHECKING:
    from factory.data.report import RowReport


class PathologyPack:
    """Stains, cells and small diagnoses on 64 px tiles, or the user's own pathology sets."""

    def __init__(self) -> None:
        self.manifest = read_manifest(Path(__file__).parent)

    def corpus(self, split: str, seed: int, request: DataRequest) -> Iterable[Document]:
        """Captioned tiles for continued pretraining."""
        if request.paths:
            from factory.domains.pathology.loaders import LOADER

            return LOADER.documents(request, split, seed)
        return generator.documents(split, seed, request)

    def lessons(self, split: str, seed: int, request: DataRequest) -> Iterable[Lesson]:
        """Questions with worked reasoning for supervised fine-tuning."""
        if request.paths:
            from factory.domains.pathology.loaders import LOADER

            return LOADER.lessons(request, split, seed)
        return generator.lessons(split, seed, request)

    def samples(self, split: str, seed: int, request: DataRequest) -> Iterable[Sample]:
        """Questions with references for reinforcement learning and evaluation."""
        if request.paths:
            from factory.domains.pathology.loaders import LOADER

            return LOADER.samples(request, split, seed)
        return generator.samples(split, seed, request)

    def verifiers(self) -> Mapping[str, Verifier]:
        """All verifiers by name; see verifiers.py."""
        return build_verifiers(self.manifest.tasks)

    def evals(self) -> Mapping[str, Eval]:
        """Accuracy and the probes; see evals.py."""
        return evals()

    def gives(self, request: DataRequest) -> frozenset[str]:
        """Which of `corpus`, `lessons`, `samples` the request's paths hold; all of them without paths."""
        if not request.paths:
            return frozenset(self.manifest.provides)
        from factory.domains.pathology.loaders import LOADER

        return LOADER.gives(request)

    def check(self, request: DataRequest) -> RowReport:
        """Read the user's files whole and report every bad row; raises only when a path or its shape is wrong."""
        from factory.domains.pathology.loaders import LOADER

        return LOADER.check(request)

    def gold(self, sample: Sample) -> str:
        """A completion that earns the full reward: used by the conformance kit, never by training."""
        answer = sample.reference if isinstance(sample.reference, str) else json.dumps(sample.reference)
        block = f"<answer>{answer}</answer>"
        if sample.meta.get("thinking") == "off":
            return block
        return f"<think>the findings that the field shows decide this question</think>{block}"


PACK = PathologyPack()
