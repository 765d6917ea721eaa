"""Real driving data on the user's disk, in the shapes of `loaders_shapes`; own kinds of files: nuScenes, DriveLM, comma2k19."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from factory.domains.driving import comma, drivelm_file, nuscenes
from factory.domains.driving.actions import read_plan
from factory.domains.driving.loaders_shapes import CLOSED_MAX_WORDS, SHAPES, LoadOptions
from factory.domains.driving.options import Options
from factory.packs.loading import Loader
from factory.packs.records import Record
from factory.packs.settings import read_settings


def task_of(record: Record) -> str:
    """The pack's task that fits: `choice` with options, `clip` for a pair of actions, `question` for a short answer, else `answer`."""
    if record.options:
        return "choice"
    try:
        plan = read_plan(record.answer)
    except ValueError:
        plan = None
    if plan is not None and plan.speed and plan.path:
        return "clip"
    return "question" if len((record.answer or record.response).split()) <= CLOSED_MAX_WORDS else "answer"


def system_turn(options: Mapping[str, Any]) -> str:
    """Text of the system turn that `pack.system` and `pack.thinking` ask for; empty for `none`. Raises ConfigError."""
    from factory.domains.driving.generator import turn_of_system

    asked = read_settings(Options, options, pack="driving", also=LOADER.keys)
    return turn_of_system(asked.system, asked.thinking)


LOADER = Loader(
    "driving", SHAPES, task_of=task_of, settings=LoadOptions, generator_keys=[item.name for item in fields(Options)],
    system=system_turn, formats=(comma.FORMAT, nuscenes.FORMAT, drivelm_file.FORMAT),
)  # fmt: skip
