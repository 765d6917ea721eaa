"""The pack's verifiers: factory ones, set up for driving, and its own for plans, waypoints, objects and consequences.

| name | score | used for |
| --- | --- | --- |
| speed, path | F1 of the actions on one axis; more actions than the reference has earn 0 | reward of `speed`, `path`, `plan`, `clip` |
| closed | 1 when the word is right | reward of `perceive` and `safe`, and of short answers about real scenes |
| letter | 1 when the right option is named | reward of `choice` |
| waypoints | 1 - mean distance / 2 m, not below 0 | reward of `waypoints` and `trajectory` |
| objects | DriveLM's match: F1 of the named objects | reward of `objects` |
| language | likeness of a free answer (BLEU and ROUGE-L) | reward of `answer` |
| format | 1 when the form is kept | reward of every task |
| plan_exact | 1 when both axes are right: AlphaDrive's planning accuracy | ablations |
| plan_f1 | mean F1 of both axes | ablations |
| plan_paper | the same times the action's weight, as in the paper | ablations |
| plan_released | as the released code reads and weighs; its faults are named in alphadrive.py | comparison |
| pdm_proxy, collision_free | what the plan leads to in the simulator | evals |
| accuracy | the right answer verifier of the task, bare answers also read | the primary eval |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from factory.contracts import Sample, Status, Verdict, Verifier
from factory.domains.driving.actions import (
    AXES,
    WEIGHTS,
    Plan,
    f1,
    read_plan,
    read_plan_as_released,
)
from factory.domains.driving.drivelm import MATCH_PX, Named, match_f1, named_objects
from factory.domains.driving.scene import Scene
from factory.domains.driving.simulator import Outcome, evaluate, judge
from factory.domains.driving.text_scores import sentence_likeness
from factory.domains.driving.waypoints import check_points, poses_along, read_points, way_comfort
from factory.errors import PluginError
from factory.packs.by_sample import ByTask, FormatOfSample
from factory.rewards.answers import accepted
from factory.rewards.reader import AnswerReader, graded, one_of, unparsable
from factory.rewards.verifiers import ClosedAnswer, OptionLetter

VERSION = "1"
SYNONYMS = {"yes": ("y", "true", "safe"), "no": ("n", "false", "unsafe"), "red": ("red light",), "green": ("green light",)}
VARIANTS = ("exact", "f1", "paper", "released")


def wanted_plan(sample: Sample) -> Plan:
    """The reference as a plan. Raises ValueError when it names no action: the sample is faulty."""
    plan = read_plan(sample.reference) if isinstance(sample.reference, str) else Plan()
    if not (plan.speed or plan.path):
        raise ValueError(f"sample {sample.id}: the reference {sample.reference!r} names no meta-action")
    return plan


def _told(plan: Plan) -> str:
    return ", ".join(sorted(plan.speed) + sorted(plan.path))


@dataclass(frozen=True)
class AxisActions(AnswerReader):
    """F1 of the actions named on one axis. Naming more of them than the reference has is hedging and earns 0."""

    axis: str = "speed"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "axis", self.axis, tuple(AXES))

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference has no action on this axis."""
        want = wanted_plan(sample).on(self.axis)
        if not want:
            raise ValueError(f"sample {sample.id}: the reference {sample.reference!r} names no {self.axis} action")
        told = ", ".join(sorted(want))
        answer = self.answer(completion, told)
        if isinstance(answer, Verdict):
            return answer
        try:
            got = read_plan(answer).on(self.axis)
        except ValueError as err:
            return unparsable(str(err), told)
        if not got:
            return unparsable(f"no {self.axis} action", told)
        if len(got) > len(want):
            return Verdict(0.0, Status.wrong, f"{len(got)} {self.axis} actions where {len(want)} is asked for; want {told!r}")
        return graded(f1(got, want), 1.0, f"got {', '.join(sorted(got))}, want {told}")


