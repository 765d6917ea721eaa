"""Questions about one scene, with their exact answers, in two styles: a few words, or sentences."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from factory.domains.driving.actions import PATHS, SPEEDS, shown, write_plan
from factory.domains.driving.facts import PHRASES, VALUES, facts
from factory.domains.driving.reasoning import fact_words, fault_words, joined, plan_steps, random_plan
from factory.domains.driving.scenes import Drawn, draw, draw_pair, draw_with
from factory.domains.driving.simulator import evaluate
from factory.domains.driving.waypoints import RATES, rounded, way

ASKED = {
    "speed": "Plan the speed of the next three seconds: one of " + ", ".join(SPEEDS) + ".",
    "path": "Plan the path of the next three seconds: one of " + ", ".join(PATHS) + ".",
    "plan": "Plan the next three seconds: one speed action of " + ", ".join(SPEEDS) + " and one path action of " + ", ".join(PATHS)
    + ", for example `KEEP, LEFT_TURN`.",
    "waypoints": "Plan the next three seconds as six points, every half second, each [metres ahead, metres to the left], as a JSON list.",
}  # fmt: skip
TERSE = {"speed": "speed ?", "path": "path ?", "plan": "plan ?", "waypoints": "way ?"}
MAX_DRAWS = 400


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about a scene. `answer` is the text of a right answer; `reference` is what verifiers compare with."""

    task: str
    text: str
    reference: Any
    answer: str
    steps: str
    """The working that leads to the answer."""
    options: Mapping[str, str] | None = None
    asked: tuple[str, str] | None = None
    """The plan that a `safe` question asks about."""


def pose(task: str, rng: random.Random, style: str, least: float) -> tuple[Drawn, Question]:
    """Draw a scene and a question of this task, so that no answer is much more frequent than another."""
    return _POSERS[task](rng, style, least)


def _planned(task: str):
    def make(rng: random.Random, style: str, least: float) -> tuple[Drawn, Question]:
        drawn = draw(rng, _pair_for(task, rng), least)
        speed, path = drawn.decision.speed, drawn.decision.path
        axes = {"speed": ("speed",), "path": ("path",)}.get(task, ("path", "speed"))
        if task == "speed":
            axes = ("path", "speed") if path != "STRAIGHT" else axes
        reference: Any = {"speed": speed, "path": path, "plan": f"{speed}, {path}"}.get(task)
        answer = {"speed": shown(speed, style), "path": shown(path, style), "plan": write_plan(speed, path, style)}.get(task, "")
        steps = joined(plan_steps(drawn, style, axes), style)
        if task == "waypoints":
            reference = rounded(way(drawn.scene, (speed, path), RATES[style]), style)
            answer = json.dumps(reference)
            steps += (
                f" ; {write_plan(speed, path, style)}" if style == "terse" else f" The plan is {write_plan(speed, path, style)}."
            )
        text = TERSE[task] if style == "terse" else ASKED[task]
        return drawn, Question(task, text, reference, answer, steps)

    return make


def _pair_for(task: str, rng: random.Random) -> tuple[str, str]:
    """Pairs by lot; a path question has each path equally often."""
    if task != "path":
        return draw_pair(rng)
    path = rng.choice(PATHS)
    return rng.choice(SPEEDS if path == "STRAIGHT" else SPEEDS[:3]), path


def _perceive(rng: random.Random, style: str, least: float) -> tuple[Drawn, Question]:
    name = rng.choice(tuple(VALUES))
    value = rng.choice(VALUES[name])
    drawn = draw_with(rng, lambda scene: facts(scene).get(name) == value, least)
    words = rng.sample(VALUES[name], len(VALUES[name]))
    text = f"{name} : {' or '.join(words)} ?"
    if style == "full":
        text = f"Of {PHRASES[name]}: is it {', '.join(words[:-1])} or {words[-1]}? ({_meaning(name)})"
    steps = f"{name} {value}" if style == "terse" else joined(fact_words(drawn.scene, style, (name,)), style) or f"It is {value}."
    return drawn, Question("perceive", text, value, value, steps)


def _meaning(name: str) -> str:
    if name == "junction":
        return "near: it comes within three seconds at this speed; none: there is none"
    if name in ("left", "right"):
        return "free: one can move over; busy: a car is beside or close; none: there is no such lane"
    if name in ("light", "brakes"):
        return "none: there is no light" if name == "light" else "on: it shines brightly"
    return "near: within 12 m; none: there is none"


def _safe(rng: random.Random, style: str, least: float) -> tuple[Drawn, Question]:
    """Whether a plan ends well within three seconds; half of them do."""
    wanted = rng.random() < 0.5
    for _ in range(MAX_DRAWS):
        drawn = draw(rng, None, least)
        plan = random_plan(rng, drawn)
        outcome = evaluate(drawn.scene, *plan)
        if outcome.is_safe == wanted:
            break
    else:
        raise AssertionError(f"no plan that is {'safe' if wanted else 'unsafe'} in {MAX_DRAWS} draws")
    named, answer = write_plan(*plan, style), "yes" if wanted else "no"
    text = f"{named}\nsafe ?" if style == "terse" else f"Is the plan `{named}` safe for the next three seconds? Answer yes or no."
    steps = joined([*plan_steps(drawn, style), fault_words(outcome, style)], style)
    return drawn, Question("safe", text, answer, answer, steps, asked=plan)


def _choice(rng: random.Random, style: str, least: float) -> tuple[Drawn, Question]:
    """Which of four plans, under letters."""
    drawn = draw(rng, None, least)
    right = (drawn.decision.speed, drawn.decision.path)
    others = [(speed, path) for speed in SPEEDS for path in PATHS if (speed, path) != right]
    texts = [write_plan(*pair, style) for pair in (right, *rng.sample(others, 3))]
    order = rng.sample(texts, 4)
    options = dict(zip(string.ascii_uppercase, order, strict=False))
    letter = next(key for key, text in options.items() if text == texts[0])
    mark = "" if style == "terse" else "."
    stem = "plan ?" if style == "terse" else "Which plan fits the next three seconds?"
    lines = "\n".join(f"{key}{mark} {text}" for key, text in options.items())
    steps = joined([*plan_steps(drawn, style), *([texts[0]] if style == "terse" else [])], style)
    return drawn, Question("choice", f"{stem}\n{lines}", letter, letter, steps, options)


_POSERS = {
    **{task: _planned(task) for task in ("speed", "path", "plan", "waypoints")},
    "perceive": _perceive, "safe": _safe, "choice": _choice,
}  # fmt: skip
TASKS = tuple(_POSERS)
