"""Real medical data on the user's disk: see `shapes_text`, `shapes_vqa` and `shapes_files` for what is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from factory.domains.medicine import shapes_files, shapes_text, shapes_vqa
from factory.domains.medicine.load_settings import MedicineLoad
from factory.domains.medicine.options import Options
from factory.domains.medicine.shapes_vqa import task_of_answer
from factory.packs.common_shapes import COMMON
from factory.packs.generated import system_prompt
from factory.packs.loading import Loader
from factory.packs.records import Record
from factory.packs.settings import read_settings


def task_of(record: Record) -> str:
    """`choice` with options, `judgement` for yes and no, else `closed` or `open`."""
    return "choice" if record.options else task_of_answer(record.answer, str(record.meta.get("answer_type", "")))


def system_turn(options: Mapping[str, Any]) -> str:
    """Text of the system turn that `pack.system` and `pack.form` ask for; empty for `none`. Raises ConfigError."""
    chosen = read_settings(Options, options, pack="medicine", also=[item.name for item in fields(MedicineLoad)])
    return "" if chosen.system == "none" else system_prompt(Path(__file__).parent / "prompts", chosen.system, form=chosen.form)


LOADER = Loader(
    "medicine",
    [
        *shapes_files.SHAPES, *shapes_text.SHAPES,
        *(shapes_files.with_medical_images(shape) for shape in (*shapes_vqa.SHAPES, *COMMON)),
    ],
    task_of=task_of, settings=MedicineLoad, generator_keys=[item.name for item in fields(Options)], system=system_turn,
    patient_data=True, formats=(*shapes_files.FORMATS, *shapes_text.FORMATS),
)  # fmt: skip
