"""Real chemistry data on the user's disk: molecules, reactions, benchmarks, crystals, and the shapes that every pack takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from factory.domains.chemistry import loaders_benchmarks, loaders_molecules, loaders_reactions
from factory.domains.chemistry.file_formats import FORMATS
from factory.domains.chemistry.loaders_settings import LoadOptions
from factory.domains.chemistry.molecules import is_molecule
from factory.domains.chemistry.options import Options
from factory.packs.common_shapes import COMMON
from factory.packs.generated import system_prompt
from factory.packs.loading import Loader
from factory.packs.records import Record

SHAPES = (*loaders_benchmarks.SHAPES, *loaders_reactions.SHAPES, *loaders_molecules.SHAPES, *COMMON)
GENERATOR_KEYS = frozenset(item.name for item in fields(Options))


def task_of(record: Record) -> str:
    """The task of a row that names none: options, yes or no, a number, a molecule, else a name or, when it is long, a text."""
    if record.options:
        return "choice"
    answer = record.answer.strip()
    if answer.strip(" .").casefold() in ("yes", "no"):
        return "same"
    try:
        float(answer)
        return "value"
    except ValueError:
        pass
    if len(answer) > 2 and is_molecule(answer):
        return "molecule"
    return "text" if len(answer.split()) <= 8 else "caption"


def system_turn(options: Mapping[str, Any]) -> str:
    """Text of the system turn that `pack.system` asks for; empty for `none`."""
    name = str(options.get("system", "none"))
    if name == "none":
        return ""
    return system_prompt(Path(__file__).parent / "prompts", name, thinking=str(options.get("thinking", "on")))


LOADER = Loader(
    "chemistry", SHAPES, task_of=task_of, settings=LoadOptions, formats=FORMATS, generator_keys=GENERATOR_KEYS, system=system_turn
)
