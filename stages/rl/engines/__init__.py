"""Who turns prompts into rollouts. `make_engine` picks one by the stage's `engine` setting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from factory.errors import ConfigError, near_miss

if TYPE_CHECKING:
    from factory.stages.models.load import LoadedModel
    from factory.stages.rl.engines.protocol import RolloutEngine

ENGINES = ("transformers", "recorded:FILE.jsonl")


def make_engine(name: str, loaded: LoadedModel, *, prompts_per_generation: int = 0) -> RolloutEngine:
    """The engine of that name. Raises ConfigError for an unknown one, DataError for a damaged recording."""
    if name == "transformers":
        from factory.stages.rl.engines.transformers import TransformersEngine

        return TransformersEngine(loaded, prompts_per_generation=prompts_per_generation)
    if name.startswith("recorded:"):
        from factory.stages.rl.engines.recorded import RecordedEngine

        return RecordedEngine(Path(name.removeprefix("recorded:")))
    raise ConfigError(f"rl: engine={name!r} is not known.{near_miss(name, ENGINES)} Choose one of: {', '.join(ENGINES)}.")
