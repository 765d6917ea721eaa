"""Proof before training that nothing held out is trained on. The rules of what counts as equal are in `factory.data.splits`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from factory.contracts import DataRequest, Document, DomainPack, Lesson, Sample
from factory.data.splits import find_overlap
from factory.stages.lesson_files import read_samples

GENERATED = 1024
"""Training items of each sort drawn from a pack's generator: a spot check beside the conformance kit's.
The user's own data is checked whole."""


def check_overlap(
    pack: DomainPack, request: DataRequest, *, seed: int, eval_settings: Mapping[str, Any], files: Sequence[Path] = ()
) -> dict[str, int]:
    """Compare training data with validation and test, and validation with test.

    Args:
        seed: of the training data.
        eval_settings: the build's `eval` section (samples, validation_samples, seed).
        files: lessons.jsonl or pairs.jsonl files of other builds that stages train on; checked whole.

    Returns:
        How many items of each sort were compared.

    Raises:
        DataError: an item is on both sides, by id, group, image, or (without image) normalised text.
    """
    counts = {"train": 0}
    held_out: dict[str, list[Sample]] = {}
    for split, limit in (("test", eval_settings["samples"]), ("validation", eval_settings["validation_samples"])):
        held_out[split] = list(pack.samples(split, eval_settings["seed"], replace(request, limit=limit)))
        counts[split] = len(held_out[split])
    find_overlap(held_out["validation"], held_out["test"])
    train = chain(training_items(pack, request, seed), *map(read_samples, files))
    find_overlap(_counted(train, counts), chain(held_out["test"], held_out["validation"]))
    return counts


def training_items(pack: DomainPack, request: DataRequest, seed: int) -> Iterator[Sample | Lesson | Document]:
    """Everything of the training split that the pack provides: the user's data whole, GENERATED items of each sort otherwise."""
    asked = request if request.paths else replace(request, limit=GENERATED)
    for sort in held_sorts(pack, request):
        yield from getattr(pack, sort)("train", seed, asked)


def held_sorts(pack: DomainPack, request: DataRequest) -> tuple[str, ...]:
    """Which of corpus, lessons and samples there are to draw.

    A pack that reads the user's files may say by `gives(request)` which sorts they hold; asking for another is an error there.
    """
    gives = getattr(pack, "gives", None)
    held = gives(request) if gives else pack.manifest.provides
    return tuple(sort for sort in ("corpus", "lessons", "samples") if sort in held)


def _counted(items: Iterator[Any], counts: dict[str, int]) -> Iterator[Any]:
    for item in items:
        counts["train"] += 1
        yield item
