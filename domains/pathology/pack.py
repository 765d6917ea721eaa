"""The pathology pack: histology tiles with questions whose answers are exact.

Without data paths everything is generated (generator.py); with paths the user's files are read (loaders.py).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from factory.contracts import DataRequest, Sample
from factory.domains.pathology import generator
from factory.domains.pathology.evals import evals
from factory.domains.pathology.verifiers import build_verifiers
from factory.packs.two_sources import TwoSources

if TYPE_CHECKING:
    from factory.packs.loading import Loader


class PathologyPack(TwoSources):
    """Stains, cells and small diagnoses on 64 px tiles, or the user's own pathology sets."""

    def gold(self, sample: Sample) -> str:
        """A completion that earns the full reward: used by the conformance kit, never by training."""
        answer = sample.reference if isinstance(sample.reference, str) else json.dumps(sample.reference)
        block = f"<answer>{answer}</answer>"
        if sample.meta.get("thinking") == "off":
            return block
        return f"<think>the findings that the field shows decide this question</think>{block}"


def _loader(_: DataRequest) -> Loader:
    from factory.domains.pathology.loaders import LOADER

    return LOADER


PACK = PathologyPack(Path(__file__).parent, generator=generator, loader=_loader, verifiers=build_verifiers, evals=evals)
