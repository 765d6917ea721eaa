"""The run of a select stage: roll out batch by batch, then measure, choose and write. All that is written is a pure function of
the rollouts and the settings."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from factory.contracts import Lesson, Outputs, Pair, RunContext, Sample
from factory.errors import DataError
from factory.rewards.judges.pool import scoring_pool
from factory.rewards.judges.settings import build_mixture
from factory.stages.lesson_files import LESSONS, PAIRS, PROMPTS, PromptStat, lesson_row, prompt_row, write_rows
from factory.stages.metrics import FILE_NAME, truncate_metrics
from factory.stages.models.load import load
from factory.stages.select.config import Fallback, SelectConfig
from factory.stages.select.keep import choose_prompts
from factory.stages.select.lessons import own_lessons, pack_lessons
from factory.stages.select.pairs import own_pairs
from factory.stages.select.progress import missing, read_batches, split, wait_for_all, write_batch
from factory.stages.select.roll_out import Roller
from factory.stages.select.rollouts import Scored, measure_prompt
from factory.stages.select.stage import ROLLOUTS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prompt:
    """One sample with its rollouts and what they say."""

    sample: Sample
    rollouts: list[Scored]
    stat: PromptStat


def run(config: SelectConfig, ctx: RunContext) -> Outputs:
    """Write rollouts.jsonl, prompts.jsonl, lessons.jsonl and pairs.jsonl under `ctx.workdir`; resumes by itself.

    Raises:
        DataError: no samples, one of another split, an id twice, or a prompt without room to answer.
        RewardError: verifiers failed more often than `pool.max_error_rate`.
    """
    samples = train_samples(config, ctx)
    num_batches = roll_out_missing(config, ctx, samples)
    if int(os.environ.get("RANK", "0")) != 0:
        return Outputs(files=())
    wait_for_all(ctx.workdir, num_batches)
    rollouts = read_batches(ctx.workdir, num_batches)
    prompts = judge(samples, rollouts, config)
    rows = lesson_rows(prompts, config, ctx)
    pairs = pair_rows(prompts, config, ctx.seed)
    write_rows(ctx.workdir / ROLLOUTS, (rollout.to_json() for rollout in rollouts))
    write_rows(ctx.workdir / PROMPTS, (prompt_row(prompt.stat) for prompt in prompts))
    write_rows(ctx.workdir / LESSONS, rows)
    write_rows(ctx.workdir / PAIRS, pairs)
    return Outputs(metrics=summary(prompts, rows, pairs), files=(ROLLOUTS, PROMPTS, LESSONS, PAIRS))


def train_samples(config: SelectConfig, ctx: RunContext) -> list[Sample]:
    """The prompts, of the training split only. Raises DataError: none, one of another split, or an id twice."""
    samples = list(ctx.pack.samples("train", ctx.seed, replace(ctx.request, limit=config.samples)))[: config.samples]
    if not samples:
        raise DataError(f"pack '{ctx.domain}' gives no training samples, so there is nothing to roll out. Check the data paths.")
    ids: set[str] = set()
    for sample in samples:
        if sample.split != "train":
            raise DataError(
                f"sample {sample.id!r} is of the {sample.split} split, but was given as training data. Mend the pack's loader."
            )
        if sample.id in ids:
            raise DataError(f"sample id {sample.id!r} occurs twice; statistics and lessons are kept by id. Make ids unique.")
        ids.add(sample.id)
    return samples


def roll_out_missing(config: SelectConfig, ctx: RunContext, samples: Sequence[Sample]) -> int:
    """Roll out this process's share of the batches that are not on disk yet. Returns the number of all batches."""
    batches = split(samples, config.batch)
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    own = range(len(batches))[rank::world_size]
    to_do = [number for number in missing(ctx.workdir, len(batches)) if number in own]
    num_done = len(own) - len(to_do)
    if rank == 0:
        # Rows are logged before their batch is whole, so a killed stage may have left one more.
        truncate_metrics(ctx.workdir / FILE_NAME, num_done)
    if not to_do:
        return len(batches)
    loaded = load(ctx.model_dir, precision=ctx.build["precision"])
    loaded.model.eval()
    mixture = build_mixture(ctx.pack.manifest.tasks, ctx.build)
    with scoring_pool(ctx.domain, ctx.build, mixture, workdir=ctx.workdir) as pool:
        roller = Roller(loaded, pool, mixture, config, ctx.seed)
        for step, number in enumerate(to_do, num_done + 1):
            rollouts = roller.roll_out(batches[number], number)
            ctx.log(step=step, total=len(own), phase="roll out", **_rates(rollouts))
            write_batch(ctx.workdir, number, rollouts)
    return len(batches)


