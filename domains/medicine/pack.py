"""The medicine pack. Without data paths everything is generated (generator.py); with paths the user's files are read (loaders.py)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.contracts import DataRequest, Document, Eval, Lesson, Sample, Verifier
from factory.domains.medicine import generator
from factory.domains.medicine.evals import evals
from factory.domains.medicine.verifiers import build_verifiers
from factory.plugins import read_manifest

if TYPE_CHECKING:
    from factory.data.report import RowReport
    from factory.packs.loading import Loader


class MedicinePack:
    """Phantoms and bedside reasoning, or the user's own medical sets."""

    def __init__(self) -> None:
        self.manifest = read_manifest(Path(__file__).parent)

    def corpus(self, split: str, seed: int, request: DataRequest) -> Iterable[Document]:
        """Captioned images and worked exercises for continued pretraining."""
        return _loader().documents(request, split, seed) if request.paths else generator.documents(split, seed, request)

    def lessons(self, split: str, seed: int, request: DataRequest) -> Iterable[Lesson]:
        """Questions with worked responses for supervised fine-tuning."""
        return _loader().lessons(request, split, seed) if request.paths else generator.lessons(split, seed, request)

    def samples(self, split: str, seed: int, request: DataRequest) -> Iterable[Sample]:
        """Questions with references for reinforcement learning and evaluation."""
        return _loader().samples(request, split, seed) if request.paths else generator.samples(split, seed, request)

    def verifiers(self) -> Mapping[str, Verifier]:
        """All verifiers by name; see verifiers.py."""
        return build_verifiers(self.manifest.tasks)

    def evals(self) -> Mapping[str, Eval]:
        """Accuracy, MedEvalKit's rules and the probe; see evals.py."""
        return evals()

    def gives(self, request: DataRequest) -> frozenset[str]:
        """Which of `corpus`, `lessons`, `samples` the request's paths hold; all of them without paths."""
        return _loader().gives(request) if request.paths else frozenset(self.manifest.provides)

    def check(self, request: DataRequest) -> RowReport:
        """Read the user's files whole and report every bad row, and images that train and test share."""
        from factory.domains.medicine.leaks import check_with_leaks

        return check_with_leaks(_loader(), request)

    def gold(self, sample: Sample) -> str:
        """A completion that earns the full reward: used by the conformance kit, never by training."""
        answer = _gold_answer(sample.reference)
        form = sample.meta.get("form", "think_answer")
        if form == "answer":
            return f"<answer>{answer}</answer>"
        if form == "huatuo":
            return f"## Thinking\n\nthe findings decide\n\n## Final Response\n\n{answer}"
        return f"<think>the findings decide this question</think><answer>{answer}</answer>"


def _gold_answer(reference: Any) -> str:
    if isinstance(reference, Mapping) and "findings" in reference:
        shown = {name: part if isinstance(part, str) else ", ".join(part) for name, part in reference.items()}
        return f"Findings: {shown['findings']}. Impression: {shown['impression']}."
    if isinstance(reference, list):
        return ", ".join(map(str, reference))
    return reference if isinstance(reference, str) else json.dumps(reference)


def _loader() -> Loader:
    from factory.domains.medicine.loaders import LOADER

    return LOADER


PACK = MedicinePack()
