"""The chemistry pack: questions about molecules and reactions whose answers RDKit can check.

Without data paths everything is generated (generator.py); with paths the user's files are read (loaders.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from factory.contracts import DataRequest, Document, Eval, Lesson, Sample, Verifier
from factory.domains.chemistry import generator
from factory.domains.chemistry.evals import evals
from factory.domains.chemistry.verifiers import build_verifiers
from factory.domains.chemistry.verifiers_reactions import gold_of
from factory.plugins import read_manifest

if TYPE_CHECKING:
    from factory.data.report import RowReport


class ChemistryPack:
    """Counts, edits, properties and reactions of small molecules, or the user's own chemistry sets."""

    def __init__(self) -> None:
        self.manifest = read_manifest(Path(__file__).parent)

    def corpus(self, split: str, seed: int, request: DataRequest) -> Iterable[Document]:
        """Worked statements for continued pretraining."""
        if request.paths:
            from factory.domains.chemistry.loaders import LOADER

            return LOADER.documents(request, split, seed)
        return generator.documents(split, seed, request)

    def lessons(self, split: str, seed: int, request: DataRequest) -> Iterable[Lesson]:
        """Questions with worked reasoning for supervised fine-tuning."""
        if request.paths:
            from factory.domains.chemistry.loaders import LOADER

            return LOADER.lessons(request, split, seed)
        return generator.lessons(split, seed, request)

    def samples(self, split: str, seed: int, request: DataRequest) -> Iterable[Sample]:
        """Questions with references for reinforcement learning and evaluation."""
        if request.paths:
            from factory.domains.chemistry.loaders import LOADER

            return LOADER.samples(request, split, seed)
        return generator.samples(split, seed, request)

    def verifiers(self) -> Mapping[str, Verifier]:
        """All verifiers by name; see verifiers.py."""
        return build_verifiers(self.manifest.tasks)

    def evals(self) -> Mapping[str, Eval]:
        """Accuracy and validity; see evals.py. The published formulas over completions are in metrics.py."""
        return evals()

    def gives(self, request: DataRequest) -> frozenset[str]:
        """Which of `corpus`, `lessons`, `samples` the request's paths hold; all of them without paths."""
        if not request.paths:
            return frozenset(self.manifest.provides)
        from factory.domains.chemistry.loaders import LOADER

        return frozenset({"documents": "corpus"}.get(sort, sort) for sort in LOADER.gives(request))

    def check(self, request: DataRequest) -> RowReport:
        """Read the user's files whole and report every bad row; raises only when a path or its shape is wrong."""
        from factory.domains.chemistry.loaders import LOADER

        return LOADER.check(request)

    def gold(self, sample: Sample) -> str:
        """A completion that earns the full reward: used by the conformance kit, never by training."""
        answer = sample.meta.get("gold")
        if answer is None and sample.task == "ether0":
            answer = gold_of(sample.reference)
        if answer is None:
            reference = sample.reference[0] if isinstance(sample.reference, list) and sample.task == "text" else sample.reference
            answer = ", ".join(map(str, reference)) if isinstance(reference, list) else str(reference)
        shape = sample.meta.get("shape", "think_answer")
        if shape == "json":
            return json.dumps({sample.meta.get("json_key", "output"): answer})
        if shape == "smolinstruct":
            return f"<SMILES> {answer} </SMILES>"
        if shape == "ether0":
            return f"<|think_start|>worked out<|think_end|><|answer_start|>{answer}<|answer_end|>"
        if shape == "answer":
            return f"<answer>{answer}</answer>"
        return f"<think>worked out from the structure</think><answer>{answer}</answer>"


PACK = ChemistryPack()