def _rates(rollouts: Sequence[Scored]) -> dict[str, float]:
    counted = [rollout.value for rollout in rollouts if not rollout.masked and not rollout.blind]
    return {
        "reward": sum(counted) / max(1, len(counted)),
        "masked": sum(rollout.masked for rollout in rollouts),
        "tokens": sum(rollout.tokens for rollout in rollouts),
    }


def judge(samples: Sequence[Sample], rollouts: Sequence[Scored], config: SelectConfig) -> list[Prompt]:
    """Measure every prompt, then let the selectors choose."""
    of: dict[str, list[Scored]] = {sample.id: [] for sample in samples}
    for rollout in rollouts:
        of[rollout.sample].append(rollout)
    stats = [
        measure_prompt(sample.id, of[sample.id], config.right_from, is_text_only=config.blind_rollouts > 0 and not sample.media)
        for sample in samples
    ]
    chosen = choose_prompts(stats, config)
    return [Prompt(sample, of[sample.id], stat) for sample, stat in zip(samples, chosen, strict=True)]


def lesson_rows(prompts: Sequence[Prompt], config: SelectConfig, ctx: RunContext) -> list[dict[str, object]]:
    """Lines of lessons.jsonl in the order of the samples: own traces of kept prompts, the pack's lesson where none is right."""
    hopeless = [p.sample.id for p in prompts if p.stat.pass_rate == 0] if config.fallback is Fallback.pack else []
    expert = pack_lessons(hopeless, ctx.pack.lessons("train", ctx.seed, ctx.request) if hopeless else ())
    if hopeless and len(expert) < len(hopeless):
        log.warning("the pack has lessons for %d of %d prompts that no rollout answers right", len(expert), len(hopeless))
    rows: list[dict[str, object]] = []
    for prompt in prompts:
        if prompt.stat.kept:
            for trace in own_lessons(prompt.rollouts, config.lessons, right_from=config.right_from, seed=ctx.seed):
                rows.append(lesson_row(Lesson(prompt.sample, trace.text), origin="model", tokens=trace.tokens))
        if prompt.sample.id in expert:
            rows.append(lesson_row(expert[prompt.sample.id], origin="pack"))
    return rows


def pair_rows(prompts: Sequence[Prompt], config: SelectConfig, seed: int) -> list[dict[str, object]]:
    """Lines of pairs.jsonl in the order of the samples."""
    rows = []
    for prompt in prompts:
        if prompt.stat.kept:
            for winner, loser in own_pairs(
                prompt.rollouts, config.pairs, right_from=config.right_from, longer=config.longer, max_pairs=config.max_pairs,
                seed=seed,
            ):  # fmt: skip
                lengths = {"chosen_tokens": winner.tokens, "rejected_tokens": loser.tokens}
                values = {"chosen_value": winner.value, "rejected_value": loser.value}
                rows.append(
                    Pair(prompt.sample, winner.text, loser.text, {"rule": config.pairs.value, **lengths, **values}).to_json()
                )
    return rows


def summary(prompts: Sequence[Prompt], lessons: Sequence[Mapping[str, object]], pairs: Sequence[object]) -> dict[str, object]:
    """Figures of the stage; also warns when nothing is left to learn from."""
    stats = [prompt.stat for prompt in prompts]
    rates = [stat.pass_rate for stat in stats if stat.pass_rate is not None]
    kept = sum(stat.kept for stat in stats)
    if not kept:
        reasons = sorted({stat.why for stat in stats})
        log.warning(
            "none of %d prompts is kept (%s). More rollouts or a wider window may help.", len(stats), "; ".join(reasons[:3])
        )
    origins = [row["origin"] for row in lessons]
    return {
        "num_prompts": len(stats), "num_kept": kept, "num_solved": sum(rate == 1 for rate in rates),
        "num_hopeless": sum(rate == 0 for rate in rates), "num_unknown": len(stats) - len(rates),
        "mean_pass_rate": sum(rates) / len(rates) if rates else None, "num_masked": sum(stat.num_masked for stat in stats),
        "num_lessons": len(lessons), "num_pack_lessons": origins.count("pack"), "num_pairs": len(pairs),
        "num_repeated": sum(stat.repeat for stat in stats),
    }  # fmt: skip
