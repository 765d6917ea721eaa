"""What a piece is: a small dataclass whose fields are its settings, in one slot of the RL step.

    @piece("advantage", "group_mean", formula="r_i - mean(r)", source="Dr. GRPO, arXiv 2503.20783")
    @dataclass(frozen=True)
    class GroupMean:
        def estimate(self, ctx, groups): ...

Settings are the dataclass fields, checked and converted when a run is planned; a field without a default has to be given,
because no source states a value. State (buffers, averages) is set in `__post_init__` under private names and goes through
`state_dict`/`load_state_dict`. No module of this folder imports torch: pieces use tensor methods only, so that `plan` stays quick.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

PieceType = TypeVar("PieceType", bound=type)


@dataclass(frozen=True)
class Slot:
    """A place in the RL step where pieces go."""

    name: str
    is_many: bool
    """True: any number of pieces, applied in the order of the catalogue."""
    method: str
    """What a piece of this slot implements."""
    title: str


SLOTS: dict[str, Slot] = {
    slot.name: slot
    for slot in (
        Slot("pool", True, "keeps(stat) -> bool", "which prompts may still be drawn"),
        Slot("sampler", False, "draw(ctx, pool, num) -> list of places", "which prompts come next"),
        Slot("supply", False, "plan of draws", "how many prompts are drawn, and what makes a group useful"),
        Slot("format", False, "render(sample) -> Sample; read(text) -> fields", "what the completion should look like"),
        Slot("hook", True, "apply(ctx, groups) -> None", "change rollouts after they were generated"),
        Slot("reward", True, "score(ctx, sample, rollout) -> float", "a term added to the reward of one rollout"),
        Slot("group_reward", True, "apply(ctx, group) -> None", "rewards that compare the rollouts of a group"),
        Slot("mixer", False, "mix(ctx, groups) -> None", "parts to one scalar"),
        Slot("inject", True, "apply(ctx, groups) -> groups", "put stored or foreign rollouts in, before the advantage"),
        Slot("advantage", False, "estimate(ctx, groups) -> None", "how much better a rollout is than expected"),
        Slot("weigh", True, "apply(ctx, groups) -> None", "scale advantages"),
        Slot("resample", True, "apply(ctx, groups) -> groups", "drop or replay rollouts, after the advantage"),
        Slot("token_weight", True, "apply(ctx, groups) -> None", "weigh the tokens of a rollout"),
        Slot("loss", False, "__call__(batch) -> Surrogate", "per-token policy loss"),
        Slot("aggregator", False, "__call__(loss, mask, totals, max_length) -> scalar", "per-token losses to one number"),
        Slot("kl", False, "__call__(logp, ref) -> per token", "distance to the reference"),
        Slot("kl_schedule", False, "coef(ctx, base) -> float", "KL coefficient over the run"),
        Slot("kl_weight", False, "apply(ctx, groups) -> None", "KL coefficient by rollout"),
        Slot("reference", False, "which weights are the reference", "the model that KL and confidence compare with"),
        Slot("auxiliary", True, "__call__(batch) -> per token", "terms beside the policy loss"),
        Slot("step_rule", True, "allows(grad_norm) -> bool", "whether an optimiser step is taken"),
        Slot("clock", True, "limits(ctx) -> changed limits", "length and group size over the run"),
    )
}


@dataclass(frozen=True)
class Piece:
    """The catalogue's record of one piece."""

    slot: str
    name: str
    type: type
    formula: str
    source: str
    needs: frozenset[str] = frozenset()
    """What has to be computed or present for it; keys of `needs.NEEDS`."""
    caveat: str = ""
    """Where the source is silent, or paper and code differ."""

    @property
    def key(self) -> str:
        """`slot.name`, unique."""
        return f"{self.slot}.{self.name}"

    def settings(self) -> tuple[dataclasses.Field[Any], ...]:
        """Its settings, in order."""
        return dataclasses.fields(self.type)


_CATALOGUE: dict[str, Piece] = {}


def piece(
    slot: str, name: str, *, formula: str, source: str, needs: Iterable[str] = (), caveat: str = ""
) -> Callable[[PieceType], PieceType]:
    """Enter a dataclass into the catalogue."""

    def enter(cls: PieceType) -> PieceType:
        record = Piece(slot, name, cls, formula, source, frozenset(needs), caveat)
        if slot not in SLOTS or _CATALOGUE.get(record.key, record).type.__qualname__ != cls.__qualname__:
            raise ValueError(f"piece {record.key}: unknown slot, or a name given twice")
        _CATALOGUE[record.key] = record
        cls.key = record.key  # type: ignore[attr-defined]
        return cls

    return enter


def entered() -> dict[str, Piece]:
    """All pieces entered so far; `catalogue.pieces()` imports the modules first."""
    return _CATALOGUE
