"""Real biology data on the user's disk, as documents, lessons and samples; see `shapes` and `formats` for what is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factory.domains.biology.formats import FORMATS
from factory.domains.biology.generator import system_turn
from factory.domains.biology.options import GENERATOR_KEYS, Loading
from factory.domains.biology.shapes import SHAPES
from factory.packs.loading import Loader
from factory.packs.records import Record


def task_of(record: Record) -> str:
    """`choice` for a question with options, else `question`; the pack's own shapes name their task themselves."""
    return "choice" if record.options else "question"


def system_of(options: Mapping[str, Any]) -> str:
    """The system turn of `pack.system` for rows that bring none."""
    return system_turn(str(options.get("system", "none")), str(options.get("thinking", "on")))


LOADER = Loader(
    "biology", SHAPES, task_of=task_of, settings=Loading, generator_keys=GENERATOR_KEYS, system=system_of, formats=FORMATS
)