@dataclass(frozen=True)
class PlanScore(AnswerReader):
    """One score for both axes (or the one that the reference has), in one of AlphaDrive's ways; an empty answer earns 0.

    `exact`: both axes right. `f1`: mean F1. `paper`: mean of F1 x weight. `released`: the same as the released code reads: split
    on ", ", exact capitals, unknown words passed over. What depends on the group (diversity) is in alphadrive.py.
    """

    variant: str = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "variant", self.variant, VARIANTS)

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference names no action."""
        want = wanted_plan(sample)
        answer = self.answer(completion, _told(want))
        if isinstance(answer, Verdict):
            return answer
        try:
            got = read_plan_as_released(answer) if self.variant == "released" else read_plan(answer)
        except ValueError as err:
            return unparsable(str(err), _told(want))
        axes = [axis for axis in AXES if want.on(axis)]
        if not any(got.on(axis) for axis in axes):
            return unparsable("no meta-action", _told(want))
        parts = {axis: axis_score(got.on(axis), want.on(axis), self.variant) for axis in axes}
        score = min(parts.values()) if self.variant == "exact" else math.fsum(parts.values()) / len(parts)
        is_right = all(got.on(axis) == want.on(axis) for axis in axes)
        return Verdict(score, Status.ok if is_right else Status.wrong, f"got {_told(got)}, want {_told(want)}", parts)


def axis_score(got: frozenset[str], want: frozenset[str], variant: str) -> float:
    """Score of one axis: equality, F1, or F1 times the mean weight of the predicted actions. An empty prediction earns 0."""
    if variant == "exact":
        return float(got == want)
    weight = math.fsum(WEIGHTS[word] for word in got) / len(got) if got and variant in ("paper", "released") else 1.0
    return f1(got, want) * weight


@dataclass(frozen=True)
class Waypoints(AnswerReader):
    """1 - ADE / `scale_m`, not below 0, where ADE is the mean distance of the points to the reference's, in m."""

    scale_m: float = 2.0
    threshold_m: float = 1.0
    """ADE up to which the status is `ok`."""
    is_binary: bool = False

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is no list of points."""
        want = check_points(sample.reference)
        told = f"{len(want)} points to {list(want[-1])}"
        answer = self.answer(completion, told)
        if isinstance(answer, Verdict):
            return answer
        try:
            got = read_points(answer, len(want))
        except ValueError as err:
            return unparsable(str(err), told)
        error = math.fsum(math.dist(a, b) for a, b in zip(got, want, strict=True)) / len(want)
        is_right = error <= self.threshold_m
        score = float(is_right) if self.is_binary else max(0.0, 1.0 - error / self.scale_m)
        reason = f"mean distance {error:.2f} m to {told}"
        return Verdict(score, Status.ok if is_right else Status.wrong, reason, {"ade_m": min(error, 1e6)})


@dataclass(frozen=True)
class Objects(AnswerReader):
    """DriveLM's match: F1 of the objects `<id,camera,x,y>` in the answer with the reference's, hits within 16 px (L1)."""

    distance_px: float = MATCH_PX

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference names no object."""
        want = named_objects(" ".join(accepted(sample.reference)))
        if not want:
            raise ValueError(f"sample {sample.id}: the reference {sample.reference!r} names no object <id,camera,x,y>")
        told = f"{len(want)} objects"
        answer = self.answer(completion, told)
        if isinstance(answer, Verdict):
            return answer
        got = named_objects(answer)
        if not got:
            return unparsable("no object <id,camera,x,y>", told)
        score, hits = match_f1(got, want, self.distance_px)
        return graded(score, 1.0, f"{hits} of {told} within {self.distance_px:g} px, {_count(got)} named")


def _count(named: tuple[Named, ...]) -> str:
    return f"{len(named)}"


