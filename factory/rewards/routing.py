"""Which entry of a task table a task belongs to: its own name, or the most special pattern (`arith/*`) that fits.

Exact names win over patterns; of patterns, the one with the longest text before its first wildcard, then the longer one,
then the first written. `*` also crosses `/`; `?` is one character. Looking a task up costs one dictionary access after its first time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

WILDCARDS = "*?["


def is_pattern(name: str) -> bool:
    """True when a table's key stands for many tasks."""
    return any(mark in name for mark in WILDCARDS)


def literal_prefix(pattern: str) -> str:
    """The text before the first wildcard."""
    return pattern[: min((at for at in map(pattern.find, WILDCARDS) if at >= 0), default=len(pattern))]


class Routes:
    """Task -> key of a table, remembered.

    Args:
        keys: names and patterns, as in a manifest's `tasks`.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._found: dict[str, str | None] = {key: key for key in keys}
        written = [key for key in self._found if is_pattern(key)]
        order = {key: place for place, key in enumerate(written)}
        self._patterns = sorted(written, key=lambda key: (-len(literal_prefix(key)), -len(key), order[key]))

    def key_of(self, task: str) -> str | None:
        """The key that rules the task, or None."""
        try:
            return self._found[task]
        except KeyError:
            found = next((key for key in self._patterns if fnmatchcase(task, key)), None)
            if found is not None:
                # Unknown tasks are not remembered: their number has no bound.
                self._found[task] = found
            return found


def row_of(tasks: Mapping[str, Any], task: str) -> Any:
    """The entry of one task in a manifest's `tasks`, or None; for single look-ups."""
    if task in tasks:
        return tasks[task]
    key = Routes(tasks).key_of(task)
    return None if key is None else tasks[key]
