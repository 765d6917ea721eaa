"""The chemistry pack: questions about molecules and reactions whose answers RDKit can check.

Without data paths everything is generated (generator.py); with paths the user's files are read (loaders.py).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from factory.contracts import DataRequest, Sample
from factory.domains.chemistry import generator
from factory.domains.chemistry.evals import evals
from factory.domains.chemistry.verifiers import build_verifiers
from factory.domains.chemistry.verifiers_reactions import gold_of
from factory.packs.two_sources import TwoSources

if TYPE_CHECKING:
    from factory.packs.loading import Loader


class ChemistryPack(TwoSources):
    """Counts, edits, properties and reactions of small molecules, or the user's own chemistry sets."""

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


def _loader(_: DataRequest) -> Loader:
    from factory.domains.chemistry.loaders import LOADER

    return LOADER


PACK = ChemistryPack(Path(__file__).parent, generator=generator, loader=_loader, verifiers=build_verifiers, evals=evals)
