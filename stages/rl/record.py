"""What a step leaves behind: figures for metrics.jsonl, the first rollouts for rollouts.jsonl, counts of its tasks for tasks.jsonl."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.errors import TrainingError
from factory.rewards.task_stats import FILE_NAME as TASKS_FILE
from factory.stages.rl.pieces.advantage import has_spread
from factory.stages.rl.pieces.supply import Collected
from factory.stages.rl.rollouts import FRESH, Group, Rollout
from factory.stages.rl.task_figures import task_counts

FILE_NAME = "rollouts.jsonl"
_BLOCK = 2**20
KEPT_GROUPS, KEPT_ROLLOUTS, KEPT_CHARACTERS = 4, 2, 2000
"""Per step: so many groups, so many rollouts of each, so much of each text. Bounds the file to num_steps x 8 rows."""


def mean(values: Iterable[float]) -> float | None:
    """Arithmetic mean, None of nothing."""
    found = list(values)
    return sum(found) / len(found) if found else None


def rollout_figures(collected: Collected, trained: Sequence[Group] = ()) -> dict[str, float]:
    """Figures of all rollouts that were drawn, kept or not; a figure with nothing to average is left out.

    `trained`: the groups after injection and resampling; `replay_share` is their share of rollouts not sampled in this step.

    `reward` and `reward/<verifier>` are means over unmasked rollouts, before shaping. Lengths are in tokens, shares in [0, 1].
    `kl` is there when it is part of the reward (nats per token, k1).
    """
    pairs = [(group, rollout) for group in collected.drawn for rollout in group.rollouts]
    rollouts = [rollout for _, rollout in pairs]
    live = [(group, rollout) for group, rollout in pairs if not rollout.is_masked]
    right: dict[bool, list[int]] = {True: [], False: []}
    parts: dict[str, list[float]] = defaultdict(list)
    for _, rollout in live:
        right[rollout.right].append(len(rollout.ids))
        for name, score in rollout.reward.parts.items():
            parts[name].append(score)
    with_entropy = [rollout for rollout in rollouts if rollout.entropy is not None]
    tokens = sum(len(rollout.ids) for rollout in with_entropy)
    found = {
        "reward": mean(rollout.value for _, rollout in live),
        **{f"reward/{name}": mean(scores) for name, scores in sorted(parts.items())},
        "shaping": mean(math.fsum(rollout.shaping.values()) for _, rollout in live),
        **_shaping(live), "replay_share": mean(r.kind != FRESH for group in trained for r in group.rollouts),
        "zero_advantage_share": mean(not has_spread(group.values()) for group in collected.drawn),
        "masked_share": mean(rollout.is_masked for rollout in rollouts),
        "truncated_share": mean(not rollout.finished for rollout in rollouts),
        "entropy": sum(r.entropy * len(r.ids) for r in with_entropy) / tokens if tokens else None,
        "length": mean(len(rollout.ids) for rollout in rollouts),
        "length_right": mean(right[True]), "length_wrong": mean(right[False]),
        "groups_drawn": len(collected.drawn), "groups_kept": len(collected.kept), "refills": collected.num_refills,
        "generated_tokens": sum(len(rollout.ids) for rollout in rollouts), "kl": _mean_kl(rollouts),
    }  # fmt: skip
    return {name: float(value) for name, value in found.items() if value is not None}


def _shaping(live: Sequence[tuple[Group, Rollout]]) -> dict[str, float | None]:
    """Mean of every added reward term, `shaping/<piece>`."""
    names = sorted({name for _, rollout in live for name in rollout.shaping})
    return {f"shaping/{name}": mean(rollout.shaping.get(name, 0.0) for _, rollout in live) for name in names}


def _mean_kl(rollouts: Sequence[Rollout]) -> float | None:
    compared = [rollout for rollout in rollouts if rollout.ref_logprobs]
    return mean(a - b for rollout in compared for a, b in zip(rollout.logprobs, rollout.ref_logprobs, strict=True))


def update_figures(updates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Figures of the step's optimiser steps: loss and gradient norm averaged, token counts summed, shares over tokens.

    `update_entropy`: of the policy over the trained tokens as each update met it, nats (`entropy` is the sampler's, of all rollouts).
    """
    if not updates:
        return {"tokens": 0.0, "updates": 0.0}
    tokens = sum(update["tokens"] for update in updates)
    good = [update for update in updates if "bad_steps" not in update]
    names = ("clipped_low", "clipped_high", "kl_sum", "entropy_sum")
    share = {name: sum(update.get(name, 0.0) for update in updates) / max(tokens, 1.0) for name in names}
    found = {
        **({key: sum(u[key] for u in good) / len(good) for key in ("loss", "grad_norm")} if good else {}),
        "lr": updates[-1]["lr"], "tokens": tokens, "updates": float(len(updates)),
        "update_entropy": share["entropy_sum"],
        "clip_share": share["clipped_low"] + share["clipped_high"],
        "clip_share_low": share["clipped_low"], "clip_share_high": share["clipped_high"],
        **{name: sum(u.get(name, 0.0) for u in updates) / max(tokens, 1.0) for name in sorted(updates[0]) if name.startswith("auxiliary/")},
        **({"bad_steps": float(len(updates) - len(good))} if len(good) < len(updates) else {}),
        **({"skipped_updates": sum(u.get("skipped", 0.0) for u in updates)} if any("skipped" in u for u in updates) else {}),
    }  # fmt: skip
    return found | ({"kl": share["kl_sum"]} if any("kl_sum" in u for u in updates) else {})


