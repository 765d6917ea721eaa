"""Which of a pack's samples a stage uses: by task, and by whether they have images. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from factory.contracts import Sample
from factory.errors import ConfigError, DataError, near_miss
from factory.rewards.routing import row_of

Item = TypeVar("Item")

MEDIA = ("any", "text", "images")
"""All samples, those without images, those with."""

MOST_ROUNDS = 4
"""A generator is asked for up to 2^4 times the wanted number before the stage takes what there is."""


def check_only(where: str, tasks: Sequence[str], media: str, known: Mapping[str, Any], modality: str = "vl") -> None:
    """Raises ConfigError for a task that the pack does not have, another word for media, or images for a base without eyes.

    Args:
        modality: of the base model, as in `ModelFacts`.
    """
    for task in tasks:
        # A task of a pattern of the pack, or a pattern over its tasks, will do as well.
        if row_of(known, task) is None and not any(row_of({task: True}, one) for one in known):
            raise ConfigError(f"{where}.tasks: the pack has no task '{task}'.{near_miss(task, known)} Tasks: {', '.join(known)}.")
    if media not in MEDIA:
        raise ConfigError(f"{where}.media={media!r} is not known.{near_miss(media, MEDIA)} Choose one of: {', '.join(MEDIA)}.")
    if media == "images" and modality != "vl":
        raise ConfigError(
            f"{where}.media=images: the base model reads no images. Name one that does (--base), or leave the stage out ({where}=null)."
        )


def only(
    fetch: Callable[[int], Iterable[Item]], limit: int, tasks: Sequence[str], media: str, sample_of: Callable[[Item], Sample]
) -> list[Item]:
    """The first `limit` items whose sample fits, asking for more where some do not.

    Args:
        fetch: number -> that many items from the start (fewer when the source has no more); a longer answer begins like a
            shorter one.

    Raises:
        DataError: not one item fits.
    """
    if not tasks and media == "any":
        return list(fetch(limit))[:limit]
    asked, fitting = limit, list[Item]()
    for _ in range(MOST_ROUNDS + 1):
        items = list(fetch(asked))
        fitting = [item for item in items if _fits(sample_of(item), tasks, media)]
        if len(fitting) >= limit or len(items) < asked:
            break
        asked *= 2
    if not fitting:
        raise DataError(
            f"none of {asked} samples fits tasks={list(tasks) or 'any'} and media={media}. Loosen them, or use a pack that has such samples."
        )
    return fitting[:limit]


def _fits(sample: Sample, tasks: Sequence[str], media: str) -> bool:
    return (not tasks or row_of(dict.fromkeys(tasks, True), sample.task) is not None) and (
        media == "any" or bool(sample.media) == (media == "images")
    )
