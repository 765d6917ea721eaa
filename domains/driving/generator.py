"""The download-free data: documents, lessons and samples, each a pure function of (role, split, seed, index)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from factory.contracts import IMAGE, DataRequest, Document, Lesson, Media, Message, Sample
from factory.domains.driving.describe import describe, given
from factory.domains.driving.loaders import LOADER
from factory.domains.driving.options import TASKS, Options
from factory.domains.driving.paint import SIDE
from factory.domains.driving.questions import Question, pose
from factory.domains.driving.reasoning import caption
from factory.domains.driving.scene import Scene
from factory.domains.driving.scenes import draw
from factory.domains.driving.textbook import textbook
from factory.packs.generated import indices, stream, system_prompt
from factory.packs.settings import read_settings

SOURCE = "driving-simulator"
SIZES = {"corpus": 5000, "lessons": 400, "samples": 2000}
"""Items per split when the request sets no limit."""


def read_options(raw: Any) -> Options:
    """Check `pack.*`. Raises ConfigError for an unknown key (with a near miss) or a value out of range."""
    return read_settings(Options, raw, pack="driving", also=LOADER.keys)


def documents(split: str, seed: int, request: DataRequest) -> Iterator[Document]:
    """Scenes with what one sees, the plan with its working or what a plan leads to; and a share of exercises in text."""
    options = read_options(request.options)
    for index in indices("corpus", split, request, SIZES):
        rng, key = stream("driving", "corpus", split, seed, index)
        if rng.random() < options.textbook:
            yield Document(key, textbook(rng, options.style), (), split, SOURCE)
            continue
        drawn = draw(rng, None, options.clearance)
        text = caption(rng, drawn, options.style)
        media, shown = _seen(rng, drawn.scene, options)
        yield Document(key, f"{shown}\n{text}", media, split, SOURCE)


def lessons(split: str, seed: int, request: DataRequest) -> Iterator[Lesson]:
    """Questions with worked responses. Their scenes are not those of `samples`."""
    options = read_options(request.options)
    for index in indices("lessons", split, request, SIZES):
        sample, question = _sample("lessons", split, seed, index, options)
        if options.swapped_lessons:
            _, question = _sample("swapped", split, seed, index, replace(options, shares={sample.task: 1.0}))
        answer = f"<answer>{question.answer}</answer>"
        yield Lesson(sample, answer if options.thinking == "off" else f"<think>{question.steps}</think>{answer}")


def samples(split: str, seed: int, request: DataRequest) -> Iterator[Sample]:
    """Questions with their references, for reinforcement learning and for evaluation."""
    options = read_options(request.options)
    for index in indices("samples", split, request, SIZES):
        yield _sample("samples", split, seed, index, options)[0]


def _sample(role: str, split: str, seed: int, index: int, options: Options) -> tuple[Sample, Question]:
    rng, key = stream("driving", role, split, seed, index)
    task = rng.choices(TASKS, [options.shares.get(name, 0.0) for name in TASKS])[0]
    drawn, question = pose(task, rng, options.style, options.clearance)
    media, shown = _seen(rng, drawn.scene, options)
    meta: dict[str, Any] = {
        "difficulty": drawn.difficulty, "thinking": options.thinking, "scene": drawn.scene.to_json(),
        "actions": [drawn.decision.speed, drawn.decision.path],
    }  # fmt: skip
    if media:
        meta |= {"width": SIDE, "height": SIDE}
    if question.options:
        meta["options"] = dict(question.options)
    if question.asked:
        meta["asked"] = list(question.asked)
    turns = [Message("user", "\n".join([shown, given(drawn.scene, options.style), question.text]))]
    system = turn_of_system(options.system, options.thinking)
    if system:
        turns.insert(0, Message("system", system))
    return Sample(key, task, tuple(turns), question.reference, media, meta, split, SOURCE), question


def _seen(rng: random.Random, scene: Scene, options: Options) -> tuple[tuple[Media, ...], str]:
    """The picture and its placeholder, or nothing and the scene in words."""
    view = rng.choice(("front", "top")) if options.view == "mixed" else options.view
    if view == "text":
        return (), describe(scene, options.style)
    return (Media(data=drawing(scene, view)),), IMAGE


def drawing(scene: Scene, view: str) -> bytes:
    """PNG bytes of the scene from `front` or `top`."""
    if view == "front":
        from factory.domains.driving.front_view import front_view

        return front_view(scene)
    from factory.domains.driving.top_view import top_view

    return top_view(scene)


def turn_of_system(name: str, thinking: str) -> str:
    """Text of the system turn; empty for `none`."""
    return "" if name == "none" else system_prompt(Path(__file__).parent / "prompts", name, thinking=thinking)
