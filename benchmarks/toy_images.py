"""The seeded image task of `benchmarks/techniques.py`: the colours of four squares, asked for in every form that a preset wants.

An image is 2 x 2 squares of 32 px, each in one of four colours; a question names a square or a colour. Answers are exact, and
no image of a held-out question is ever trained on. Lessons show every form (tags, captions, boxes, two passes, a zoom, the
answer alone), and one in four reads a square wrong: what is left is what RL can add. `VERIFIERS` is importable by name.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

from factory.contracts import IMAGE, DataRequest, Lesson, Manifest, Media, Message, Sample
from factory.rewards.verifiers import ClosedAnswer

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220), "white": (235, 235, 235)}
PLACES = {"top left": (0, 0), "top right": (32, 0), "bottom left": (0, 32), "bottom right": (32, 32)}
SIDE_PX = 32
TASKS = ("which", "count")
FORMS = ("pack", "two_pass", "caption_reason_answer", "satori", "observe", "no_thinking", "zoom")
"""`format` pieces that the lessons show."""
SLIPS = 0.25
"""Share of lessons in which one square is read wrong."""
VERIFIERS = {"exact": ClosedAnswer(name="exact")}

Squares = tuple[str, str, str, str]
"""Colours in the order of `PLACES`."""


def is_held_out(squares: Squares) -> bool:
    """A fifth of all images."""
    return hashlib.sha256(" ".join(squares).encode()).digest()[0] < 51


@cache
def picture(squares: Squares) -> Media:
    """64 x 64 px, PNG."""
    from PIL import Image

    image = Image.new("RGB", (2 * SIDE_PX, 2 * SIDE_PX))
    for colour, (x, y) in zip(squares, PLACES.values(), strict=True):
        image.paste(COLOURS[colour], (x, y, x + SIDE_PX, y + SIDE_PX))
    return _png(image)


@cache
def part(colour: str) -> Media:
    """What a zoom on one square shows."""
    from PIL import Image

    return _png(Image.new("RGB", (SIDE_PX, SIDE_PX), COLOURS[colour]))


def _png(image: Any) -> Media:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return Media(data=buffer.getvalue())


def answer(task: str, asked: str, squares: Squares) -> str:
    """The colour of the place, or how many squares have the colour."""
    return squares[list(PLACES).index(asked)] if task == "which" else str(squares.count(asked))


def box(asked: str) -> list[int]:
    """[x1, y1, x2, y2] of what the question is about, px: the named square, or the whole image."""
    x, y = PLACES.get(asked, (0, 0))
    side = SIDE_PX if asked in PLACES else 2 * SIDE_PX
    return [x, y, x + side, y + side]


def question(task: str, asked: str, squares: Squares, split: str) -> Sample:
    """One question; `meta` has what the SATORI reward compares with, and a difficulty."""
    words = f"which colour is {asked}" if task == "which" else f"how many are {asked}"
    return Sample(
        id=f"{asked}-{'-'.join(squares)}", task=task, messages=(Message("user", f"{IMAGE} {words}"),), split=split, source=task,
        reference=answer(task, asked, squares), media=(picture(squares),),
        meta={"caption": " ".join(squares), "boxes": [box(asked)], "difficulty": float(task == "count")},
    )  # fmt: skip


def questions(split: str, seed: int) -> Iterator[tuple[str, str, Squares]]:
    """Endless (task, what is asked for, squares) of a split."""
    rng = random.Random(f"{seed}-{split}")
    while True:
        squares: Squares = tuple(rng.choice(list(COLOURS)) for _ in PLACES)  # type: ignore[assignment]
        task = rng.choice(TASKS)
        asked = rng.choice(list(PLACES if task == "which" else COLOURS))
        if is_held_out(squares) == (split != "train"):
            yield task, asked, squares


def samples(split: str = "train", seed: int = 0, request: DataRequest | None = None) -> list[Sample]:
    """`request.limit` different questions, 256 without one."""
    limit = (request.limit if request else None) or 256
    found: dict[str, Sample] = {}
    for one in questions(split, seed):
        sample = question(*one, split)
        found.setdefault(sample.id, sample)
        if len(found) == limit:
            break
    return list(found.values())


def responses(task: str, asked: str, seen: Squares, first: Squares) -> dict[str, str]:
    """What a lesson answers, by form, when the squares are read as `seen` (and as `first` in a first pass)."""
    look, said = " ".join(seen), answer(task, asked, seen)
    think, close = f"<think>{look}</think>", f"<answer>{said}</answer>"
    verdict = "right" if first == seen else "wrong"
    return {
        "pack": think + close,
        "two_pass": f"<think>{' '.join(first)}</think><answer>{answer(task, asked, first)}</answer>"
        f"<reflection>{verdict}</reflection>{think}{close}",
        "caption_reason_answer": f"<info>{look}</info><think>{asked}</think>{close}",
        "satori": f"<caption>{look}</caption><bbox>{box(asked)}</bbox>{close}",
        "observe": f"<observe>{look}</observe><think>{asked}</think>{close}",
        "no_thinking": said,
        "zoom": think + close,
    }


def lessons(split: str = "train", seed: int = 0, request: DataRequest | None = None) -> list[Lesson]:
    """Questions in all forms by turns, each as the form's own instruction puts it; see `SLIPS`."""
    rng = random.Random(f"{seed}-{split}-slips")
    limit = (request.limit if request else None) or 256
    found: list[Lesson] = []
    for (task, asked, squares), form in zip(questions(split, seed), itertools.cycle(FORMS)):
        sample = question(task, asked, squares, split)
        seen, first = (_misread(squares, rng) if rng.random() < SLIPS else squares for _ in range(2))
        sample = replace(_rendered(sample, form), id=f"{sample.id}-{form}-{len(found)}")
        found.append(Lesson(sample, responses(task, asked, seen, first)[form]))
        if form == "zoom":
            found[-1:] = _zoomed(found[-1], asked, squares)
        if form == "caption_reason_answer":
            found.append(_from_caption(sample, asked, seen, found[-1]))
        if len(found) >= limit:
            break
    return found[:limit]


