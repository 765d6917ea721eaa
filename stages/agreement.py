"""What the processes of an optimiser step agree on before its first forward: denominators, and how many forwards each of them runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from factory.errors import TrainingError
from factory.stages.objectives import Filler, Objective, has_images
from factory.stages.processes import sum_maps


def agree(
    micro_batches: Sequence[Any], objective: Objective, gather: Callable[[Any], list[Any]], *, step: int, in_lockstep: bool
) -> tuple[dict[str, float], int]:
    """Totals over all processes, and how many forwards this one runs. Refuses what would hang a split model.

    Args:
        gather: every process's value, on every process.
        step: 1-based, for messages.
        in_lockstep: weights are split (DeepSpeed, FSDP2), so that all processes must run the same layers equally often.

    Raises:
        TrainingError: a process has no rows, or some have images where others have none.
    """
    counts = sum_maps([objective.counts(batch) for batch in micro_batches if not isinstance(batch, Filler)])
    with_images = [has_images(batch) for batch in micro_batches]
    per_rank = gather((counts, with_images))
    lengths = [len(images) for _, images in per_rank]
    if min(lengths) == 0:
        raise TrainingError(
            f"step {step}: rank {lengths.index(0)} of {len(lengths)} has no rows. "
            "Give it a Filler, raise the stage's batch_size to the number of processes, or lower launch.processes."
        )
    padded = {tuple(images + images[-1:] * (max(lengths) - len(images))) for _, images in per_rank}
    if in_lockstep and len(padded) > 1:
        raise TrainingError(
            f"step {step}: some ranks have images where others have only text; a model that is split would hang. "
            "Deal rows with and without images apart (stages/batches.py `deal`), or set launch.zero_stage=-1 and launch.fsdp=false."
        )
    return sum_maps([counts for counts, _ in per_rank]), max(lengths) if in_lockstep else len(micro_batches)
