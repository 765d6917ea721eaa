"""One scenario: a copy of a prepared build, what is done to it, and what must be true afterwards."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import forked
from prepared import CHECKPOINT_EVERY, RUN, Prepared, differences, digest

ANSWERS = (
    "same command",
    "goes on",
    "resume",
    "rebuild",
    "Delete",
    "Remove",
    "Wait",
    "Free",
    "free some",
    "Lower",
    "repair",
    "Restore",
    "lower",
    "mend",
    "Mend",
    "Free disk",
    "pool.timeout_s",
)
"""One of these stands in every refusal: what to do."""


@dataclass
class Outcome:
    """What a scenario showed."""

    kind: str
    what: str = ""
    """Which file, process or message, and where."""
    fired: bool = False
    codes: list[int] = field(default_factory=list)
    lost_stages: list[str] = field(default_factory=list)
    lost_steps: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    wrong_codes: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """Everything that is not as it must be."""
        return [*self.lost_stages, *self.lost_steps, *self.accepted, *self.wrong_codes, *self.unclear]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class Scene:
    """A place for one scenario, its random numbers and its checks."""

    def __init__(self, prepared: Prepared, kind: str, seed: int, root: Path) -> None:
        self.prepared, self.root, self.home = prepared, root, root / "home"
        self.rng = random.Random(f"{kind}-{seed}")
        self.outcome = Outcome(kind)
        self.mark = root / "fired"
        self.recipe = ""
        self._sessions = 0
        root.mkdir(parents=True)

    def begin(self, recipe: str, *, cut_at: str | None = None) -> Path:
        """Copy a prepared home; returns the run folder."""
        self.recipe = recipe
        self.prepared.copy(recipe, self.home, cut_at=cut_at)
        return self.run

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.home / "runs" / RUN

    def build(self, prepare: forked.Prepare = lambda *_: None, *more: str) -> forked.Build:
        """Start the same command."""
        self._sessions += 1
        return forked.Build(self.prepared.words(self.recipe, *more), self.home, self.root / f"said-{self._sessions}", prepare)

    def ends(self, build: forked.Build, allowed: Collection[int]) -> int:
        """Wait for a command; its status must be one of `allowed`, and a refusal must say what to do."""
        code, text = build.wait(), build.text()
        self.outcome.codes.append(code)
        if code not in allowed:
            self.outcome.wrong_codes.append(f"status {code}, wanted {sorted(allowed)}: {text[-1500:]}")
        elif code > 0 and ("Traceback" in text or not any(word in text for word in ANSWERS)):
            self.outcome.unclear.append(f"status {code} without a remedy: {text[-1500:]}")
        return code

    def locks(self) -> dict[str, bytes]:
        """The lock of every finished step: a step that ran again has another."""
        found = self.run.glob("stages/[0-9]*/stage.lock")
        return {path.parent.name: path.read_bytes() for path in found if path.parent.suffix != ".partial"}

    def checkpoint(self) -> tuple[str, int, int] | None:
        """(step, optimiser steps in its newest checkpoint, rows of metrics) of the step that is half done."""
        for folder in self.run.glob("stages/*.partial"):
            found = sorted(path.name for path in folder.glob("checkpoints/step-*"))
            if found:
                rows = folder / "metrics.jsonl"
                return (
                    folder.name.removesuffix(".partial"),
                    int(found[-1][5:]),
                    rows.read_text().count("\n") if rows.exists() else 0,
                )
        return None

    def finish(self, *more: str, kept: bool = True, equal: bool = True) -> None:
        """The same command without the fault: it ends, keeps what was finished, resumes at the checkpoint, and gives equal bytes.

        Args:
            kept: finished steps must not run again.
            equal: compare with the undisturbed build.
        """
        before, half = self.locks(), self.checkpoint()
        if self.ends(self.build(lambda *_: None, *more), {0}) != 0:
            return
        after = self.locks()
        if kept:
            self.outcome.lost_stages += [f"{name} ran again" for name, lock in before.items() if after.get(name) != lock]
        if half is not None and kept:
            self._check_steps(*half)
        if equal:
            self.compare()

    def _check_steps(self, step: str, at: int, rows: int) -> None:
        log = self.run / "stages" / step / "log.txt"
        found = re.findall(r"resumed at step ([0-9]+)", log.read_text(errors="replace")) if log.exists() else []
        if not found or int(found[-1]) != at:
            self.outcome.lost_steps.append(f"{step}: has a checkpoint of step {at}, resumed at {found[-1:] or 'its start'}")
        if rows - at > CHECKPOINT_EVERY:
            self.outcome.lost_steps.append(f"{step}: {rows} steps done, the checkpoint holds {at}")

    def compare(self) -> None:
        """Everything equals the undisturbed build, and what is registered is whole."""
        differs = differences(digest(self.home), self.prepared.wanted[self.recipe])
        if differs:
            self.outcome.accepted.append(f"differs from the undisturbed build: {', '.join(differs)}")
        self.verify()

    def verify(self) -> None:
        """`models verify` finds nothing."""
        from factory.registry.models import Registry

        self.outcome.accepted += [f"{found.path}: {found.what}" for found in Registry(self.home / "registry").verify()]

    def masked(self) -> bool:
        """True when an eval counted verdicts that failed."""
        for path in self.run.glob("stages/*/eval.json"):
            counts = json.loads(path.read_text()).get("verdicts", {})
            if any(by.get("error", 0) or by.get("timeout", 0) for by in _leaves(counts)):
                return True
        return False

    def end(self) -> Outcome:
        """The outcome; the folder goes when all is well."""
        if not self.outcome.faults:
            shutil.rmtree(self.root)
        return self.outcome


def _leaves(node: Any) -> list[dict[str, int]]:
    """Mappings status -> count at any depth."""
    if not isinstance(node, dict):
        return []
    own = [node] if node and all(isinstance(value, int) for value in node.values()) else []
    return own + [leaf for value in node.values() for leaf in _leaves(value)]
