"""Which items a step trains on, which of them this rank takes, and their encoding, done once.

Everything is a pure function of (seed, step): a resumed run meets the same items in the same order.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from factory.errors import DataError, TrainingError

Item = TypeVar("Item")
Coded = TypeVar("Coded", bound="HasBytes")


class HasBytes(Protocol):
    """Something that tells how much memory it takes."""

    @property
    def num_bytes(self) -> int:
        """Bytes."""
        ...


def num_steps(num_items: int, epochs: int, batch_size: int) -> int:
    """Optimiser steps of `epochs` passes: ceil(num_items * epochs / batch_size); the last batch may be smaller."""
    return -(-num_items * epochs // batch_size)


class DataOrder:
    """Batches of indices: every epoch is a permutation drawn from (seed, epoch), batches run over epoch borders.

    It is a `Stateful` piece only to notice that a checkpoint belongs to other data: the position is the step itself.

    Raises:
        DataError: nothing to train on.
    """

    def __init__(self, num_items: int, epochs: int, batch_size: int, seed: int) -> None:
        if num_items < 1 or epochs < 1 or batch_size < 1:
            raise DataError(
                f"nothing to train on: {num_items} items, {epochs} epochs, batch_size {batch_size}; each must be 1 or more. "
                "Check the data paths and the stage's counts."
            )
        self._num_items, self._epochs, self._batch_size, self._seed = num_items, epochs, batch_size, seed
        self.num_steps = num_steps(num_items, epochs, batch_size)
        self._permutations: dict[int, array[int]] = {}

    def indices(self, step: int) -> list[int]:
        """Items of the step (0-based), the whole global batch."""
        start = step * self._batch_size
        end = min(start + self._batch_size, self._num_items * self._epochs)
        found: list[int] = []
        while start < end:
            epoch, place = divmod(start, self._num_items)
            part = self._permutation(epoch)[place : place + end - start]
            found.extend(part)
            start += len(part)
        return found

    def _permutation(self, epoch: int) -> array[int]:
        if epoch not in self._permutations:
            order = array("l", range(self._num_items))
            random.Random(f"data-order-{self._seed}-{epoch}").shuffle(order)
            # A batch touches few epochs: keep this one and the one before.
            self._permutations = {k: v for k, v in self._permutations.items() if k == epoch - 1} | {epoch: order}
        return self._permutations[epoch]

    def state_dict(self) -> Mapping[str, Any]:
        """What fixes the order."""
        return {"num_items": self._num_items, "epochs": self._epochs, "batch_size": self._batch_size, "seed": self._seed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises TrainingError when the checkpoint was made with another order."""
        own = self.state_dict()
        changed = [f"{key} {state.get(key)} -> {own[key]}" for key in own if state.get(key) != own[key]]
        if changed:
            raise TrainingError(
                f"the checkpoint was made with other data or settings ({', '.join(changed)}). "
                "Put them back to resume, or delete the stage's checkpoints folder to train from its start."
            )


def share_of(items: Sequence[Item], rank: int, world_size: int) -> list[Item]:
    """This rank's items of a global batch: every `world_size`-th, so that the shares differ by one item at most."""
    return list(items[rank::world_size])


def longest_first(items: Sequence[Item], world_size: int, length: Callable[[Item], int]) -> list[Item]:
    """In an order whose `share_of`s are about equally long: by length, every second round of `world_size` items the other way round.

    What the ranks run at the same time is of like length too, so that sharded ranks wait little for each other.
    """
    found = sorted(items, key=lambda item: -length(item))
    for start in range(world_size, len(found) - world_size + 1, 2 * world_size):
        found[start : start + world_size] = reversed(found[start : start + world_size])
    return found


def micro_batches(items: Sequence[Item], micro_batch_size: int) -> list[list[Item]]:
    """Consecutive parts of at most `micro_batch_size` items; 0 means all at once. No items, no parts."""
    size = micro_batch_size or max(1, len(items))
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def deal(
    items: Sequence[Item], rank: int, world_size: int, micro_batch_size: int, *, length: Callable[[Item], int] | None = None
) -> list[tuple[list[Item], bool]]:
    """This rank's micro-batches of a global batch as (items, is_filler); every rank gets equally many.

    With `length`, the longest come first (`longest_first`): the shares of two ranks differ by at most the longest item, and a
    micro-batch holds items of like length, so little of it is padding. A batch that is neither dealt nor cut keeps its order.

    A rank that has one fewer gets the first item again as a filler, to be run with weight 0, because sharded ranks must
    march in step. Deal rows with images and rows without apart, so that the ranks also agree on which parts of the model run.
    """
    if length is not None and (world_size > 1 or 0 < micro_batch_size < len(items)):
        items = longest_first(items, world_size, length)
    parts = micro_batches(share_of(items, rank, world_size), micro_batch_size)
    num_parts = len(micro_batches(share_of(items, 0, world_size), micro_batch_size))
    return [(part, False) for part in parts] + [(list(items[:1]), True)] * (num_parts - len(parts))


class LazyEncoded(Generic[Item, Coded]):
    """Items encoded when asked for. What fits into `cache_bytes` is kept and encoded once; the rest, each time it is asked for.

    What came first stays: every epoch asks for every item once, so throwing the oldest out would keep what is asked for last.

    Args:
        items: what to encode.
        encode: item -> encoded; called in the training process.
        cache_bytes: how many bytes of encoded items to keep, by their `num_bytes`.
    """

    def __init__(self, items: Sequence[Item], encode: Callable[[Item], Coded], cache_bytes: int) -> None:
        self._items, self._encode, self._room = items, encode, cache_bytes
        self._cache: dict[int, Coded] = {}

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Coded:
        if index in self._cache:
            return self._cache[index]
        coded = self._encode(self._items[index])
        if coded.num_bytes <= self._room:
            self._room -= coded.num_bytes
            self._cache[index] = coded
        return coded


def cache_bytes(cache_mb: int, epochs: int) -> int:
    """Bytes of encoded items to keep: none when each is asked for once."""
    return cache_mb * 2**20 if epochs > 1 else 0
