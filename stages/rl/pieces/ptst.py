"""PTST, Vision-R1's progressive thinking suppression training (guides B9.7): short answers and large groups first."""

from __future__ import annotations

from dataclasses import dataclass, field

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.pieces.tiers import check_ends, stage_of


@piece(
    "clock", "ptst", formula="stage k: max_new_tokens = L_k, group_size = G_k, L_k * G_k constant",
    source="PTST: Vision-R1 (guides B9.7): 4K x 16, 8K x 8, 16K x 4",
    caveat="the clock is the stage's own step/num_steps: it starts anew in every rl stage and resets nothing else (optimiser, buffers); "
    "the paper's final model stopped after its second stage (lengths=[0.25,0.5], groups=[1,0.5]); equal stage lengths are ours",
)  # fmt: skip
@dataclass(frozen=True)
class Ptst:
    """Length limit and group size by stages of the run. The shares apply to the configured max_new_tokens and group_size, which
    are the largest of each: with 16384 and 16 the defaults are the paper's numbers."""

    lengths: list[float] = field(default_factory=lambda: [0.25, 0.5, 1.0])
    """Per stage: up to 1 a share of max_new_tokens, above 1 tokens."""
    groups: list[float] = field(default_factory=lambda: [1.0, 0.5, 0.25])
    """Per stage: up to 1 a share of group_size, above 1 rollouts."""
    ends: list[float] = field(default_factory=list)
    """Where each stage ends, as shares of the run. Empty: equal parts (ours)."""

    def __post_init__(self) -> None:
        if not self.lengths or len(self.lengths) != len(self.groups):
            raise ValueError("lengths and groups need one entry for each stage.")
        if min(*self.lengths, *self.groups) <= 0:
            raise ValueError("lengths and groups must be above 0.")
        for name, values in (("lengths", self.lengths), ("groups", self.groups)):
            if min(values) <= 1 < max(values):
                raise ValueError(f"{name} mixes shares (up to 1) and numbers (above 1).")
        products = [length * group for length, group in zip(self.lengths, self.groups, strict=True)]
        if max(products) > min(products) * (1 + 1e-6):
            raise ValueError("length x group must be the same in every stage: tokens per prompt stay constant.")
        check_ends(self.ends, len(self.lengths))

    def limits(self, ctx: StepContext) -> tuple[int, int]:
        """(max_new_tokens, group_size) of this step."""
        stage = stage_of(ctx.progress, len(self.lengths), self.ends)
        found = at_stage(self.lengths[stage], ctx.max_new_tokens), at_stage(self.groups[stage], ctx.group_size)
        ctx.metrics |= {"ptst_stage": float(stage), "max_new_tokens": float(found[0]), "group_size": float(found[1])}
        return found

    def all_limits(self, max_new_tokens: int, group_size: int) -> list[tuple[int, int]]:
        """(max_new_tokens, group_size) of every stage, for checks before the run."""
        pairs = zip(self.lengths, self.groups, strict=True)
        return [(at_stage(length, max_new_tokens), at_stage(group, group_size)) for length, group in pairs]


def at_stage(value: float, configured: int) -> int:
    """A share of the configured number, rounded to the nearest; or the number itself when it is above 1."""
    return round(value * configured) if value <= 1 else round(value)
