"""The pack's verifiers: factory ones, set up for pathology, and four of its own for what depends on the sample.

| name | score | used for |
| --- | --- | --- |
| letter | 1 when the right option is named | reward of `choice` and `diagnosis` |
| closed | 1 when the word is right, synonyms.yaml applied | reward of `finding`, `yes_no` and `impression` |
| region | IoU of the boxes | reward of `region` |
| format | 1 when the form is kept | reward of every task |
| length | 1 when the reasoning suits the difficulty | measured; weight 0 until a recipe raises it |
| accuracy | the right one of the first three, bare answers also read, IoU >= 0.5 counts as right | the primary eval |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from factory.contracts import Sample, Status, Verdict, Verifier
from factory.packs.by_sample import ByTask, FormatOfSample, answer_of_each
from factory.quick_yaml import read_yaml
from factory.rewards.verifiers import ClosedAnswer, OptionLetter, ReasoningLength, RegionIoU

VERSION = "1"
LENGTH_WINDOWS = {"easy": (2, 40), "medium": (2, 80), "hard": (6, 200)}
"""Words of reasoning by difficulty: the terse lessons of the embedded model have 2, 3 and 10, the full ones 10 to 70."""


@cache
def synonyms() -> Mapping[str, tuple[str, ...]]:
    """Canonical answer -> other ways to write it, from synonyms.yaml."""
    raw = read_yaml((Path(__file__).parent / "synonyms.yaml").read_text(encoding="utf-8"))
    return {str(canonical): tuple(str(other) for other in others) for canonical, others in raw.items()}


@dataclass(frozen=True)
class LengthOfSample:
    """Reasoning length by the sample's difficulty. A sample that has none (real data) counts as medium; thinking `off` wants none."""

    name: str = "length"
    version: str = VERSION
    graded: ReasoningLength = field(default_factory=lambda: ReasoningLength(LENGTH_WINDOWS))

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Score by word count; see ReasoningLength."""
        if sample.meta.get("thinking") == "off":
            is_bare = "<think>" not in completion.lower()
            return Verdict(
                float(is_bare),
                Status.ok if is_bare else Status.wrong,
                f"got {'no' if is_bare else 'a'} reasoning block, want none",
            )
        if "difficulty" not in sample.meta:
            sample = replace(sample, meta={**sample.meta, "difficulty": "medium"})
        return self.graded(completion, sample)


def build_verifiers(tasks: Mapping[str, Mapping[str, object]]) -> dict[str, Verifier]:
    """All verifiers by name.

    Args:
        tasks: the manifest's tasks; `accuracy` judges a task by its one answer verifier (letter, closed or region).

    Raises:
        PluginError: a task without exactly one answer verifier.
    """
    letter = OptionLetter(name="letter")
    closed = ClosedAnswer(name="closed", synonyms=synonyms())
    region = RegionIoU(name="region")
    lenient: dict[str, Verifier] = {
        "letter": replace(letter, mode="lenient"),
        "closed": replace(closed, mode="lenient"),
        "region": replace(region, mode="lenient", is_binary=True),
    }
    routes = {task: lenient[name] for task, name in answer_of_each(tasks, lenient).items()}
    found: list[Verifier] = [letter, closed, region, FormatOfSample(), LengthOfSample(), ByTask("accuracy", routes, version="2")]
    return {verifier.name: verifier for verifier in found}
