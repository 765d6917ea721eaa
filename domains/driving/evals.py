"""What the pack measures: held-out accuracy, F1 of every action, and what the plans lead to in the simulator.

All of it comes from one set of answers: those of the primary eval.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from factory.contracts import Eval, ModelView, Sample
from factory.domains.driving.actions import AXES, Plan, read_plan
from factory.domains.driving.open_loop import report
from factory.domains.driving.simulator import Outcome, evaluate
from factory.domains.driving.verifiers import outcome_of, scene_of
from factory.domains.driving.waypoints import check_points, read_points
from factory.rewards.formats import parse

ACTION_TASKS = ("speed", "path", "plan", "clip")
SIMULATED = {"plan": "", "waypoints": "waypoints/"}
"""Task -> prefix of its figures."""


def evals() -> dict[str, Eval]:
    """The pack's evals by name. `accuracy` decides which stage is kept."""
    found = (
        Eval("accuracy", "qa", verifier="accuracy", primary=True),
        Eval("actions", "probe", probe=actions, needs_vision=False),
        Eval("consequences", "probe", probe=consequences, needs_vision=False),
        Eval("open_loop", "probe", probe=open_loop, needs_vision=False),
    )
    return {evaluation.name: evaluation for evaluation in found}


def answered_plan(completion: str) -> Plan:
    """The actions of a completion, bare answers also read; an empty plan when it names none or something else."""
    answer = parse(completion, lenient=True).answer
    try:
        return read_plan(answer) if answer else Plan()
    except ValueError:
        return Plan()


def actions(view: ModelView, split: str, seed: int) -> dict[str, float]:
    """Accuracy and F1 per action over all samples that ask for actions; see `action_figures`."""
    asked = (sample for sample in _samples(view, split, seed) if sample.task in ACTION_TASKS)
    return action_figures([(sample.reference, view.answers.get(sample.id, "")) for sample in asked])


def _samples(view: ModelView, split: str, seed: int) -> Iterable[Sample]:
    """The samples that were answered. Generated ones are told in words here: the scenes are the same, and nothing is drawn again."""
    from factory.domains.driving.pack import PACK

    if view.request.paths:
        return PACK.samples(split, seed, view.request)
    return PACK.samples(split, seed, replace(view.request, options={**view.request.options, "view": "text"}))


def action_figures(rows: Iterable[tuple[str, str]]) -> dict[str, float]:
    """Accuracy and F1 per action, as AlphaDrive reports them, of (reference, completion) rows.

    Returns:
        `<ACTION>/f1`, `<ACTION>/accuracy` (share of the rows that want it where it is named) for each action that occurs, and the
        means `speed/macro_f1`, `path/macro_f1`; `plan/accuracy` where both axes were asked for.
    """
    wanted: Counter[str] = Counter()
    named: Counter[str] = Counter()
    right: Counter[str] = Counter()
    both: list[bool] = []
    for reference, completion in rows:
        want, got = read_plan(reference), answered_plan(completion)
        for axis in AXES:
            if want.on(axis):
                wanted.update(want.on(axis))
                named.update(got.on(axis))
                right.update(want.on(axis) & got.on(axis))
        if want.speed and want.path:
            both.append(got == want)
    figures: dict[str, float] = {}
    for axis, words in AXES.items():
        found = [word for word in words if wanted[word]]
        for word in found:
            figures[f"{word}/accuracy"] = right[word] / wanted[word]
            figures[f"{word}/f1"] = 2 * right[word] / (wanted[word] + named[word])
        if found:
            figures[f"{axis}/macro_f1"] = math.fsum(figures[f"{word}/f1"] for word in found) / len(found)
    if both:
        figures["plan/accuracy"] = sum(both) / len(both)
    return figures


def consequences(view: ModelView, split: str, seed: int) -> dict[str, float]:
    """Carry out every answered plan of the simulator's samples.

    An answer that is no plan is counted apart (`no_plan`) and leaves the other figures: it drives nowhere.

    Returns:
        Of the task `plan`, shares of the plans: `collision_rate`, `red_line_rate`, `off_road_rate`, `near_collision_rate`; means `comfort`,
        `progress` and `pdm_proxy`; `num_plans` and `no_plan` (a share). `safe_rate`: share of all questions whose answer is a plan that
        ends well, which can be compared between models that answer and models that do not. The same under `waypoints/`. What driving on
        unchanged (KEEP, STRAIGHT) would lead to stands under `drive_on/`. Nothing for data without scenes.
    """
    samples = [s for s in _samples(view, split, seed) if s.task in SIMULATED and "scene" in s.meta]
    figures: dict[str, float] = {}
    for task, prefix in SIMULATED.items():
        asked = [sample for sample in samples if sample.task == task]
        if asked:
            found = _outcomes(view, asked)
            safe = sum(outcome.is_safe for outcome in found) / len(asked)
            counts = {"no_plan": 1 - len(found) / len(asked), "num_plans": float(len(found)), "safe_rate": safe}
            figures |= {prefix + name: value for name, value in {**counts, **outcome_figures(found)}.items()}
    ignored = [evaluate(scene, "KEEP", "STRAIGHT", right) for scene, right in map(scene_of, samples)]
    return figures | {f"drive_on/{name}": value for name, value in outcome_figures(ignored).items()}


def _outcomes(view: ModelView, samples: Sequence[Sample]) -> list[Outcome]:
    """What the answers lead to; those that are no plan are left out."""
    found = []
    for sample in samples:
        answer = parse(view.answers.get(sample.id, ""), lenient=True).answer
        try:
            found.append(outcome_of(answer or "", sample, *scene_of(sample)))
        except ValueError:
            continue
    return found


def open_loop(view: ModelView, split: str, seed: int) -> dict[str, float]:
    """L2 and collision of answered waypoints on recorded drives, in both conventions; see open_loop.py. Nothing without such samples."""
    if not view.request.paths:
        return {}
    rows, num_samples = [], 0
    for sample in _samples(view, split, seed):
        if sample.task != "trajectory":
            continue
        num_samples += 1
        want = check_points(sample.meta.get("points") or sample.reference)
        answer = parse(view.answers.get(sample.id, ""), lenient=True).answer
        try:
            got = read_points(answer or "", len(want))
        except ValueError:
            continue
        rows.append({"got": got, "want": want, "boxes": sample.meta.get("boxes")})
    return {"no_way": 1 - len(rows) / num_samples, **report(rows)} if num_samples else {}


def outcome_figures(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Rates and means of the outcomes; nothing for none."""
    if not outcomes:
        return {}

    def mean(values) -> float:
        return math.fsum(values) / len(outcomes)

    return {
        "collision_rate": mean(1 - o.no_collision for o in outcomes), "red_line_rate": mean(1 - o.lights for o in outcomes),
        "off_road_rate": mean(1 - o.drivable for o in outcomes),
        "near_collision_rate": mean(1 - o.time_to_collision for o in outcomes), "comfort": mean(o.comfort for o in outcomes),
        "progress": mean(o.progress for o in outcomes), "pdm_proxy": mean(o.pdm_proxy for o in outcomes),
    }  # fmt: skip
