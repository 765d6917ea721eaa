"""Named sets of pieces, one table row each, and how a config becomes the settings of a run.

A preset with an override is no longer the paper's method; `RlSettings.overridden` says so in the plan and the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from factory.errors import ConfigError, near_miss
from factory.stages.rl.config import RlConfig
from factory.stages.rl.pieces.registry import NEEDS, Piece, pick
from factory.stages.rl.pieces.supply import Supply


@dataclass(frozen=True)
class RlSettings:
    """All choices made: what one RL step does."""

    preset: str
    overridden: tuple[str, ...]
    advantage: str
    std_eps: float
    aggregator: str
    eps_low: float
    eps_high: float
    dual_clip: float
    kl_coef: float
    kl_estimator: str
    kl_in: str
    kl_unbiased: bool
    entropy_coef: float
    drop_equal: bool
    oversample: float
    max_refills: int
    on_spent: str
    overlong_filter: bool
    overlong_cache: int
    overlong_factor: float
    max_new_tokens: int
    wanted_groups: int

    def pieces(self) -> tuple[Piece, ...]:
        """The pieces of this run. A KL piece is there only with a coefficient above 0."""
        chosen = [pick("advantage", self.advantage), pick("loss", "clip"), pick("aggregator", self.aggregator)]
        kl = pick("kl", self.kl_estimator)
        if self.kl_coef:
            chosen.append(kl)
        if self.entropy_coef:
            chosen.append(pick("bonus", "entropy"))
        return tuple(chosen)

    def needs(self) -> frozenset[str]:
        """Union of what the pieces need; keys of `NEEDS`."""
        return frozenset[str]().union(*(piece.needs for piece in self.pieces()))

    def extra_forwards(self) -> float:
        """Forwards per trained token beside the one of the update."""
        return sum(NEEDS[need].extra_forwards for need in self.needs())

    def keeps_reference(self) -> bool:
        """True when a reference model is needed."""
        return any(NEEDS[need].keeps_reference for need in self.needs())

    def supply(self) -> Supply:
        """How the step's prompts are drawn."""
        return Supply(self.wanted_groups, self.oversample, self.max_refills, self.drop_equal, self.on_spent)


_GRPO = {
    "advantage": "group_std", "std_eps": 1e-6, "aggregator": "seq_mean_token_mean",
    "eps_low": 0.2, "eps_high": 0.2, "dual_clip": 0.0,
    "kl_coef": 0.0, "kl_estimator": "k3", "kl_in": "loss", "kl_unbiased": False, "entropy_coef": 0.0,
    "drop_equal": False, "oversample": 1.0, "max_refills": 0, "on_spent": "train_smaller",
    "overlong_filter": False, "overlong_cache_share": 0.0, "overlong_factor": 0.5,
}  # fmt: skip

PRESETS: dict[str, Mapping[str, Any]] = {
    # The KL term is off: most work since runs without it, and it costs a reference model. kl_coef=0.04 is the paper's.
    "grpo": _GRPO,
    "dr_grpo": {**_GRPO, "advantage": "group_mean", "aggregator": "constant_length"},
    # The paper's L_max 20480 and cache 4096 are kept as a share of max_new_tokens; its rewards span [-1, 1], ours [0, 1],
    # so the punishment's factor 1 becomes 0.5. Ten draws in all, as in its released settings.
    "dapo": {
        **_GRPO, "aggregator": "token_mean", "eps_high": 0.28, "drop_equal": True, "max_refills": 9, "on_spent": "error",
        "overlong_filter": True, "overlong_cache_share": 0.2,
    },
    # DAPO's loss with twice the prompts in place of refills: the cost of a step is known beforehand. Overlong pieces off,
    # because short answers of small models are cut by loops that should be unlearned.
    "dapo_oversample": {**_GRPO, "aggregator": "token_mean", "eps_high": 0.28, "drop_equal": True, "oversample": 2.0},
}  # fmt: skip


def resolve(config: RlConfig) -> RlSettings:
    """The preset's row with the config's own values on top. Raises ConfigError for an unknown preset or a bad value."""
    if config.preset not in PRESETS:
        raise ConfigError(
            f"rl: preset={config.preset!r} is not known.{near_miss(config.preset, PRESETS)} Choose one of: {', '.join(PRESETS)}."
        )
    values = dict(PRESETS[config.preset])
    values["overlong_cache"] = round(values.pop("overlong_cache_share") * config.max_new_tokens)
    own = {f.name: getattr(config, f.name) for f in fields(RlConfig) if f.name in values and getattr(config, f.name) is not None}
    # Two answers to the same problem: naming one explicitly switches the preset's other off (naming both is refused in `plan`).
    if own.get("oversample", 1.0) > 1.0 and "max_refills" not in own:
        values |= {"max_refills": 0, "on_spent": "train_smaller"}
    if own.get("max_refills", 0) > 0 and "oversample" not in own:
        values["oversample"] = 1.0
    changed = tuple(sorted(key for key, value in own.items() if value != values[key]))
    settings = RlSettings(
        preset=config.preset, overridden=changed, max_new_tokens=config.max_new_tokens,
        wanted_groups=config.prompts_per_step, **(values | own),
    )  # fmt: skip
    settings.pieces()
    settings.supply()
    return settings
