"""The kinds of judge, by name: four of the factory, and those of installed packages.

A package adds one with the entry point group `factory.judges`; the target is a function `(JudgeSettings) -> Backend` whose
result has `complete(messages)` or `score(completion, sample)`, and `close()` (see `judge.py`). It may read any of the settings;
`url`, where given, is held to the same rule as that of an endpoint: local, or --online.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from factory.plugins import JUDGE_GROUP, load_plugin, plugin_names

if TYPE_CHECKING:
    from factory.rewards.judges.settings import JudgeSettings

OWN = ("endpoint", "local", "scalar", "recorded")


def kinds() -> tuple[str, ...]:
    """All names, the factory's own first; a package cannot replace one of them. Nothing is imported."""
    return (*OWN, *(name for name in plugin_names(JUDGE_GROUP) if name not in OWN))


def open_backend(name: str, settings: JudgeSettings) -> Any:
    """The model behind the judge `name`.

    Raises:
        ConfigError, DataError: its source cannot be used. UnknownPlugin, DuplicatePlugin, BrokenPlugin: of an installed kind.
    """
    if settings.kind == "endpoint":
        from factory.rewards.judges.endpoint import Endpoint

        return Endpoint(name, settings)
    if settings.kind in ("local", "scalar"):
        from factory.rewards.judges.local import LocalScorer, LocalText

        return LocalText(settings) if settings.kind == "local" else LocalScorer(settings)
    if settings.kind == "recorded":
        from factory.rewards.judges.recorded import Recorded

        return Recorded(settings.path)
    return load_plugin(JUDGE_GROUP, settings.kind, built_in=OWN)(settings)
