"""The driving pack: traffic scenes with questions whose answers are exact, and a simulator that carries plans out.

Without data paths everything is generated (generator.py); with paths the user's files are read (loaders.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.contracts import DataRequest, Sample
from factory.domains.driving import generator
from factory.domains.driving.evals import evals
from factory.domains.driving.verifiers import build_verifiers
from factory.packs.two_sources import TwoSources

if TYPE_CHECKING:
    from factory.packs.loading import Loader


class DrivingPack(TwoSources):
    """Meta-actions, waypoints and what one sees, on drawn scenes or on the user's own driving sets."""

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


def _loader(_: DataRequest) -> Loader:
    from factory.domains.driving.loaders import LOADER

    return LOADER


PACK = DrivingPack(Path(__file__).parent, generator=generator, loader=_loader, verifiers=build_verifiers, evals=evals)
