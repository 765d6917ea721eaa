"""The time-series pack: signals as plots or numbers, with questions whose answers are exact.

Without data paths everything is generated (generator.py); with paths the user's files are read (loaders.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.contracts import DataRequest, Document, Sample
from factory.domains.timeseries import generator
from factory.domains.timeseries.evals import evals
from factory.domains.timeseries.verifiers import build_verifiers
from factory.domains.timeseries.wording import interval_text
from factory.packs.two_sources import TwoSources

if TYPE_CHECKING:
    from factory.packs.loading import Loader


class TimeSeriesPack(TwoSources):
    """Six families of synthetic signals and five kinds of puzzles, or the user's own series."""

    def corpus(self, split: str, seed: int, request: DataRequest) -> Iterable[Document]:
        """Captioned series; among the user's, generated ones when `pack.synthetic` asks for them."""
        if not request.paths:
            return super().corpus(split, seed, request)
        from factory.domains.timeseries.loaders import load_documents

        return load_documents(request, split, seed)

    def modality(self, options: Mapping[str, Any]) -> str:
        """`text` when series are written as numbers (`pack.mode=text`), so that a model without vision will do; else `vl`."""
        return "text" if options.get("mode") == "text" else self.manifest.modality

    def gold(self, sample: Sample) -> str:
        """A completion that earns the full reward: used by the conformance kit, never by training."""
        answer = interval_text(sample.reference) if isinstance(sample.reference, list) else str(sample.reference)
        if sample.meta.get("form") == "timemaster":
            extension = str(sample.meta.get("extension", ""))
            seen = " ; ".join(f"{name} {value}" for name, value in dict(sample.meta.get("features", {})).items())
            return f"<think>{seen or 'the plot decides'}</think><class>{answer}</class><extension>{extension}</extension>"
        block = f"<answer>{answer}</answer>"
        return block if sample.meta.get("thinking") == "off" else f"<think>what the series shows decides</think>{block}"


def _loader(request: DataRequest) -> Loader:
    from factory.domains.timeseries.loaders import loader

    return loader(request)


PACK = TimeSeriesPack(Path(__file__).parent, generator=generator, loader=_loader, verifiers=build_verifiers, evals=evals)
