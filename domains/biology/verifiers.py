"""The pack's verifiers: factory ones, set up for biology, and its own for sequences, frames, fragments, HGVS names and labels.

| name | score | used for |
| --- | --- | --- |
| sequence | 1 when the DNA or RNA is the reference, letter by letter | transcribe, complement, reverse_complement |
| protein | 1 when the protein is the reference (one or three letters) and the translation of `meta["sequence"]` | translate |
| orf | 1 when the answered place is a longest open reading frame of `meta["sequence"]` | orf |
| number | 1 when the number (with unit) is right | gc, melting |
| numbers | 1 when the numbers are the reference's, in any order | restriction |
| hgvs | 1 when the HGVS name is equal after normalisation | hgvs_c, hgvs_p |
| label | 1 for the label or an alias of it; `partial` when a sentence holds exactly one known label, the right one | the other tasks |
| letter | 1 when the right option is named | choice (the user's data) |
| format | 1 when the form is kept | every task |
| accuracy | the task's answer verifier, bare answers also read, only full marks count | the primary eval |

BioReason's five rewards, as published and mended, are in `bioreason`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from factory.contracts import Verifier
from factory.domains.biology.answers import FragmentList, HgvsName, LabelAnswer, OrfAnswer, ProteinAnswer, SequenceAnswer
from factory.domains.biology.bioreason import bioreason_rewards
from factory.packs.by_sample import ByTask, FormatOfSample, InShapeOfSample, answer_of_each
from factory.quick_yaml import read_yaml
from factory.rewards.numeric import NumericAnswer
from factory.rewards.verifiers import OptionLetter

VERSION = "1"


@cache
def aliases() -> Mapping[str, tuple[str, ...]]:
    """Canonical label -> other ways to write it, from aliases.yaml."""
    raw = read_yaml((Path(__file__).parent / "aliases.yaml").read_text(encoding="utf-8"))
    return {str(canonical): tuple(str(other) for other in others) for canonical, others in raw.items()}


def build_verifiers(tasks: Mapping[str, Mapping[str, object]]) -> dict[str, Verifier]:
    """All verifiers by name.

    Args:
        tasks: the manifest's tasks; `accuracy` judges a task by its one answer verifier.

    Raises:
        PluginError: a task without exactly one answer verifier.
    """
    answers = (
        SequenceAnswer(name="sequence"), ProteinAnswer(name="protein"), OrfAnswer(name="orf"), NumericAnswer(name="number"),
        FragmentList(name="numbers"), HgvsName(name="hgvs"), LabelAnswer(name="label", aliases=aliases()),
        OptionLetter(name="letter"),
    )  # fmt: skip
    lenient: dict[str, Verifier] = {one.name: InShapeOfSample(replace(one, mode="lenient")) for one in answers}
    routes = {task: lenient[name] for task, name in answer_of_each(tasks, lenient).items()}
    found: list[Verifier] = [InShapeOfSample(one) for one in answers]
    found += [FormatOfSample(), ByTask("accuracy", routes, is_binary=True), *bioreason_rewards(aliases())]
    return {verifier.name: verifier for verifier in found}
