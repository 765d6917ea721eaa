"""The working of an answer: the facts that decide it, in a fixed order, then what follows. Captions use the same words."""

from __future__ import annotations

import random

from factory.domains.driving.actions import PATHS, SPEEDS, shown, write_plan
from factory.domains.driving.describe import given
from factory.domains.driving.facts import PHRASES, VALUES, distance_word, facts, pace
from factory.domains.driving.rules import Decision
from factory.domains.driving.scene import SIDES, Scene
from factory.domains.driving.scenes import Drawn
from factory.domains.driving.simulator import Outcome, evaluate

FAULTS = {
    "clean": "nothing is hit, no red line is crossed, and the car stays on the road",
    "hits": "the car hits something within three seconds",
    "runs": "the car crosses the stop line at red",
    "leaves": "the car leaves the road",
    "tight": "the car comes within a second of hitting something",
}
"""Word of `Outcome.fault` -> what it means."""


def fact_words(scene: Scene, style: str, names: tuple[str, ...] = tuple(VALUES)) -> list[str]:
    """The facts that are there (`lead near`, `brakes on`), as `style` writes them; what is absent is not mentioned."""
    found = facts(scene)
    kept = [(name, found[name]) for name in names if found.get(name, "none") not in ("none", "off")]
    if style == "terse":
        return [
            f"{name} {value}" + (f" {distance_word(scene.line)}" if (name, value) == ("light", "red") else "")
            for name, value in kept
        ]
    return [_sentence(scene, name, value) for name, value in kept]


def _sentence(scene: Scene, name: str, value: str) -> str:
    if name == "light":
        return f"The traffic light is {value}" + (f", its line {distance_word(scene.line)}." if value == "red" else ".")
    if name == "brakes":
        return "Its brake lights are on: it is slower than we are."
    if name in SIDES:
        return f"The lane to our {name} is {value}."
    if name == "junction":
        return "The junction comes within three seconds." if value == "near" else "The junction is more than three seconds away."
    return f"{PHRASES[name].capitalize()} is {value}."


def pace_words(scene: Scene, style: str) -> str:
    """Our speed against the limit."""
    if style == "terse":
        return f"pace {pace(scene)}"
    return {"under": "We are under the limit.", "at": "We are at the limit.", "over": "We are over the limit."}[pace(scene)]


def path_steps(scene: Scene, decision: Decision, style: str) -> list[str]:
    """What decides the path: a line to hold at, or the command, the junction and the lane it asks for."""
    if scene.hold is not None:
        seen = fact_words(scene, style, ("light", "walker"))
        return [*seen, "hold" if style == "terse" else "So we stay in our lane and hold at the line."]
    command = f"cmd {scene.command}" if style == "terse" else f"The command is {scene.command}."
    names = () if scene.command == "straight" else ("junction", scene.command)
    if decision.path.endswith("TURN"):
        names = ("junction",)
    if scene.barrier is not None:
        names = ("barrier", *names, *SIDES)
    seen = fact_words(scene, style, tuple(dict.fromkeys(names)))
    asked = names[-1] if names and names[-1] in SIDES else ""
    if asked and scene.lane(asked) is None and not decision.path.endswith("CHANGE"):
        seen.append(f"{asked} none" if style == "terse" else f"There is no lane to our {asked}.")
    return [command, *seen]


def speed_steps(scene: Scene, decision: Decision, style: str) -> list[str]:
    """What decides the speed: the limit, then what is ahead on our path."""
    names = ("light", "walker", "lead", "brakes", "barrier")
    if decision.path.endswith("CHANGE"):
        names = ()
    return [pace_words(scene, style), *fact_words(scene, style, names)]


def plan_steps(drawn: Drawn, style: str, axes: tuple[str, ...] = ("path", "speed")) -> list[str]:
    """Path first (it decides what is ahead), each axis with its conclusion."""
    scene, decision = drawn.scene, drawn.decision
    steps = []
    for axis in axes:
        make = path_steps if axis == "path" else speed_steps
        word = shown(getattr(decision, axis), style)
        steps += [*make(scene, decision, style), word if style == "terse" else f"So the {axis} action is {word}."]
    return list(dict.fromkeys(steps))


def joined(steps: list[str], style: str) -> str:
    """Steps as one text."""
    return (" ; " if style == "terse" else " ").join(steps)


def fault_words(outcome: Outcome, style: str) -> str:
    """What a plan leads to."""
    return outcome.fault if style == "terse" else f"With this plan {FAULTS[outcome.fault]}."


def caption(rng: random.Random, drawn: Drawn, style: str) -> str:
    """What a document says about a picture: all facts with those that are absent, the plan with its working, or what some plan leads to."""
    scene = drawn.scene
    parts = [given(scene, style)]
    kind = rng.choice(("facts", "facts", "plan", "plan", "outcome"))
    if kind == "facts":
        every = [f"{name} {value}" for name, value in facts(scene).items()] if style == "terse" else fact_words(scene, style)
        rng.shuffle(every)
        return "\n".join([*parts, joined(every or ["The road is empty."], style)])
    if kind == "plan":
        return "\n".join([*parts, joined(plan_steps(drawn, style), style)])
    plan = random_plan(rng, drawn)
    outcome = evaluate(scene, *plan)
    steps = [*plan_steps(drawn, style), fault_words(outcome, style)]
    return "\n".join([*parts, write_plan(*plan, style), joined(steps, style)])


def random_plan(rng: random.Random, drawn: Drawn) -> tuple[str, str]:
    """Any pair of actions; half of the time one that changes a single axis of the right one."""
    right = (drawn.decision.speed, drawn.decision.path)
    if rng.random() < 0.5:
        return (rng.choice(SPEEDS), right[1]) if rng.random() < 0.6 else (right[0], rng.choice(PATHS))
    return rng.choice(SPEEDS), rng.choice(PATHS)
