"""The medicine pack. Without data paths everything is generated (generator.py); with paths the user's files are read (loaders.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.contracts import DataRequest, Sample
from factory.domains.medicine import generator
from factory.domains.medicine.evals import evals
from factory.domains.medicine.verifiers import build_verifiers
from factory.packs.two_sources import TwoSources

if TYPE_CHECKING:
    from factory.data.report import RowReport
    from factory.packs.loading import Loader


class MedicinePack(TwoSources):
    """Phantoms and bedside reasoning, or the user's own medical sets."""

    def check(self, request: DataRequest) -> RowReport:
        """Read the user's files whole and report every bad row, and images that train and test share."""
        from factory.domains.medicine.leaks import check_with_leaks

        return check_with_leaks(_loader(request), request)

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


def _loader(_: DataRequest) -> Loader:
    from factory.domains.medicine.loaders import LOADER

    return LOADER


PACK = MedicinePack(Path(__file__).parent, generator=generator, loader=_loader, verifiers=build_verifiers, evals=evals)
