"""The driving pack: traffic scenes with questions whose answers are exact, and a simulator that carries plans out.

Without data paths everything is generated (generator.py); with paths the user's files are read (loaders.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.contracts import DataRequest, Document, Eval, Lesson, Sample, Verifier
from factory.domains.driving import generator
from factory.domains.driving.evals import evals
from factory.domains.driving.loaders import LOADER
from factory.domains.driving.verifiers import build_verifiers
from factory.plugins import read_manifest

if TYPE_CHECKING:
    from factory.data.report import RowReport


class DrivingPack:
    """Meta-actions, waypoints and what one sees, on drawn scenes or on the user's own driving sets."""

    def __init__(self) -> None:
        self.manifest = read_manifest(Path(__file__).parent)

    def corpus(self, split: str, seed: int, request: DataRequest) -> Iterable[Document]:
        """Scenes with what one sees and what to do, for continued pretraining."""
        return LOADER.documents(request, split, seed) if request.paths else generator.documents(split, seed, request)

    def lessons(self, split: str, seed: int, request: DataRequest) -> Iterable[Lesson]:
        """Questions with worked reasoning for supervised fine-tuning."""
        return LOADER.lessons(request, split, seed) if request.paths else generator.lessons(split, seed, request)

    def samples(self, split: str, seed: int, request: DataRequest) -> Iterable[Sample]:
        """Questions with references for reinforcement learning and evaluation."""
        return LOADER.samples(request, split, seed) if request.paths else generator.samples(split, seed, request)

    def verifiers(self) -> Mapping[str, Verifier]:
        """All verifiers by name; see verifiers.py."""
        return build_verifiers(self.manifest.tasks)

    def evals(self) -> Mapping[str, Eval]:
        """Accuracy and consequences; see evals.py."""
        return evals()

    def gives(self, request: DataRequest) -> frozenset[str]:
        """Which of `corpus`, `lessons`, `samples` the request's paths hold; all of them without paths."""
        return LOADER.gives(request) if request.paths else frozenset(self.manifest.provides)

    def check(self, request: DataRequest) -> RowReport:
        """Read the user's files whole and report every bad row; raises only when a path or its shape is wrong."""
        return LOADER.check(request)

    def modality(self, options: Mapping[str, Any]) -> str:
        """`text` when scenes are told in words (`pack.view=text`), else `vl`."""
        return "text" if options.get("view") == "text" else self.manifest.modality

    def gold(self, sample: Sample) -> str:
        """A completion that earns the full reward: used by the conformance kit, never by training."""
        answer = sample.reference if isinstance(sample.reference, str) else json.dumps(sample.reference)
        block = f"<answer>{answer}</answer>"
        if sample.meta.get("thinking") == "off":
            return block
        return f"<think>what lies ahead, the limit and the command decide this</think>{block}"


PACK = DrivingPack()
