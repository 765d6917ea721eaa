"""The download-free data: documents, lessons and samples, each a pure function of (role, split, seed, index)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import fields

from factory.contracts import IMAGE, DataRequest, Document, Lesson, Sample
from factory.domains.timeseries.options import Options
from factory.domains.timeseries.questions import Item, pose, respond
from factory.domains.timeseries.showing import about, form_of, messages, picture, user_text
from factory.domains.timeseries.written import written
from factory.packs.generated import indices, stream
from factory.packs.settings import read_settings

PACK, SOURCE = "timeseries", "timeseries-synthetic"
SIZES = {"corpus": 6000, "lessons": 400, "samples": 2000}
"""Items per split when the request sets no limit."""


def read_options(request: DataRequest) -> Options:
    """`pack.*` of a build without data paths. Raises ConfigError for an unknown key or a value out of range."""
    from factory.domains.timeseries.loaders_records import SeriesSettings

    return read_settings(Options, request.options, pack=PACK, also=(item.name for item in fields(SeriesSettings)))


def documents(split: str, seed: int, request: DataRequest) -> Iterator[Document]:
    """Captioned series. Tasks are drawn as for samples, so that all that is asked is also told."""
    options = read_options(request)
    for index in indices("corpus", split, request, SIZES):
        rng, key = stream(PACK, "corpus", split, seed, index)
        item = _item(rng, options)
        yield document(item, key, split, options)


def document(item: Item, key: str, split: str, options: Options) -> Document:
    """The item's series with its caption."""
    if options.mode == "text":
        return Document(key, f"{written(item.series, options.points)}\n{item.caption}", (), split, SOURCE)
    media = picture(item.series, options, view=item.view, title=item.title)
    return Document(key, f"{IMAGE}\n{item.caption}", (media,), split, SOURCE)


def lessons(split: str, seed: int, request: DataRequest) -> Iterator[Lesson]:
    """Questions with worked reasoning. Their series are not those of `samples`."""
    options = read_options(request)
    for index in indices("lessons", split, request, SIZES):
        rng, key = stream(PACK, "lessons", split, seed, index)
        item = _item(rng, options)
        yield Lesson(
            sample_of(item, key, split, options),
            respond(item, thinking=options.thinking, form=form_of(options, item.task)),
        )


def samples(split: str, seed: int, request: DataRequest) -> Iterator[Sample]:
    """Questions with their references, for reinforcement learning and for evaluation."""
    options = read_options(request)
    for index in indices("samples", split, request, SIZES):
        rng, key = stream(PACK, "samples", split, seed, index)
        yield sample_of(_item(rng, options), key, split, options)


def _item(rng: random.Random, options: Options) -> Item:
    task = rng.choices(list(options.shares), list(options.shares.values()))[0]
    return pose(task, rng, options)


def sample_of(item: Item, key: str, split: str, options: Options) -> Sample:
    """The item as a sample, drawn or written as the options say."""
    text = user_text(item.series, options, item.text)
    media = (picture(item.series, options, view=item.view, title=item.title),) if options.mode == "image" else ()
    meta = {**item.meta, **about(item.series, options, task=item.task), "difficulty": item.difficulty}
    if item.extension:
        meta["extension"] = item.extension
    return Sample(key, item.task, messages(text, options, item.task), item.reference, media, meta, split, SOURCE)
