"""Scenarios in which a process dies, is asked to stop, or meets a second one."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import boundaries
import psutil
from scene import Scene

TRAINING = ["cpt", "sft", "rl"]
"""Recipes that scenarios draw from."""
Prepare = Callable[[str, str], None]


def at(role: str, step: str, act: Callable[[], None]) -> Prepare:
    """Do something in the conductor, or in the worker of one step."""

    def prepare(found: str, where: str) -> None:
        if found == role and where == step:
            act()

    return prepare


def place(scene: Scene, *, share: float = 1.0) -> tuple[str, str, str, int]:
    """Draw (recipe, role, step, boundary); the build is cut at the step."""
    recipe = scene.rng.choice(TRAINING)
    steps = scene.prepared.steps(recipe)
    step = scene.rng.choice(["", *steps[1:], f"02-{recipe}", f"02-{recipe}"])
    scene.begin(recipe, cut_at=step or steps[2])
    most = scene.prepared.boundaries[(recipe, step or "conductor")]
    return recipe, "worker" if step else "conductor", step, scene.rng.randint(1, max(1, int(most * share * (1 if step else 0.6))))


def kill_at_a_boundary(scene: Scene) -> None:
    """kill -9 of conductor or worker just before it changes a name or syncs a file."""
    recipe, role, step, number = place(scene)
    build = scene.build(at(role, step, lambda: boundaries.kill_at(number, scene.mark)))
    scene.ends(build, {0, -9} if role == "conductor" else {0, 7})
    scene.outcome.fired = scene.mark.exists()
    scene.outcome.what = f"{recipe}: {role} {step} at boundary {number}"
    scene.finish()


def kill_at_a_moment(scene: Scene) -> None:
    """kill -9 of the conductor or one of its descendants (worker, reward worker) after a random time."""
    recipe = scene.rng.choice(TRAINING)
    scene.begin(recipe, cut_at=scene.rng.choice(scene.prepared.steps(recipe)[1:]))
    build, wait_s = scene.build(), scene.rng.uniform(0.2, 6.0)
    time.sleep(wait_s)
    victim, name = _victim(scene, build.pid)
    if victim is not None and build.poll() is None:
        try:
            os.kill(victim, signal.SIGKILL)
            scene.outcome.fired = True
        except ProcessLookupError:
            pass
    scene.outcome.what = f"{recipe}: {name} after {wait_s:.1f} s"
    scene.ends(build, {-9} if victim == build.pid and scene.outcome.fired else {0, 7, 6})
    scene.finish(equal=not scene.masked())


def _victim(scene: Scene, pid: int) -> tuple[int | None, str]:
    try:
        found = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return None, "nobody"
    everyone = [(pid, "conductor"), *((child.pid, "a descendant") for child in found)]
    return scene.rng.choice(everyone)


def kill_a_reward_worker(scene: Scene) -> None:
    """kill -9 of the process that runs verifiers, in an eval or in RL."""
    recipe = scene.rng.choice(TRAINING)
    steps = scene.prepared.steps(recipe)
    scene.begin(recipe, cut_at=scene.rng.choice(steps[1:] if recipe == "rl" else steps[3:]))
    build, deadline = scene.build(), time.monotonic() + 60
    while build.poll() is None and time.monotonic() < deadline and not scene.outcome.fired:
        scene.outcome.fired = _kill_pool(build.pid)
        time.sleep(0.01)
    scene.outcome.what = recipe
    scene.ends(build, {0, 6})
    scene.finish(equal=not scene.masked())


def _kill_pool(pid: int) -> bool:
    try:
        for child in psutil.Process(pid).children(recursive=True):
            if "factory.rewards.pool_worker" in child.cmdline():
                child.kill()
                return True
    except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
        pass
    return False


def out_of_memory(scene: Scene) -> None:
    """A worker may not have the memory it needs: the limit refuses it, or the system kills it."""
    recipe = scene.rng.choice(TRAINING)
    step, is_killed = f"02-{recipe}", scene.rng.random() < 0.4
    scene.begin(recipe, cut_at=step)
    grows, after = scene.rng.randint(0, 3) << 20, scene.rng.randint(1, 12)

    def limit() -> None:
        if is_killed:
            boundaries.kill_at(after, scene.mark)
            return
        scene.mark.touch()
        pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (pages + grows, pages + grows))

    scene.ends(scene.build(at("worker", step, limit)), {0, 7, 5, 6, 8})
    scene.outcome.fired = scene.mark.exists()
    scene.outcome.what = f"{recipe}: {'killed' if is_killed else f'{grows >> 20} MiB more'}"
    scene.finish()


def asked_to_stop(scene: Scene) -> None:
    """SIGTERM, SIGINT or SIGUSR1 to the conductor: 130 or 75, and nothing is lost."""
    recipe = scene.rng.choice(TRAINING)
    number = scene.rng.choice([signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
    scene.begin(recipe, cut_at=f"02-{recipe}")
    build = scene.build()
    rows, deadline = scene.run / "stages" / f"02-{recipe}.partial" / "metrics.jsonl", time.monotonic() + 60
    while not rows.exists() and build.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    if build.poll() is None:
        os.kill(build.pid, number)
        scene.outcome.fired = True
    scene.outcome.what = f"{recipe}: {number.name}"
    scene.ends(build, {0, 75} if number == signal.SIGUSR1 else {0, 130})
    scene.finish()


def kill_training_again_and_again(scene: Scene, points: int) -> int:
    """A build of cpt, sft and rl whose training workers are killed at random boundaries, up to `points` times. Returns the kills."""
    scene.begin("full", cut_at="02-cpt")
    killed = 0
    for _ in range(3 * points):
        number = scene.rng.randint(1, 45)

        def prepare(role: str, step: str, number: int = number) -> None:
            if role == "worker" and not step.endswith("eval"):
                boundaries.kill_at(number, scene.mark)

        code = scene.ends(scene.build(prepare), {0, 7})
        killed += code == 7
        if code == 0 or killed == points:
            break
    scene.outcome.fired, scene.outcome.what = killed > 0, f"killed {killed} times"
    scene.finish()
    return killed


def two_builds_at_once(scene: Scene) -> None:
    """The same command twice at the same time: one works, the other is refused or finds the work done."""
    recipe = scene.rng.choice(TRAINING)
    scene.begin(recipe, cut_at=f"02-{recipe}")
    first = scene.build()
    time.sleep(scene.rng.uniform(0.0, 0.5))
    second = scene.build()
    codes = [scene.ends(first, {0, 8}), scene.ends(second, {0, 8})]
    scene.outcome.fired, scene.outcome.what = True, f"{recipe}: {codes}"
    if 0 not in codes:
        scene.outcome.wrong_codes.append(f"neither of two builds worked: {codes}")
    scene.finish()
