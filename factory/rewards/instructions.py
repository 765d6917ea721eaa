"""Does a response follow its instructions: MathIF's hard and soft accuracy over a sample's constraints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.contracts import Sample, Status, Verdict
from factory.rewards.constraints import is_kept
from factory.rewards.formats import parse
from factory.rewards.reader import AnswerReader, one_of


def constraints_of(sample: Sample) -> list[tuple[str, Mapping[str, Any]]]:
    """(name, arguments) of a sample's constraints.

    From `meta["constraints"]`, a list of `{"name", "args"}`, or MathIF's own `constraint_name` and `constraint_args` lists.
    Raises ValueError when there are none or they are malformed.
    """
    listed = sample.meta.get("constraints")
    if listed is None and "constraint_name" in sample.meta:
        names, args = sample.meta["constraint_name"], sample.meta.get("constraint_args")
        if not isinstance(names, Sequence) or not isinstance(args, Sequence) or len(names) != len(args):
            raise ValueError(f"sample {sample.id}: constraint_name and constraint_args must be lists of one length")
        listed = [{"name": name, "args": arg} for name, arg in zip(names, args, strict=True)]
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
        raise ValueError(f"sample {sample.id} has no meta['constraints']; want a list of {{'name', 'args'}}")
    found = []
    for row in listed:
        if not isinstance(row, Mapping) or not isinstance(row.get("args") or {}, Mapping):
            raise ValueError(f"sample {sample.id}: a constraint must be {{'name', 'args'}}, got {row!r:.80}")
        found.append((str(row.get("name")), row.get("args") or {}))
    return found


@dataclass(frozen=True)
class FollowsInstructions(AnswerReader):
    """Share of the sample's constraints that the response keeps (`rule="soft"`, SAcc), or 1 when it keeps all (`hard`, HAcc).

    The text judged is what follows the reasoning, and inside the answer block if there is one; blank text keeps nothing.
    Constraints are named `0:name`, `1:name` ... in `parts`.
    """

    name: str = "instructions"
    mode: str = "lenient"
    rule: str = "hard"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "rule", self.rule, ("hard", "soft"))

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the sample's constraints are missing or faulty."""
        constraints = constraints_of(sample)
        text = response_text(completion, self.shape)
        kept = {f"{i}:{name}": float(is_kept(name, text or "", args)) for i, (name, args) in enumerate(constraints)}
        if not text.strip():
            return Verdict(0.0, Status.unparsable, "nothing follows the reasoning", kept)
        share = sum(kept.values()) / len(kept)
        missed = [name for name, value in kept.items() if not value]
        score = share if self.rule == "soft" else float(not missed)
        reason = f"{len(kept) - len(missed)} of {len(kept)} constraints kept" + (
            f"; missed {', '.join(missed)}" if missed else ""
        )
        return Verdict(score, Status.wrong if missed else Status.ok, reason, kept)


def response_text(completion: str, shape: str = "think_answer") -> str:
    """What is shown to the reader: the one answer block if there is one, else all that follows the reasoning."""
    tagged = parse(completion, shape)
    if tagged.answer is not None:
        return tagged.answer
    return parse(completion, "safework").answer or ""
