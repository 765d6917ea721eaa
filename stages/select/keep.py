"""Put the selectors together: each prompt is kept by all that are asked, or told which one turned it down. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from factory.stages.lesson_files import PromptStat
from factory.stages.select.config import SelectConfig
from factory.stages.select.need import needs_images
from factory.stages.select.repeats import times_for
from factory.stages.select.variance import in_top, reaches_quantile
from factory.stages.select.window import in_window


def choose_prompts(stats: Sequence[PromptStat], config: SelectConfig) -> list[PromptStat]:
    """The same prompts, in order, with `kept`, `why` and `repeat` filled in.

    Every selector looks at all prompts, not at what another one left: so their order does not matter.
    """
    spread_out = _spread_out(stats, config)
    return [_judged(stat, has_spread, config) for stat, has_spread in zip(stats, spread_out, strict=True)]


def _spread_out(stats: Sequence[PromptStat], config: SelectConfig) -> list[bool]:
    variances = [stat.variance for stat in stats]
    if config.variance_quantile is not None:
        return reaches_quantile(variances, config.variance_quantile)
    if config.variance_top:
        return in_top(variances, [stat.sample_id for stat in stats], config.variance_top)
    return [True] * len(stats)


def _judged(stat: PromptStat, has_spread: bool, config: SelectConfig) -> PromptStat:
    why = _refusal(stat, has_spread, config)
    if why:
        return replace(stat, kept=False, repeat=0, why=why)
    assert stat.pass_rate is not None, "an unknown pass rate is refused first"
    return replace(stat, kept=True, repeat=times_for(stat.pass_rate, config.repeat), why="kept")


def _refusal(stat: PromptStat, has_spread: bool, config: SelectConfig) -> str:
    """Why a prompt is not kept; empty when it is."""
    if stat.pass_rate is None:
        return "every rollout was masked"
    if not in_window(stat.pass_rate, config.min_pass, config.max_pass):
        is_low = config.min_pass is not None and stat.pass_rate <= config.min_pass
        return f"pass rate {stat.pass_rate:.3g} is {'not above min_pass' if is_low else 'not below max_pass'}"
    if not has_spread:
        return f"reward variance {stat.variance:.3g} is too small"
    if config.blind_rollouts and not needs_images(stat.rap_d, config.min_rap_d):
        told = "unknown, every blind rollout was masked" if stat.rap_d is None else f"{stat.rap_d:.3g}"
        return f"RAP D is {told}, wanted {config.min_rap_d:.3g}"
    return ""
