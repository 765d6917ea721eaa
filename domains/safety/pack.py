"""The safety pack: written rules, instructions, specifications and unknown names, all with exact answers.

Without data paths everything is generated (generator.py); with paths the user's files are read (loaders.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from factory.contracts import DataRequest, Pair, Sample
from factory.domains.safety import generator
from factory.domains.safety.conduct import COMPLY, REFUSE
from factory.domains.safety.evals import evals
from factory.domains.safety.policies import PLAIN_REFUSAL, policies
from factory.domains.safety.verifiers import build_verifiers
from factory.packs.two_sources import TwoSources

if TYPE_CHECKING:
    from factory.packs.loading import Loader


class SafetyPack(TwoSources):
    """Answer, refuse, obey, keep to a specification, say unknown; or the user's own safety sets."""

    def pairs(self, split: str, seed: int, request: DataRequest) -> Iterable[Pair]:
        """Preferred and rejected responses for reward and cost models; `pack.preference` says which side prefers."""
        if request.paths:
            from factory.domains.safety.loaders_pairs import load_pairs

            return load_pairs(request, split, seed)
        from factory.domains.safety.pairs import generated_pairs

        return generated_pairs(split, seed, request)

    def policies(self, sample: Sample) -> Mapping[str, str]:
        """What the constant policies say to a sample: every build reports their score beside the model's."""
        return policies(sample)

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


def _loader(_: DataRequest) -> Loader:
    from factory.domains.safety.loaders import LOADER

    return LOADER


PACK = SafetyPack(Path(__file__).parent, generator=generator, loader=_loader, verifiers=build_verifiers, evals=evals)