@dataclass(frozen=True)
class Likeness(AnswerReader):
    """Likeness of a free answer to the best reference: mean of BLEU-1..4 and ROUGE-L, halved together. It pays for likeness, not truth."""

    threshold: float = 0.5

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is empty or no text."""
        wanted = accepted(sample.reference)
        answer = self.answer(completion, " | ".join(wanted)[:80])
        if isinstance(answer, Verdict):
            return answer
        score = max(sentence_likeness(answer, text) for text in wanted)
        return graded(score, self.threshold, f"likeness {score:.3f} to {wanted[0][:60]!r}")


@dataclass(frozen=True)
class Consequence(AnswerReader):
    """What the answered plan leads to when it is carried out in the sample's scene (`meta["scene"]`).

    `pdm_proxy`: no collision x on the road x no red line x (5 time-to-collision + 2 comfort + 5 progress) / 12; a stand-in on our own
    scenes, not NAVSIM's PDMS. `no_collision`: 1 when nothing is hit. No plan, no score.
    """

    term: str = "pdm_proxy"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "term", self.term, ("pdm_proxy", "no_collision"))

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the sample has no scene: then nothing can be simulated."""
        scene, right = scene_of(sample)
        answer = self.answer(completion, "a plan")
        if isinstance(answer, Verdict):
            return answer
        try:
            outcome = outcome_of(answer, sample, scene, right)
        except ValueError as err:
            return unparsable(str(err), "a plan")
        score = float(getattr(outcome, self.term))
        told = f"{outcome.fault}: collision {1 - outcome.no_collision:g}, progress {outcome.progress:.2f}"
        return graded(score, 1.0, told, {"pdm_proxy": outcome.pdm_proxy, "no_collision": outcome.no_collision})


def scene_of(sample: Sample) -> tuple[Scene, tuple[str, str]]:
    """The sample's scene and the plan that its rules ask for. Raises ValueError when it has none."""
    row, actions = sample.meta.get("scene"), sample.meta.get("actions")
    if not isinstance(row, Mapping) or not actions:
        raise ValueError(f"sample {sample.id} has no meta['scene']; only the simulator's own samples can be carried out")
    return Scene.from_json(row), (actions[0], actions[1])


def outcome_of(answer: str, sample: Sample, scene: Scene, right: tuple[str, str]) -> Outcome:
    """Carry out an answer: waypoints, or actions (an axis that the task does not ask for is taken from the right plan).

    Raises ValueError when the answer is no plan of one speed and one path.
    """
    if sample.task == "waypoints":
        want = check_points(sample.reference)
        points = read_points(answer, len(want))
        full = math.dist((0, 0), want[-1])
        progress = 1.0 if full < 5.0 else min(1.0, math.dist((0, 0), points[-1]) / full)
        rate = len(want) // 3
        comfort = way_comfort(points, rate, scene.speed)
        return judge(scene, poses_along(points, rate, scene.speed), progress=progress, comfort=comfort)
    plan = read_plan(answer)
    chosen = []
    for axis, default in zip(AXES, right, strict=True):
        words = plan.on(axis)
        asked = sample.task in (axis, "plan")
        if asked and len(words) != 1:
            raise ValueError(f"{len(words)} {axis} actions, want one that can be carried out")
        chosen.append(next(iter(words)) if asked else default)
    return evaluate(scene, chosen[0], chosen[1], right)


def build_verifiers(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, Verifier]:
    """All verifiers by name.

    Args:
        tasks: the manifest's tasks; `accuracy` judges a task by its one answer verifier, plans by both axes.

    Raises:
        PluginError: a task without an answer verifier.
    """
    answers: dict[str, Any] = {
        "speed": AxisActions(name="speed", axis="speed"), "path": AxisActions(name="path", axis="path"),
        "plan_exact": PlanScore(name="plan_exact"), "closed": ClosedAnswer(name="closed", synonyms=SYNONYMS),
        "letter": OptionLetter(name="letter"), "waypoints": Waypoints(name="waypoints"), "objects": Objects(name="objects"),
        "language": Likeness(name="language"),
    }  # fmt: skip
    lenient = {name: replace(verifier, mode="lenient") for name, verifier in answers.items()}
    lenient["waypoints"] = replace(lenient["waypoints"], is_binary=True)
    routes = {}
    for task, row in tasks.items():
        named = [name for name, weight in dict(row.get("verifiers") or {}).items() if name in lenient and weight > 0]
        if not named:
            raise PluginError(f"pack.yaml: tasks.{task} must name one of {', '.join(lenient)} with a weight. Mend it.")
        routes[task] = lenient["plan_exact"] if {"speed", "path"} <= set(named) else lenient[named[0]]
    found: list[Verifier] = [
        *answers.values(), *(PlanScore(name=f"plan_{variant}", variant=variant) for variant in VARIANTS if variant != "exact"),
        FormatOfSample(), Consequence(name="pdm_proxy"), Consequence(name="collision_free", term="no_collision"),
        ByTask("accuracy", routes),
    ]  # fmt: skip
    return {verifier.name: verifier for verifier in found}
