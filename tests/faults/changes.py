"""Scenarios in which numbers, messages, settings, data or packages are other than they should be."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from typing import Any

import psutil
from kills import TRAINING, at
from prepared import STEPS, outputs, rows
from scene import Scene

BAD = {"nan loss": math.nan, "inf loss": math.inf, "-inf loss": -math.inf}


def numbers_go_wrong(scene: Scene) -> None:
    """Loss or gradient is not finite for some steps: skipped and counted, rolled back with a smaller step, or stopped."""
    recipe = scene.rng.choice(TRAINING)
    step = f"02-{recipe}"
    scene.begin(recipe, cut_at=step)
    what, first = scene.rng.choice([*BAD, "gradient"]), scene.rng.randint(1, STEPS)
    times, lasts = scene.rng.randint(1, 4), scene.rng.random() < 0.25
    scene.outcome.what = f"{recipe}: {what} from step {first} on, {'always' if lasts else f'{times} times'}"
    noted = scene.root / "bad-calls"
    code = scene.ends(
        scene.build(at("worker", step, lambda: _break(recipe, what, first, math.inf if lasts else times, noted))), {0, 7}
    )
    scene.outcome.fired = noted.exists()
    bad = len(noted.read_text()) if noted.exists() else 0
    if code == 0:
        _check_counts(scene, step, bad)
        return
    if bad < 3:
        scene.outcome.wrong_codes.append(f"stopped after {bad} bad steps")
    scene.finish(equal=False)  # by now the step is smaller
    scene.verify()


def _break(recipe: str, what: str, first: int, times: float, noted: Any) -> None:
    """Patch the objective of this worker: the `first`-th update and those after it are bad, `times` in all (over restarts too)."""
    import factory.stages.objectives as objectives
    import factory.stages.rl.objective as rl

    kind, calls = (rl.PolicyObjective if recipe == "rl" else objectives.TokenNLL), 0
    real: Callable[..., Any] = kind.loss

    def loss(self: Any, model: Any, batch: Any, totals: Any) -> Any:
        nonlocal calls
        calls += 1
        value, metrics = real(self, model, batch, totals)
        before = len(noted.read_text()) if noted.exists() else 0
        if calls < first or before >= times:
            return value, metrics
        noted.write_text("." * (before + 1))
        if what in BAD:
            return value * BAD[what], metrics
        weight = next(parameter for parameter in model.parameters() if parameter.requires_grad)
        return value + (weight * 0).sum().abs().sqrt(), metrics  # the value of this term is 0, its gradient is not finite

    kind.loss = loss


def _check_counts(scene: Scene, step: str, bad: int) -> None:
    folder = scene.run / "stages" / step
    told = json.loads((folder / "stage.lock").read_text())["outputs"]["metrics"].get("setbacks", {})
    if bad and not told:
        scene.outcome.unclear.append(f"{bad} bad steps are not told in the stage's metrics")
    counted = sum(row.get("bad_steps", 0) for row in rows(folder / "metrics.jsonl"))
    if told and counted != told["skipped_steps"]:
        scene.outcome.unclear.append(f"metrics.jsonl counts {counted} bad steps, the stage {told['skipped_steps']}")
    if bad == 0:
        scene.compare()
    scene.verify()


def settings_change(scene: Scene) -> None:
    """A setting changes while a step is half done: it starts over, and what does not depend on it is kept; back again it is equal."""
    recipe = scene.rng.choice(TRAINING)
    step = f"02-{recipe}"
    scene.begin(recipe, cut_at=step)
    scene.ends(scene.build(at("worker", step, lambda: _kill_after_row(3))), {7})
    name = scene.rng.choice(["lr=3e-3", "warmup_steps=2", "clip_norm=0.5", "weight_decay=0.2"])
    setting = ("--set", f"stages.{recipe}.optim.{name}")
    scene.outcome.what, scene.outcome.fired = f"{recipe}: {setting[1]}", True
    kept = scene.locks()
    scene.ends(scene.build(lambda *_: None, *setting), {0})
    log = scene.run / "stages" / step / "log.txt"
    if log.exists() and "resumed at step" in log.read_text():
        scene.outcome.accepted.append("a checkpoint of other settings was taken up")
    after = scene.locks()
    scene.outcome.lost_stages += [f"{name} ran again" for name, lock in kept.items() if after.get(name) != lock]
    scene.finish(kept=False, equal=False)
    _compare_steps(scene)


def _compare_steps(scene: Scene) -> None:
    """Every step equals the undisturbed build's (the registry also holds the model of the other settings)."""
    for name, wanted in scene.prepared.wanted[scene.recipe].items():
        path = scene.run / "stages" / name / "stage.lock"
        if path.exists() and outputs(path) != wanted:
            scene.outcome.accepted.append(f"{name} differs from the undisturbed build")
    scene.verify()


def _kill_after_row(number: int) -> None:
    import factory.pipeline.worker as worker

    real = worker.append_metrics

    def append(path: Any, row: Any) -> None:
        real(path, row)
        if row.get("step", 0) >= number:
            os.kill(os.getpid(), signal.SIGKILL)

    worker.append_metrics = append