class RolloutLog:
    """Appends a few rollouts of every step to `rollouts.jsonl`, and counts of its tasks to `tasks.jsonl`.

    `Stateful`: a resumed run cuts the files to its checkpoint.
    """

    def __init__(self, workdir: Path, *, is_main: bool) -> None:
        self._path, self._tasks = workdir / FILE_NAME, workdir / TASKS_FILE
        self._is_main = is_main

    def begin(self) -> None:
        """Empty the files: a run that starts at its first step."""
        if self._is_main:
            self._path.write_bytes(b"")
            self._tasks.write_bytes(b"")

    def add(self, step: int, groups: Sequence[Group], *, version: int) -> None:
        """Write the first rollouts of the first groups (main process only). `version`: updates that the trained weights had seen."""
        if not self._is_main:
            return
        with self._path.open("a", encoding="utf-8") as file:
            for group in groups[:KEPT_GROUPS]:
                for rollout in group.rollouts[:KEPT_ROLLOUTS]:
                    file.write(json.dumps(_as_json(step, version, group, rollout)) + "\n")
        with self._tasks.open("a", encoding="utf-8") as file:
            rows = {task: count.row() for task, count in task_counts(groups).items()}
            file.write(json.dumps({"step": step, "tasks": rows}) + "\n")

    def state_dict(self) -> dict[str, Any]:
        """Bytes written so far, and their hash."""
        state: dict[str, Any] = {}
        for name, path in (("", self._path), ("tasks_", self._tasks)):
            num_bytes, digest = _head_of(path if self._is_main else None)
            state |= {f"{name}bytes": num_bytes, f"{name}sha256": digest}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Cut what was written after the checkpoint. Raises TrainingError when what was written before it is no longer there."""
        for name, path in (("", self._path), ("tasks_", self._tasks)):
            if not self._is_main:
                continue
            num_bytes, digest = _head_of(path, state[f"{name}bytes"])
            if digest != state[f"{name}sha256"]:
                raise TrainingError(
                    f"{path}: is not what was written up to the checkpoint. "
                    f"Delete {path.parent / 'checkpoints'} to train the stage from its start."
                )
            if path.exists():
                os.truncate(path, num_bytes)


def _head_of(path: Path | None, limit: int | None = None) -> tuple[int, str]:
    """(bytes, sha256) of a file's first `limit` bytes, read block by block: a long run's log is larger than its memory. (0, of nothing) without one."""
    digest, num_bytes = hashlib.sha256(), 0
    if path is not None and path.exists():
        with path.open("rb") as file:
            while block := file.read(_BLOCK if limit is None else min(_BLOCK, limit - num_bytes)):
                digest.update(block)
                num_bytes += len(block)
    return num_bytes, digest.hexdigest()


def _as_json(step: int, version: int, group: Group, rollout: Rollout) -> dict[str, Any]:
    reward = rollout.reward
    return {
        "step": step, "sample": group.sample.id, "task": group.sample.task, "prompt": group.sample.text()[:KEPT_CHARACTERS],
        "completion": rollout.text[:KEPT_CHARACTERS],
        "value": rollout.value, "shaping": math.fsum(rollout.shaping.values()), "kind": rollout.kind, "advantage": rollout.advantage,
        "tokens": len(rollout.ids), "finished": rollout.finished, "masked": rollout.is_masked, "version": rollout.version, "staleness": version - rollout.version if rollout.kind == FRESH else None,
        "parts": dict(reward.parts) if reward else {}, "statuses": dict(reward.statuses) if reward else {},
        "reasons": dict(reward.reasons) if reward else {},
    }  # fmt: skip
