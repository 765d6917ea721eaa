"""Who turns prompts into rollouts. `make_engine` picks one by the stage's `engine` setting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from factory.errors import ConfigError, near_miss

if TYPE_CHECKING:
    from factory.stages.learner import Learner
    from factory.stages.rl.engines.protocol import RolloutEngine

ENGINES = ("transformers", "recorded:FILE.jsonl")


def check_engine(name: str) -> None:
    """Raises ConfigError for an engine that does not exist."""
    if name != "transformers" and not name.startswith("recorded:"):
        raise ConfigError(f"rl: engine={name!r} is not known.{near_miss(name, ENGINES)} Choose one of: {', '.join(ENGINES)}.")


def make_engine(name: str, learner: Learner, *, prompts_per_generation: int = 0) -> RolloutEngine:
    """The engine of that name for the learner's model. Raises ConfigError when unknown, DataError for a damaged recording."""
    check_engine(name)
    if name == "transformers":
        from factory.stages.rl.engines.transformers import TransformersEngine

        return TransformersEngine(learner.loaded, prompts_per_generation=prompts_per_generation, autocast=learner.autocast)
    from factory.stages.rl.engines.recorded import RecordedEngine

    return RecordedEngine(Path(name.removeprefix("recorded:")))