def a_package_changes(scene: Scene) -> None:
    """A library has another version than when the steps were made: they are made anew, never mixed."""
    recipe = scene.rng.choice(TRAINING)
    scene.begin(recipe, cut_at=scene.rng.choice(scene.prepared.steps(recipe)[2:]))
    library = scene.rng.choice(["torch", "transformers", "peft", "accelerate", "numpy"])
    before = scene.locks()

    def other_version() -> None:
        import factory.pipeline.fingerprint as fingerprint

        real = fingerprint.version
        fingerprint.version = lambda name: "0.0.1" if name == library else real(name)

    build = scene.build(at("conductor", "", other_version))
    scene.ends(build, {0})
    scene.outcome.what, scene.outcome.fired = f"{recipe}: {library}", True
    after = scene.locks()
    scene.outcome.accepted += [
        f"{name} of another {library} was kept" for name, lock in before.items() if after.get(name) == lock
    ]
    _compare_steps(scene)


def data_changes(scene: Scene) -> None:
    """The file of lessons changes while SFT is half done: it starts over on the new ones, and never mixes both."""
    scene.begin("sft", cut_at="02-sft")
    lessons = scene.root / "lessons.jsonl"
    _write_lessons(lessons, scene.rng.randrange(1000))
    setting = ("--set", f"stages.sft.lessons_from={lessons}")
    scene.ends(scene.build(at("worker", "02-sft", lambda: _kill_after_row(3)), *setting), {7})
    if scene.rng.random() < 0.5:
        _write_lessons(lessons, 1000 + scene.rng.randrange(1000))
        how = "other lessons"
    else:
        content = lessons.read_bytes()
        lessons.write_bytes(content[: len(content) - scene.rng.randint(1, 200)])
        how = "cut off"
    scene.outcome.what, scene.outcome.fired = how, True
    code = scene.ends(scene.build(lambda *_: None, *setting), {0, 3})
    log = scene.run / "stages" / "02-sft" / "log.txt"
    if code == 0 and "resumed at step" in log.read_text():
        scene.outcome.accepted.append("a checkpoint of other lessons was taken up")
    scene.finish(kept=False, equal=False)
    _compare_steps(scene)


def _write_lessons(path: Any, seed: int) -> None:
    from factory.contracts import DataRequest
    from factory.plugins import load_pack
    from factory.stages.lesson_files import lesson_row, write_rows

    pack = load_pack("biology")
    write_rows(path, [lesson_row(lesson) for lesson in pack.lessons("train", seed, DataRequest(limit=20))][:20])


def verifiers_time_out(scene: Scene) -> None:
    """The reward worker stands still when it gets calls, once or always: the build stops above the error rate, or tries again; a
    timeout is never scored as wrong."""
    recipe = scene.rng.choice(TRAINING)
    step = scene.rng.choice([name for name in scene.prepared.steps(recipe) if name.endswith("eval") or name == "02-rl"])
    scene.begin(recipe, cut_at=step)
    is_once = scene.rng.random() < 0.5

    def stand_still() -> None:
        from factory.rewards.pool_process import WorkerProcess

        real = WorkerProcess.send

        def send(self: Any, batch: Any) -> None:
            if not (is_once and scene.mark.exists()):
                scene.mark.touch()
                worker = psutil.Process(self.process.pid)
                for process in [worker, *worker.children(recursive=True)]:
                    process.suspend()
            real(self, batch)

        WorkerProcess.send = send

    code = scene.ends(scene.build(at("worker", step, stand_still), "--set", "pool.timeout_s=0.3"), {0, 6})
    scene.outcome.fired, scene.outcome.what = scene.mark.exists(), f"{recipe}: {step}: {'once' if is_once else 'always'}"
    if code == 0 and not is_once:
        scene.outcome.accepted.append("no verdict came, and the step ended as if there were some")
    scene.finish(kept=False, equal=False)
    _compare_steps(scene)


def a_reward_worker_lies(scene: Scene) -> None:
    """What comes back from the reward worker is cut, garbled or another message: that verdict is an error, never a score."""
    recipe = scene.rng.choice(TRAINING)
    step = scene.rng.choice([name for name in scene.prepared.steps(recipe) if name.endswith("eval") or name == "02-rl"])
    scene.begin(recipe, cut_at=step)
    # The first message says that the worker is ready; the verdicts of an eval come in one or two more.
    number, how = scene.rng.randint(1, 3), scene.rng.choice(["cut", "garbage", "nan", "twice"])

    def lie() -> None:
        from factory.rewards.pool_wire import FrameReader

        real, calls = FrameReader.feed, 0

        def feed(self: Any, data: bytes) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                scene.mark.touch()
                changed = {"cut": data[: len(data) // 2], "garbage": os.urandom(len(data)), "twice": data + data}
                data = changed.get(how) or data.replace(b'"score":0.0', b'"score":NaN').replace(b'"score": 0.0', b'"score": NaN')
            return real(self, data)

        FrameReader.feed = feed

    scene.ends(scene.build(at("worker", step, lie)), {0, 6})
    scene.outcome.fired, scene.outcome.what = scene.mark.exists(), f"{recipe}: {step}: message {number}: {how}"
    scene.finish(equal=not scene.masked())
