"""The `expert` stage: plan it without torch, run it through `train.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from factory.config.schema import AdapterKind
from factory.contracts import DomainPack, ModelFacts, Outputs, RunContext, StagePlan
from factory.errors import ConfigError, near_miss
from factory.stages.expert.config import ExpertConfig
from factory.stages.sft.stage import SftStage


class ExpertStage(SftStage):
    """Imitation of one pack's worked responses by a low-rank update that declines the other packs' questions."""

    kind: ClassVar[str] = "expert"
    config_type: ClassVar[type] = ExpertConfig

    def plan(self, name: str, config: ExpertConfig, facts: ModelFacts, pack: DomainPack, build: Mapping[str, Any]) -> StagePlan:
        """As an sft stage's. Raises also ConfigError: one pack only, an unknown `accepts`, no share for the others, no adapter."""
        check(name, config, pack, build)
        return super().plan(name, config, facts, pack, build)

    def run(self, config: ExpertConfig, ctx: RunContext) -> Outputs:
        """Train on `ctx.model_dir`; see `train.py`."""
        from factory.stages.expert.train import train

        return train(config, ctx)


def check(name: str, config: ExpertConfig, pack: DomainPack, build: Mapping[str, Any]) -> None:
    """Refuse settings that cannot run. Raises ConfigError with the key and the remedy."""
    where, packs = f"stages.{name}", pack.manifest.name.split(",")
    if len(packs) < 2:
        raise ConfigError(
            f"{where}: an expert learns what to pass on from the packs that the model knows already. Name them after the new one: "
            f"--domain {packs[0]},EARLIER --mix 0.8,0.2."
        )
    if config.accepts and config.accepts not in packs:
        raise ConfigError(
            f"{where}.accepts is '{config.accepts}', which is none of the build's packs.{near_miss(config.accepts, packs)} "
            f"They are {', '.join(packs)}."
        )
    if config.adapter.kind == AdapterKind.none:
        raise ConfigError(f"{where}.adapter.kind is none, but an expert is a low-rank update. Set it to lora or dora.")
    mix = (build.get("pack") or {}).get("mix") or {}
    own = config.accepts or packs[0]
    for needed, others in ((own, [own]), ("any other pack", [one for one in packs if one != own])):
        if mix and not sum(mix.get(one, 0) for one in others) > 0:
            raise ConfigError(
                f"{where}: pack.mix gives no lesson to {needed}. An expert needs what it accepts and what it passes on."
            )
