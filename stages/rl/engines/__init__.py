"""Who turns prompts into rollouts. `make_engine` picks one by the stage's `engine` setting: `NAME`, or `NAME:ARGUMENT`.

Installed packages add engines with the entry point group `factory.rollout_engines`; the target is a function
`(argument, learner, *, prompts_per_generation) -> RolloutEngine`, where `argument` is the text after the colon.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from factory.errors import ConfigError, near_miss
from factory.plugins import ENGINE_GROUP, load_plugin, plugin_names

if TYPE_CHECKING:
    from factory.contracts import RunContext
    from factory.stages.learner import Learner
    from factory.stages.rl.config import RlConfig
    from factory.stages.rl.engines.protocol import RolloutEngine

ENGINES = ("transformers", "vllm", "recorded:FILE.jsonl")


def check_engine(name: str) -> None:
    """Raises ConfigError for an engine that does not exist. An installed one is not imported for that."""
    if name in ("transformers", "vllm") or name.startswith("recorded:"):
        return
    installed = plugin_names(ENGINE_GROUP)
    if name.partition(":")[0] not in installed:
        known = (*ENGINES, *installed)
        raise ConfigError(f"rl: engine={name!r} is not known.{near_miss(name, known)} Choose one of: {', '.join(known)}.")


def make_engine(
    name: str, learner: Learner, *, prompts_per_generation: int = 0, config: RlConfig | None = None, ctx: RunContext | None = None
) -> RolloutEngine:
    """The engine of that name for the learner's model. `vllm` needs the stage's `config` and `ctx`.

    Raises:
        ConfigError: unknown, or vLLM's environment is not there. DataError: a damaged recording. DuplicatePlugin, BrokenPlugin: of an installed engine.
    """
    check_engine(name)
    if name == "transformers":
        from factory.stages.rl.engines.transformers import TransformersEngine

        return TransformersEngine(learner.loaded, prompts_per_generation=prompts_per_generation, autocast=learner.autocast)
    if name.startswith("recorded:"):
        from factory.stages.rl.engines.recorded import RecordedEngine

        return RecordedEngine(Path(name.removeprefix("recorded:")))
    if name == "vllm":
        from factory.stages.rl.engines.vllm import VllmEngine
        from factory.stages.rl.engines.vllm_settings import place_of

        assert config is not None and ctx is not None, "the stage gives both"
        return VllmEngine(learner, place_of(config, ctx))
    plugin, _, argument = name.partition(":")
    return load_plugin(ENGINE_GROUP, plugin)(argument, learner, prompts_per_generation=prompts_per_generation)
