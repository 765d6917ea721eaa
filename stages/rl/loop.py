"""One RL step, in order, and the loop around it.

    draw prompts -> generate -> verify -> mix -> filter / refill -> advantages -> log-probs that the pieces need
    -> clipped loss + KL, aggregated over all processes -> optimiser step(s) -> figures, checkpoint

Old log-probs are the sampler's own when the engine generated with the weights that are now trained (checked against the
learner's on the first step); rollouts of older weights get theirs computed again.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from factory.contracts import RunContext, Sample
from factory.stages.batches import micro_batches, share_of
from factory.stages.learner import Learner
from factory.stages.rl.collector import Collector
from factory.stages.rl.config import RlConfig
from factory.stages.rl.engines.protocol import WeightSource
from factory.stages.rl.logprobs import check_sampler, completion_logprobs
from factory.stages.rl.objective import PolicyObjective, Row, make_batch
from factory.stages.rl.pieces.advantage import has_spread
from factory.stages.rl.pieces.registry import pick
from factory.stages.rl.pieces.sampler import PromptSampler
from factory.stages.rl.pieces.supply import Collected, collect
from factory.stages.rl.presets import RlSettings
from factory.stages.rl.record import RolloutLog, rollout_figures, update_figures
from factory.stages.rl.rollouts import Group, Rollout

log = logging.getLogger(__name__)


@dataclass
class RlLoop:
    """The parts of a run, put together by `stage.py`."""

    config: RlConfig
    settings: RlSettings
    learner: Learner
    collector: Collector
    sampler: PromptSampler
    rollout_log: RolloutLog
    ctx: RunContext
    _has_checked: bool = field(default=False, init=False)

    @property
    def updates_per_step(self) -> int:
        """Optimiser steps of one RL step."""
        return self.config.updates_per_rollout * self.config.minibatches

    def run(self) -> dict[str, float]:
        """Train to the last step, or to where a spent refill budget says stop. Returns the last step's figures."""
        pieces = {"sampler": self.sampler, "rollouts": self.rollout_log}
        first = self.learner.resume(pieces) // self.updates_per_step
        if first == 0:
            self.rollout_log.begin()
        figures: dict[str, float] = {}
        for step in range(first, self.config.num_steps):
            collected, figures = self.step(step)
            done = (step + 1) * self.updates_per_step
            self.rollout_log.add(done, collected.drawn)
            if self.learner.is_main:
                self.ctx.log(step=done, total=self.learner.total_steps, **figures)
            if collected.is_spent and self.settings.on_spent == "stop":
                log.warning("step %d: too few groups had spread and on_spent=stop, so the stage ends here", step + 1)
                break
            self._checkpoint_if_due(done, pieces)
        return figures

    def step(self, step: int) -> tuple[Collected[Group], dict[str, float]]:
        """One RL step (0-based): rollouts, then their updates."""
        start_s = time.monotonic()
        self.collector.begin_step()
        version = step * self.updates_per_step
        self.collector.engine.sync(WeightSource(version, self.learner.model, self.learner.loaded.adapter))
        collected = collect(
            self.settings.supply(), self.sampler.draw,
            lambda samples, round_number: self.collector.roll_out(samples, step, round_number),
            is_useful=lambda group: has_spread(group.values()),
        )  # fmt: skip
        self._set_advantages(collected.kept)
        figures = rollout_figures(collected, self.collector.mixture)
        rollouts_s = time.monotonic()
        rows = self._rows(collected.kept)
        notes = self._complete_logprobs(rows, version)
        updates = [update for number in range(self.config.updates_per_rollout) for update in self._update(rows, step, number)]
        end_s = time.monotonic()
        times = {"time_rollouts_s": rollouts_s - start_s, "time_update_s": end_s - rollouts_s, "time_s": end_s - start_s}
        return collected, figures | update_figures(updates) | notes | times | {"rl_step": step + 1, "epoch": self.sampler.passes}

    def _set_advantages(self, groups: list[Group]) -> None:
        advantages = partial(pick("advantage", self.settings.advantage).function, eps=self.settings.std_eps)
        for group in groups:
            for rollout, advantage in zip(group.rollouts, advantages(group.scores()), strict=True):
                rollout.advantage = advantage

    def _rows(self, groups: list[Group]) -> list[Row]:
        """This process's share of the rollouts that train: not masked, and not truncated under the overlong filter."""
        live = [
            (group.sample, rollout)
            for group in groups
            for rollout in group.rollouts
            if not rollout.is_masked and (rollout.finished or not self.settings.overlong_filter)
        ]
        # Apart, so that all processes run the same parts of the model at the same time.
        kinds = ([pair for pair in live if not pair[0].media], [pair for pair in live if pair[0].media])
        return [row for kind in kinds for row in self._share(kind)]

    def _share(self, live: list[tuple[Sample, Rollout]]) -> list[Row]:
        # Longest first, dealt out in turn: equal work for every process, little padding in its micro-batches.
        live = sorted(live, key=lambda pair: -len(pair[1].ids))
        mine = share_of(live, self.learner.rank, self.learner.world_size)
        rows = [Row(self.collector.prompt(sample), rollout) for sample, rollout in mine]
        if len(rows) < -(-len(live) // self.learner.world_size):
            # A copy that counts for nothing keeps this process in step with the others.
            sample, rollout = live[0]
            rows.append(Row(self.collector.prompt(sample), rollout, is_filler=True))
        return rows

    def _complete_logprobs(self, rows: list[Row], version: int) -> dict[str, float]:
        """Whatever the pieces declared and the rollouts do not carry yet."""
        temperature, notes = self.config.temperature, {}
        stale = [row for row in rows if row.rollout.version != version]
        # All processes decide alike: forwards of a sharded model must match.
        num_stale = sum(self.learner.gather(len(stale)))
        if num_stale:
            found = completion_logprobs(rows, self.learner.model, self.learner, temperature=temperature)
            for row, logprobs in zip(rows, found, strict=True):
                row.rollout.logprobs = logprobs
            notes["stale_rollouts"] = float(num_stale)
        elif rows and not self._has_checked:
            precision = self.ctx.build.get("precision", "fp32")
            notes["sampler_gap"] = check_sampler(rows, self.learner, temperature=temperature, precision=str(precision))
            self._has_checked = True
        if "ref_logprobs" in self.settings.needs() and self.settings.kl_in == "loss":
            self.collector.add_reference(rows)
        return notes

    def _update(self, rows: list[Row], step: int, pass_number: int) -> list[Mapping[str, Any]]:
        """One pass over the rows in `minibatches` optimiser steps. A part without rows is skipped, not trained on nothing."""
        order = list(range(len(rows)))
        if self.config.minibatches > 1:
            random.Random(f"{self.ctx.seed}-minibatches-{step}-{pass_number}").shuffle(order)
        objective = PolicyObjective(self.settings, temperature=self.config.temperature)
        updates = []
        for part in range(self.config.minibatches):
            chosen = sorted(order[part :: self.config.minibatches])
            if not chosen:
                self.learner.skip()
                continue
            batches = [
                make_batch([rows[i] for i in few], self.learner.loaded.codec, self.learner.device)
                for few in micro_batches(chosen, self.learner.optim.micro_batch_size)
            ]
            updates.append(self.learner.step(batches, objective))
        return updates

    def _checkpoint_if_due(self, done: int, pieces: Mapping[str, Any]) -> None:
        """Every `optim.checkpoint_every` optimiser steps, rounded up to whole RL steps; not after the last."""
        every = self.learner.optim.checkpoint_every
        if every > 0 and done < self.learner.total_steps and done // every > (done - self.updates_per_step) // every:
            self.learner.save_checkpoint(done, pieces)
