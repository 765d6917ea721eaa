"""Preference pairs as batches: encoded once, dealt to the processes, both responses of a pair in the same micro-batch.

Shape letters: P = pairs, B = 2 P rows (the P chosen responses first, then the P rejected), T = tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from factory.contracts import Pair, Sample
from factory.errors import DataError
from factory.stages.batches import LazyEncoded, deal
from factory.stages.objectives import Filler
from factory.stages.packing import cut

if TYPE_CHECKING:
    from torch import Tensor

    from factory.stages.learner import Learner
    from factory.stages.models.codec import Encoded

Encode = Callable[[Sample, str], "Encoded"]
"""(sample, response) -> one row of tokens."""


@dataclass(eq=False)
class EncodedPair:
    """Both responses of a pair, ready to be padded."""

    chosen: Encoded
    rejected: Encoded
    num_cut: int
    """How many of the two were longer than the limit."""

    @property
    def num_bytes(self) -> int:
        """Bytes of memory; the tensors of their images once."""
        return self.chosen.num_bytes + replace(self.rejected, pixels=None, grid=None).num_bytes


def encode_pair(pair: Pair, encode: Encode, max_length: int) -> EncodedPair:
    """Both responses as rows of at most `max_length` tokens, ends cut off; they share the tensors of their images.

    Raises:
        DataError: an image would be cut, an image cannot be read, or the prompt alone fills `max_length`.
    """
    rows = [encode(pair.sample, response) for response in (pair.chosen, pair.rejected)]
    chosen, rejected = (_shorten(row, max_length, pair.sample.id) for row in rows)
    num_cut = sum(len(row.ids) > max_length for row in rows)
    return EncodedPair(chosen, replace(rejected, pixels=chosen.pixels, grid=chosen.grid), num_cut)


def _shorten(row: Encoded, max_length: int, sample_id: str) -> Encoded:
    try:
        short = cut(row, max_length)
    except DataError as err:
        raise DataError(f"pair of sample {sample_id}: {err}") from err
    if not any(short.loss_mask):
        raise DataError(
            f"pair of sample {sample_id}: its prompt alone fills max_length={max_length}, so nothing of the response is left. "
            "Raise the stage's max_length or shorten the prompt."
        )
    return short


def pairs_per_forward(micro_batch_size: int) -> int:
    """Pairs in one forward. A pair is two rows, so half of `optim.micro_batch_size`, at least one; 0 stays 0 (no limit)."""
    return max(1, micro_batch_size // 2) if micro_batch_size else 0


def characters(pair: Pair) -> int:
    """Length of the longer row: both are padded to it."""
    return len(pair.sample.text()) + max(len(pair.chosen), len(pair.rejected))


class PairBatches:
    """The pairs of a stage as micro-batches of this process.

    Args:
        pairs: what to train on or to measure.
        encode: (sample, response) -> row.
        max_length: tokens of prompt and response together.
        cache_mb: MiB of encoded pairs kept in memory.
    """

    def __init__(self, pairs: Sequence[Pair], learner: Learner, encode: Encode, *, max_length: int, cache_mb: int) -> None:
        self.pairs, self._learner = pairs, learner
        self._encoded = LazyEncoded(pairs, lambda pair: encode_pair(pair, encode, max_length), cache_mb * 2**20)

    def __len__(self) -> int:
        return len(self.pairs)

    def deal(self, indices: Sequence[int]) -> list[tuple[list[int], bool]]:
        """This rank's micro-batches of a global batch as (indices, is_filler); pairs with and without images apart."""
        learner, pairs = self._learner, self.pairs
        kinds = ([i for i in indices if not pairs[i].sample.media], [i for i in indices if pairs[i].sample.media])
        size = pairs_per_forward(learner.optim.micro_batch_size)
        dealing = (learner.rank, learner.world_size, size)
        return [dealt for kind in kinds for dealt in deal(kind, *dealing, length=lambda i: characters(pairs[i]))]

    def collate(
        self, part: Sequence[int], columns: Callable[[Sequence[int]], dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor]:
        """Padded batch of 2 P rows, with further columns of the pairs (`columns(part)`) beside the model's inputs."""
        return self._padded([self._encoded[i] for i in part]) | (columns(part) if columns else {})

    def _padded(self, coded: Sequence[EncodedPair]) -> dict[str, Tensor]:
        rows = [pair.chosen for pair in coded] + [pair.rejected for pair in coded]
        return self._learner.loaded.codec.collate(rows, device=self._learner.device)

    def step(
        self, indices: Sequence[int], columns: Callable[[Sequence[int]], dict[str, Tensor]] | None = None
    ) -> tuple[list[Any], int]:
        """(micro-batches of this rank, how many responses of the whole global batch were cut)."""
        batches: list[Any] = []
        num_cut = 0
        for part, is_filler in self.deal(indices):
            coded = [self._encoded[i] for i in part]
            batch = self._padded(coded) | (columns(part) if columns else {})
            batches.append(Filler(batch) if is_filler else batch)
            num_cut += 0 if is_filler else sum(pair.num_cut for pair in coded)
        return batches, sum(self._learner.gather(num_cut))

    def measure(self, forward: Callable[[dict[str, Tensor]], Tensor], pairs_per_round: int) -> list[tuple[float, float]]:
        """(value of the chosen, value of the rejected) of every pair, on every rank; no gradient, eval mode.

        Args:
            forward: batch -> [B] float32.
            pairs_per_round: pairs dealt to all ranks together; bounds the memory when there is no micro-batch size.
        """
        import torch

        learner, own = self._learner, {}
        was_training = learner.model.training
        learner.model.eval()
        with torch.no_grad(), learner.autocast():
            for start in range(0, len(self), pairs_per_round):
                for part, is_filler in self.deal(range(start, min(start + pairs_per_round, len(self)))):
                    # Fillers run too: sharded ranks must march in step.
                    chosen, rejected = forward(self.collate(part)).float().cpu().chunk(2)
                    if not is_filler:
                        own.update(zip(part, zip(chosen.tolist(), rejected.tolist(), strict=True), strict=True))
        learner.model.train(was_training)
        found = {index: values for share in learner.gather(own) for index, values in share.items()}
        return [found[index] for index in range(len(self))]