def _misread(squares: Squares, rng: random.Random) -> Squares:
    place, colour = rng.randrange(len(squares)), rng.choice(list(COLOURS))
    return (*squares[:place], colour, *squares[place + 1 :])  # type: ignore[return-value]


def _rendered(sample: Sample, form: str) -> Sample:
    from factory.stages.rl.pieces.catalogue import make

    return make("format", form, {}).render(sample)


def _zoomed(lesson: Lesson, asked: str, squares: Squares) -> list[Lesson]:
    """The call, and the turn after the part was shown."""
    call = f"<think>look</think><zoom>{json.dumps({'bbox': box(asked)})}</zoom>"
    sample = lesson.sample
    shown = part(squares[list(PLACES).index(asked)]) if asked in PLACES else sample.media[0]
    turns = (Message("assistant", call), Message("user", f"The part that you asked for: {IMAGE}"))
    after = replace(sample, id=f"{sample.id}-after", messages=(*sample.messages, *turns), media=(*sample.media, shown))
    return [Lesson(sample, call), Lesson(after, lesson.response)]


def _from_caption(sample: Sample, asked: str, seen: Squares, lesson: Lesson) -> Lesson:
    """The same question with the caption in place of the image: what the caption reward asks."""
    from factory.stages.rl.pieces.caption import without_images

    told = replace(sample, id=f"{sample.id}-told", messages=without_images(sample, " ".join(seen)), media=())
    return Lesson(told, f"<think>{asked}</think>{lesson.response[lesson.response.index('<answer>') :]}")


def texts() -> list[str]:
    """What the tokenizer is trained on: every form's prompt and answer."""
    rows = [f"{lesson.sample.text()} {lesson.response}" for lesson in lessons(request=DataRequest(limit=300))]
    return [*rows, *(f"{' '.join(COLOURS)} {place} {number}" for place in PLACES for number in range(5))]


def images() -> list[Media]:
    """What the pixel statistics are measured on."""
    return [sample.media[0] for sample in samples()]


def pack() -> Any:
    """A DomainPack in the parts that training touches."""
    mix: Mapping[str, Any] = {"verifiers": {"exact": 1.0}, "gate": None}
    manifest = Manifest(
        name="toy_images", title="Toy images", version="1", license="Apache-2.0", intended_use="benchmarks", modality="vl",
        not_for="anything else", tasks={task: {**mix, "title": task} for task in TASKS}, provides=("samples", "lessons"),
    )  # fmt: skip
    return SimpleNamespace(manifest=manifest, samples=samples, lessons=lessons, verifiers=lambda: VERIFIERS)
