"""The fault injector: scenarios drawn from a seed, each on a copy of a small finished or half finished embedded build.

python tests/faults/inject.py --count 200 --seed 1        # make faults
python tests/faults/inject.py --seed 1 --only 17          # replay one
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

import changes  # noqa: E402
import disks  # noqa: E402
import forked  # noqa: E402
import kills  # noqa: E402
from prepared import Prepared, rows  # noqa: E402
from scene import Outcome, Scene  # noqa: E402

KINDS: dict[Callable[[Scene], None], int] = {
    kills.kill_at_a_boundary: 5, kills.kill_at_a_moment: 3, kills.kill_a_reward_worker: 2, kills.out_of_memory: 2,
    kills.asked_to_stop: 2, kills.two_builds_at_once: 1, disks.finished_file_is_damaged: 6, disks.half_done_file_is_damaged: 4,
    disks.registry_is_damaged: 4, disks.disk_refuses: 5, disks.slow_disk: 1, disks.clock_jumps: 2, disks.real_disk_is_full: 2,
    disks.read_only_disk: 1, changes.numbers_go_wrong: 4, changes.settings_change: 1, changes.a_package_changes: 1,
    changes.data_changes: 1, changes.verifiers_time_out: 1, changes.a_reward_worker_lies: 2,
}  # fmt: skip
"""Scenario -> how often it is drawn."""
NEED_MOUNTS = {disks.real_disk_is_full, disks.read_only_disk}
LIMIT_S = 900
"""A scenario that takes longer hangs (the machine may be busy with other things)."""


def draw(seed: int, number: int, kinds: dict[Callable[[Scene], None], int]) -> Callable[[Scene], None]:
    """The kind of one scenario."""
    return random.Random(f"{seed}-{number}").choices(list(kinds), list(kinds.values()))[0]


class Running:
    """One scenario in a process of its own, so that mounts, limits and descendants end with it."""

    def __init__(self, prepared: Prepared, seed: int, number: int, kinds: dict[Callable[[Scene], None], int], root: Path) -> None:
        self.number, self.kind = number, draw(seed, number, kinds)
        self.told, self.place = root / f"outcome-{number}.json", root / f"scene-{number}"
        self.deadline = time.monotonic() + LIMIT_S
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._act(prepared, seed)
            finally:
                os._exit(0)

    def _act(self, prepared: Prepared, seed: int) -> None:
        scene = Scene(prepared, self.kind.__name__, seed * 100_000 + self.number, self.place)
        try:
            self.kind(scene)
        except Exception:
            scene.outcome.unclear.append(f"the scenario itself failed: {traceback.format_exc()[-1500:]}")
        self.told.write_text(json.dumps(scene.outcome.to_json()))

    def outcome(self) -> Outcome | None:
        """What it showed once it has ended."""
        if os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            if time.monotonic() < self.deadline:
                return None
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
            return Outcome(self.kind.__name__, unclear=[f"hung for {LIMIT_S} s"])
        if not self.told.exists():
            return Outcome(self.kind.__name__, unclear=["the scenario died"])
        outcome = Outcome(**json.loads(self.told.read_text()))
        if not outcome.faults:
            shutil.rmtree(self.place, ignore_errors=True)
        return outcome


def run_all(
    prepared: Prepared, seed: int, numbers: Sequence[int], kinds: dict[Callable[[Scene], None], int], root: Path, jobs: int
) -> dict[int, Outcome]:
    """Every scenario, so many at a time; a line for each as it ends."""
    left, running, outcomes = list(numbers), [], {}
    while left or running:
        while left and len(running) < jobs:
            running.append(Running(prepared, seed, left.pop(0), kinds, root))
        for scenario in list(running):
            one = scenario.outcome()
            if one is not None:
                running.remove(scenario)
                outcomes[scenario.number] = one
                mark = "FAILED" if one.faults else "ok" if one.fired else "ok, not fired"
                print(f"{scenario.number:4d} {one.kind}: {one.what}: {one.codes} {mark}", flush=True)
        time.sleep(0.02)
    return outcomes


def kill_points(prepared: Prepared, seed: int, points: int, root: Path) -> bool:
    """Builds of cpt, sft and rl with replay and curriculum, killed at `points` random moments in all; True when all are equal."""
    prepared.reference("full")
    rl = rows(root / "home-full" / "runs" / "run" / "stages" / "06-rl" / "metrics.jsonl")
    replayed = max(row.get("replay_share", 0.0) for row in rl)
    done = number = differing = 0
    while done < points:
        number += 1
        scene = Scene(prepared, "kill points", seed * 100_000 + number, root / f"points-{number}")
        done += kills.kill_training_again_and_again(scene, min(8, points - done))
        differing += bool(scene.outcome.faults)
        print(f"build {number}: {scene.outcome.what}, {done} of {points}", *scene.outcome.faults, flush=True)
        shutil.rmtree(scene.root)
    print(
        f"kill points                {done} in {number} builds of cpt, sft and rl (at most {replayed:.0%} replayed in a step, sampler rlcs)"
    )
    print(f"builds that differ from the undisturbed one  {differing}")
    return differing == 0 and replayed > 0


def summary(outcomes: dict[int, Outcome], seed: int, seconds: float) -> str:
    """The figures, and how to replay what failed."""
    every = list(outcomes.values())
    codes = Counter(code for one in every for code in one.codes)
    lines = [
        f"scenarios                  {len(every)} (seed {seed}, {len({one.kind for one in every})} kinds, {seconds:.0f} s)",
        f"faults fired               {sum(one.fired for one in every)}",
        f"commands run               {codes.total()}, by exit status: {', '.join(f'{code}: {n}' for code, n in sorted(codes.items()))}",
        f"finished stages lost       {sum(len(one.lost_stages) for one in every)}",
        f"steps lost beyond the last checkpoint  {sum(len(one.lost_steps) for one in every)}",
        f"corrupt artifacts accepted {sum(len(one.accepted) for one in every)}",
        f"wrong exit codes           {sum(len(one.wrong_codes) for one in every)}",
        f"unclear messages           {sum(len(one.unclear) for one in every)}",
    ]
    for kind, number in sorted(Counter(one.kind for one in every).items()):
        lines.append(f"  {kind:28s} {number:4d}, fired {sum(one.fired for one in every if one.kind == kind)}")
    for number, one in sorted(outcomes.items()):
        if one.faults:
            lines.append(f"FAILED {one.kind}: {one.what}\n    " + "\n    ".join(one.faults).replace("\n", "\n    "))
            lines.append(f"    replay: make faults SEED={seed} ONLY={number}")
    return "\n".join(lines)


def main() -> int:
    """Run the scenarios; 1 when one of them shows a fault of the product."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the scenarios to run")
    parser.add_argument("--jobs", type=int, default=1, help="scenarios at a time")
    parser.add_argument("--kill-points", type=int, default=0, help="also kill builds of cpt, sft and rl so many times")
    parser.add_argument("--kind", action="append", help="only scenarios of this kind; may be given several times")
    parser.add_argument("--recipe", choices=sorted(kills.TRAINING), help="only on builds of this kind of stage")
    parser.add_argument("--keep", action="store_true", help="keep the folders of scenarios that failed")
    asked = parser.parse_args()
    kinds = {kind: weight for kind, weight in KINDS.items() if not asked.kind or kind.__name__ in asked.kind}
    if not disks.may_mount():
        kinds = {kind: weight for kind, weight in kinds.items() if kind not in NEED_MOUNTS}
        print("no mount namespace may be made here: a disk that is really full or read-only is left out")
    root, began = Path(tempfile.mkdtemp(prefix="faults-")), time.monotonic()
    forked.warm_up()
    prepared = Prepared(root)
    for recipe in [asked.recipe] if asked.recipe else kills.TRAINING:
        prepared.reference(recipe)
    if asked.recipe:
        kills.TRAINING[:] = [asked.recipe]
    outcomes = run_all(prepared, asked.seed, asked.only or range(1, asked.count + 1), kinds, root, asked.jobs)
    print(summary(outcomes, asked.seed, time.monotonic() - began))
    failed = any(one.faults for one in outcomes.values())
    if asked.kill_points:
        failed |= not kill_points(prepared, asked.seed, asked.kill_points, root)
    if failed and asked.keep:
        print(f"kept: {root}")
    else:
        shutil.rmtree(root, ignore_errors=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
