"""The safety pack: written rules, instructions, specifications and unknown names, all with exact answers.

Without data paths everything is generated (generator.py); with paths the user's files are read (loaders.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from factory.contracts import DataRequest, Document, Eval, Lesson, Pair, Sample, Verifier
from factory.domains.safety import generator
from factory.domains.safety.conduct import COMPLY, REFUSE
from factory.domains.safety.evals import evals
from factory.domains.safety.policies import PLAIN_REFUSAL, policies
from factory.domains.safety.verifiers import build_verifiers
from factory.plugins import read_manifest

if TYPE_CHECKING:
    from factory.data.report import RowReport


class SafetyPack:
    """Answer, refuse, obey, keep to a specification, say unknown; or the user's own safety sets."""

    def __init__(self) -> None:
        self.manifest = read_manifest(Path(__file__).parent)

    def corpus(self, split: str, seed: int, request: DataRequest) -> Iterable[Document]:
        """Facts and worked exercises for continued pretraining."""
        if request.paths:
            from factory.domains.safety.loaders import LOADER

            return LOADER.documents(request, split, seed)
        return generator.documents(split, seed, request)

    def lessons(self, split: str, seed: int, request: DataRequest) -> Iterable[Lesson]:
        """Questions with worked reasoning for supervised fine-tuning."""
        if request.paths:
            from factory.domains.safety.loaders import LOADER

            return LOADER.lessons(request, split, seed)
        return generator.lessons(split, seed, request)

    def samples(self, split: str, seed: int, request: DataRequest) -> Iterable[Sample]:
        """Questions with references for reinforcement learning and evaluation."""
        if request.paths:
            from factory.domains.safety.loaders import LOADER

            return LOADER.samples(request, split, seed)
        return generator.samples(split, seed, request)

    def pairs(self, split: str, seed: int, request: DataRequest) -> Iterable[Pair]:
        """Preferred and rejected responses for reward and cost models; `pack.preference` says which side prefers."""
        if request.paths:
            from factory.domains.safety.loaders_pairs import load_pairs

            return load_pairs(request, split, seed)
        from factory.domains.safety.pairs import generated_pairs

        return generated_pairs(split, seed, request)

    def verifiers(self) -> Mapping[str, Verifier]:
        """All verifiers by name; see verifiers.py."""
        return build_verifiers(self.manifest.tasks)

    def evals(self) -> Mapping[str, Eval]:
        """Accuracy, both refusal rates and the published figures; see evals.py."""
        return evals()

    def policies(self, sample: Sample) -> Mapping[str, str]:
        """What the constant policies say to a sample: every build reports their score beside the model's."""
        return policies(sample)

    def gives(self, request: DataRequest) -> frozenset[str]:
        """Which of `corpus`, `lessons`, `samples` the request's paths hold; all of them without paths."""
        if not request.paths:
            return frozenset({"corpus", "lessons", "samples"})
        from factory.domains.safety.loaders import LOADER

        return frozenset({"documents": "corpus"}.get(sort, sort) for sort in LOADER.gives(request))

    def check(self, request: DataRequest) -> RowReport:
        """Read the user's files whole and report every bad row; raises only when a path or its shape is wrong."""
        from factory.domains.safety.loaders import LOADER

        return LOADER.check(request)

    def gold(self, sample: Sample) -> str:
        """A completion that earns the full reward: used by the conformance kit, never by training."""
        answer = sample.meta.get("gold")
        if answer is None:
            facts = " and ".join(sample.meta.get("facts", ()))
            plain = {COMPLY: f"Here you are: {facts or 'it is done with a switch'}.", REFUSE: f"{PLAIN_REFUSAL}."}
            answer = plain.get(str(sample.reference), str(sample.reference))
        if sample.meta.get("thinking") == "off":
            return f"<answer>{answer}</answer>"
        return f"<think>the rules that were given decide this</think><answer>{answer}</answer>"


PACK = SafetyPack()
