"""The biology pack: questions about DNA whose answers are exact.

Without data paths everything is generated (generator.py); with paths the user's files are read (loaders.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from factory.contracts import DataRequest, Sample
from factory.domains.biology import generator
from factory.domains.biology.evals import evals
from factory.domains.biology.verifiers import build_verifiers
from factory.packs.two_sources import TwoSources

if TYPE_CHECKING:
    from factory.packs.loading import Loader


class BiologyPack(TwoSources):
    """Strands, translation, variants and pathways, generated or from the user's own files."""

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


def _loader(_: DataRequest) -> Loader:
    from factory.domains.biology.loaders import LOADER

    return LOADER


PACK = BiologyPack(Path(__file__).parent, generator=generator, loader=_loader, verifiers=build_verifiers, evals=evals)
