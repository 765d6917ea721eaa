"""One RL step, in order, and the loop around it.

    draw prompts -> render -> generate -> hooks -> verify -> hooks -> group rewards -> filter / refill -> mix -> inject
    -> advantages -> weigh -> resample -> token weights -> log-probs that the pieces need
    -> policy loss x weights + KL + auxiliary terms, aggregated over all processes -> optimiser step(s)
    -> what sampler, buffers and reference learn from it -> figures, checkpoint

Old log-probs are the sampler's own when the engine generated with the weights that are now trained (checked against the
learner's on the first step); rollouts of older weights get theirs computed again. Stored and foreign rollouts keep theirs, and so
do those that `one_step_off` wrote a step ago.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from typing import Any

from factory.contracts import RunContext, Sample
from factory.stages.batches import longest_first, share_of
from factory.stages.learner import Learner
from factory.stages.rl.collector import Collector
from factory.stages.rl.config import RlConfig
from factory.stages.rl.context import StepContext
from factory.stages.rl.engines.protocol import WeightSource
from factory.stages.rl.logprobs import SamplerCheck, completion_logprobs
from factory.stages.rl.objective import PolicyObjective, Row, make_batch
from factory.stages.rl.one_step_off import OneStepOff, Order, staleness
from factory.stages.rl.padding import cut
from factory.stages.rl.pieces.supply import Collected, collect
from factory.stages.rl.pool import PromptPool
from factory.stages.rl.presets import Chosen
from factory.stages.rl.record import RolloutLog, rollout_figures, update_figures
from factory.stages.rl.rollouts import FRESH, Group, Rollout
from factory.stages.rl.services import RunServices
from factory.stages.rl.task_figures import task_figures

log = logging.getLogger(__name__)


@dataclass
class RlLoop:
    """The parts of a run, put together by `stage.py`."""

    config: RlConfig
    chosen: Chosen
    learner: Learner
    collector: Collector
    prompts: PromptPool
    rollout_log: RolloutLog
    services: RunServices
    ctx: RunContext
    sampler_check: SamplerCheck = field(default_factory=SamplerCheck, init=False)

    @property
    def updates_per_step(self) -> int:
        """Optimiser steps of one RL step."""
        return self.config.updates_per_rollout * self.config.minibatches

    def run(self) -> dict[str, float]:
        """Train to the last step, or to where a spent refill budget says stop. Returns the last step's figures."""
        pieces = {
            "prompts": self.prompts,
            "rollouts": self.rollout_log,
            "sampler_check": self.sampler_check,
            **self.chosen.stateful(),
        }
        if hasattr(self.collector.reference, "state_dict"):
            pieces["reference"] = self.collector.reference
        if self.collector.watch is not None:
            pieces["watch"] = self.collector.watch
        if isinstance(self.collector.engine, OneStepOff):
            pieces["next_rollouts"] = self.collector.engine
        first = self.learner.resume(pieces) // self.updates_per_step
        if first == 0:
            self.rollout_log.begin()
        figures: dict[str, float] = {}
        for step in range(first, self.config.num_steps):
            collected, figures = self.step(step)
            done = (step + 1) * self.updates_per_step
            self.rollout_log.add(done, collected.drawn, version=step * self.updates_per_step)
            if self.learner.is_main:
                self.ctx.log(step=done, total=self.learner.total_steps, **figures)
            why = self._why_end(collected)
            if why:
                log.warning("step %d: %s, so the stage ends here", step + 1, why)
                break
            self._checkpoint_if_due(done, pieces)
        return figures

    def _why_end(self, collected: Collected) -> str:
        """Why the stage ends before its last step; empty when it goes on."""
        if collected.is_spent and self.chosen.one("supply").on_spent == "stop":
            return "too few groups had spread and on_spent=stop"
        if getattr(self.chosen.one("sampler"), "is_over", False):
            return "a set of prompts has no unseen one left"
        if not self.prompts.has_eligible():
            return "the pool pieces have set all prompts aside"
        return ""

    def step(self, step: int) -> tuple[Collected, dict[str, float]]:
        """One RL step (0-based): rollouts, then their updates."""
        start_s = time.monotonic()
        self.learner.enter(f"RL step {step + 1} of {self.config.num_steps}: rollouts and their rewards")
        ctx = self.context(step)
        self.collector.begin_step()
        version = step * self.updates_per_step
        engine = self.collector.engine
        weights = WeightSource(version, self.learner.model, self.learner.loaded.adapter)
        if isinstance(engine, OneStepOff):
            landed = engine.begin(step, weights, self._ask_ahead)
            ctx.metrics |= {**landed.figures, "time_waited_s": time.monotonic() - start_s}
        else:
            engine.sync(weights)
            landed = None
        if hasattr(engine, "figures"):
            ctx.metrics |= engine.figures()
        collected = collect(
            self.chosen.one("supply"), self.config.prompts_per_step,
            lambda num: self._draw(ctx, num) if landed is None else [self.prompts.samples[place] for place in landed.prompts],
            lambda samples, round_number: self.collector.roll_out(ctx, samples, round_number),
        )  # fmt: skip
        groups = self.credit(ctx, collected.kept)
        figures = rollout_figures(collected, groups) | task_figures(collected.drawn, self.prompts.num_tasks)
        if landed is not None:
            figures |= staleness(collected.drawn, version)
        rollouts_s = time.monotonic()
        rows = self._rows(groups)
        notes = self._complete_logprobs(rows, version)
        if hasattr(engine, "rest"):
            engine.rest()
        updates = [update for number in range(self.config.updates_per_rollout) for update in self._update(ctx, rows, number)]
        self._after_updates()
        updated = update_figures(updates)
        ctx.measured_kl = updated.get("kl", figures.get("kl"))
        self._learn_from(ctx, collected)
        end_s = time.monotonic()
        times = {"time_rollouts_s": rollouts_s - start_s, "time_update_s": end_s - rollouts_s, "time_s": end_s - start_s}
        return collected, figures | updated | ctx.metrics | notes | times | {"rl_step": step + 1}

    def context(self, step: int) -> StepContext:
        """The step as pieces see it, with the limits and coefficients that hold at it."""
        ctx = self._limited(step)
        kl = self.chosen.one("kl")
        if kl is not None:
            ctx.kl_coef = self.chosen.one("kl_schedule").coef(ctx, kl.coef)
            ctx.metrics["kl_coef"] = ctx.kl_coef
        for piece in self.chosen.made.values():
            if hasattr(piece, "masked_view"):
                self.services.mask_view = partial(piece.masked_view, ctx, self.learner.loaded.codec)
        return ctx

    def _limited(self, step: int) -> StepContext:
        """What a step's draw needs of its context: limits, no coefficients."""
        ctx = StepContext(
            step, self.config.num_steps, self.ctx.seed, self.config.max_new_tokens, self.config.group_size,
            temperature=self.config.temperature, services=self.services, aggregator=self.chosen.one("aggregator").key, mixture=self.collector.mixture,
        )  # fmt: skip
        for clock in self.chosen.many("clock"):
            ctx.max_new_tokens, ctx.group_size = clock.limits(ctx)
        return ctx

    def _ask_ahead(self, step: int) -> Order:
        """The first draw of a step that has not begun, as the engine is asked for it."""
        ctx = self._limited(step)
        samples = self._draw(ctx, self.chosen.one("supply").first_draw(self.config.prompts_per_step))
        places = [place for sample in samples if (place := self.prompts.place_of(sample.id)) is not None]
        rendered = [self.chosen.one("format").render(sample) for sample in samples]
        return Order(step, places, ctx.metrics, *self.collector.ask_for(ctx, rendered, 0))

    def credit(self, ctx: StepContext, groups: list[Group]) -> list[Group]:
        """From scored groups to the rollouts that train, with their advantages and weights. The same on every process."""
        for piece in self.chosen.many("inject"):
            groups = piece.apply(ctx, groups)
        self.chosen.one("mixer").mix(ctx, groups)
        self.chosen.one("advantage").estimate(ctx, groups)
        # KL weights ask for the group's pass rate, so they come before anything is dropped from it.
        for slot in ("weigh", "kl_weight"):
            for piece in self.chosen.many(slot):
                piece.apply(ctx, groups)
        for piece in self.chosen.many("resample"):
            groups = piece.apply(ctx, groups)
        for piece in self.chosen.many("token_weight"):
            piece.apply(ctx, groups)
        return groups

    def _draw(self, ctx: StepContext, num: int) -> list[Sample]:
        """Prompts that a replay piece wants answered again, then the sampler's."""
        places: list[int] = []
        for piece in self.chosen.many("inject"):
            if hasattr(piece, "reserve"):
                places += piece.reserve(ctx, self.prompts, num - len(places))
        if len(places) < num:
            places += self.chosen.one("sampler").draw(ctx, self.prompts, num - len(places))
        return [self.prompts.samples[place] for place in places]

    def _learn_from(self, ctx: StepContext, collected: Collected) -> None:
        """What was drawn goes to every piece that keeps count: `observe(ctx, groups)` of sampler, buffers, schedules, reference."""
        self.prompts.observe(ctx.step, collected.drawn)
        for piece in self.chosen.made.values():
            if hasattr(piece, "observe"):
                piece.observe(ctx, collected.drawn)
        if self.collector.reference is not None:
            self.collector.reference.update(ctx.step, self.learner.model)

    def _rows(self, groups: Sequence[Group]) -> list[Row]:
        """This process's share of the rollouts that train: not masked, with at least one token to train on."""
        live = [
            (group.sample, rollout)
            for group in groups
            for rollout in group.rollouts
            if not rollout.is_masked and rollout.weight and any(rollout.trained())
        ]
        # Apart, so that all processes run the same parts of the model at the same time.
        kinds = ([pair for pair in live if not pair[0].media], [pair for pair in live if pair[0].media])
        return [row for kind in kinds for row in self._share(kind)]

    def _share(self, live: list[tuple[Sample, Rollout]]) -> list[Row]:
        # Equal work for every process, little padding in its micro-batches.
        live = longest_first(live, self.learner.world_size, lambda pair: len(pair[1].ids))
        mine = share_of(live, self.learner.rank, self.learner.world_size)
        rows = [Row(self.collector.prompt(sample), rollout, sample_id=sample.id) for sample, rollout in mine]
        if len(rows) < -(-len(live) // self.learner.world_size):
            # A copy that counts for nothing keeps this process in step with the others.
            sample, rollout = live[0]
            rows.append(Row(self.collector.prompt(sample), rollout, is_filler=True, sample_id=sample.id))
        return rows

    def _complete_logprobs(self, rows: list[Row], version: int) -> dict[str, float]:
        """Whatever the pieces declared and the rollouts do not carry yet."""
        temperature, notes = self.config.temperature, {}
        fresh = [row for row in rows if row.rollout.kind == FRESH]
        is_behind = self.config.one_step_off
        stale = [row for row in fresh if row.rollout.version != version and not is_behind]
        # All processes decide alike: forwards of a sharded model must match.
        num_stale = sum(self.learner.gather(len(stale)))
        if num_stale:
            found = completion_logprobs(rows, self.learner.model, self.learner, temperature=temperature)
            for row, logprobs in zip(rows, found, strict=True):
                if row.rollout.kind == FRESH:
                    row.rollout.logprobs = logprobs
            notes["stale_rollouts"] = float(num_stale)
        elif rows and not self.sampler_check.is_done and not (is_behind and version):
            precision = self.ctx.build.get("precision", "fp32")
            notes |= self.sampler_check(fresh, self.learner, temperature=temperature, precision=str(precision))
        kl = self.chosen.one("kl")
        if kl is not None and kl.place == "loss":
            self.collector.add_reference(rows)
        if "masked_view" in self.chosen.needs():
            self._add_masked_view(rows)
        return notes

    def _add_masked_view(self, rows: list[Row]) -> None:
        """Rows with images: log-probs with part of the image hidden, or only that view where a piece trains through it."""
        seen = [row for row in rows if row.prompt.pixels is not None]
        views = {row.sample_id: row.prompt for row in seen}
        views = {name: self.services.mask_view(name, prompt) for name, prompt in views.items()}
        if any(getattr(term, "recompute", False) for term in self.chosen.many("auxiliary")):
            for row in seen:
                row.masked_prompt = views[row.sample_id]
            return
        masked = [Row(views[row.sample_id], row.rollout) for row in seen]
        found = completion_logprobs(masked, self.learner.model, self.learner, temperature=self.config.temperature)
        for row, logprobs in zip(seen, found, strict=True):
            row.rollout.masked_logprobs = logprobs

    def _update(self, ctx: StepContext, rows: list[Row], pass_number: int) -> list[Mapping[str, Any]]:
        """One pass over the rows in `minibatches` optimiser steps. A part without rows is skipped, not trained on nothing."""
        order = list(range(len(rows)))
        if self.config.minibatches > 1:
            random.Random(f"{self.ctx.seed}-minibatches-{ctx.step}-{pass_number}").shuffle(order)
        kl = self.chosen.one("kl")
        kl_coef = ctx.kl_coef if kl is not None and kl.place == "loss" else 0.0
        objective = PolicyObjective(self.chosen, ctx, temperature=self.config.temperature, kl_coef=kl_coef)
        rules = self.chosen.many("step_rule")
        updates = []
        for part in range(self.config.minibatches):
            chosen = sorted(order[part :: self.config.minibatches])
            if not any(self.learner.gather(len(chosen))):
                self.learner.skip()
                continue
            mine = [rows[i] for i in chosen]
            self._flag(mine, is_first=pass_number == 0 and part == 0)
            # All processes cut alike, by the longest row at each place: forwards of a sharded model must match.
            longest = [max(those) for those in zip_longest(*self.learner.gather([row.length for row in mine]), fillvalue=0)]
            batches = [
                make_batch([mine[i] for i in few], self.learner.loaded.codec, self.learner.device)
                for few in cut(longest[: len(mine)], self.learner.optim.micro_batch_size)
            ]
            allows = (lambda norm: all(rule.allows(norm) for rule in rules)) if rules else None
            updates.append(self.learner.step(batches, objective, allows=allows))
        return updates

    def _after_updates(self) -> None:
        """Once per RL step: `after_updates(learner)` of a loss that ends an iteration (mirror descent)."""
        loss = self.chosen.one("loss")
        if hasattr(loss, "after_updates"):
            loss.after_updates(self.learner)

    def _flag(self, rows: list[Row], *, is_first: bool) -> None:
        """Let the loss (or a term beside it) choose tokens by what it sees over the whole optimiser step, on all processes."""
        flaggers = [piece for piece in self.chosen.made.values() if hasattr(piece, "flag")]
        if not flaggers:
            return
        temperature = self.config.temperature
        if is_first and not self.config.one_step_off and all(self.learner.gather(all(row.rollout.kind == FRESH for row in rows))):
            now = [row.rollout.logprobs for row in rows]
        else:
            now = completion_logprobs(rows, self.learner.model, self.learner, temperature=temperature)
        own = [
            (list(logprobs), row.rollout.per_token_advantages(), [0] * len(logprobs) if row.is_filler else row.rollout.trained())
            for row, logprobs in zip(rows, now, strict=True)
        ]
        shares = self.learner.gather(own)
        flags = flaggers[0].flag([one for share in shares for one in share])
        start = sum(len(share) for share in shares[: self.learner.rank])
        for row, chosen in zip(rows, flags[start : start + len(rows)], strict=True):
            row.flags = chosen

    def _checkpoint_if_due(self, done: int, pieces: Mapping[str, Any]) -> None:
        """Every `optim.checkpoint_every` optimiser steps, rounded up to whole RL steps; not after the last."""
        every = self.learner.optim.checkpoint_every
        is_due = every > 0 and done < self.learner.total_steps and done // every > (done - self.updates_per_step) // every
        is_due = is_due and self.learner.setbacks.is_sound
        if is_due:
            self.learner.save_checkpoint(done, pieces)
        self.learner.stop_if_asked(done, pieces, is_saved=is_due)
