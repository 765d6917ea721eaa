"""A checked row on its way out: its id, group and split, and its forms as Document, Lesson or Sample."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from factory.contracts import IMAGE, Document, Lesson, Media, Message, Sample
from factory.data.rows import RowFault
from factory.domains.pathology.loaders_options import LETTERS, render_options
from factory.domains.pathology.loaders_shapes import Record

YES_NO = ("yes", "no")
GROUP_FIELDS = ("patient_id", "patient", "case_id", "slide_id", "source_img", "original_path")
"""Columns that keep rows together in one split, the strongest first."""


@dataclass(frozen=True)
class Ready:
    """One row, checked, with its images at hand."""

    id: str
    group: str
    split: str
    source: str
    record: Record
    media: tuple[Media, ...]


def group_of(row: Mapping[str, Any], record: Record, group_field: str, *, fallback: str) -> str:
    """What must stay in one split: the asked-for column, else patient, case or slide, else the image, else the text.

    Raises:
        RowFault: `group_field` is set, and blank or missing in this row.
    """
    extra = row.get("extra_info") if isinstance(row.get("extra_info"), Mapping) else {}
    if group_field:
        value = row.get(group_field, extra.get(group_field, record.meta.get(group_field)))
        if value in (None, ""):
            raise RowFault(group_field, "is missing; pack.group_field needs it in every row.")
        return f"{group_field}={value}"
    for name in GROUP_FIELDS:
        for place in (row, extra, record.meta):
            if place.get(name) not in (None, ""):
                return f"{'patient_id' if name == 'patient' else name}={place[name]}"
    return _image_group(record.images) or f"text={fallback}"


def _image_group(cell: Any) -> str | None:
    """The first image's bytes (hashed) or path; questions about one image then share a split."""
    if isinstance(cell, (list, tuple)):
        return _image_group(cell[0]) if cell else None
    if isinstance(cell, Mapping):
        cell = cell.get("bytes") or cell.get("path") or cell.get("image")
    if isinstance(cell, (bytes, bytearray)):
        return f"image={hashlib.sha256(cell).hexdigest()}"
    return f"image={cell}" if isinstance(cell, str) and cell.strip() else None


def with_placeholders(texts: list[str], num_images: int, *, field: str, first: int = 0) -> list[str]:
    """Make the texts hold one `<image>` per image: added in front of text `first` when none of them has any.

    Raises:
        RowFault: some are there, but not as many as images.
    """
    there = sum(text.count(IMAGE) for text in texts)
    if there == num_images:
        return texts
    if there:
        raise RowFault(field, f"{num_images} images for {there} {IMAGE} placeholders.")
    return [f"{IMAGE}\n" * num_images + text if i == first else text for i, text in enumerate(texts)]


def check_placeholders(record: Record, num_images: int) -> None:
    """Raise RowFault when images and `<image>` placeholders do not match."""
    texts = [turn.content for turn in record.turns] or [record.text]
    with_placeholders(texts, num_images, field=record.image_field)


def task_of(record: Record) -> str:
    """The pack's task that fits: `choice` with options, `yes_no`, else `finding` (a short answer)."""
    if record.options:
        return "choice"
    return "yes_no" if record.answer.strip(" .").lower() in YES_NO else "finding"


def to_document(ready: Ready) -> Document:
    """Caption with its images in front."""
    [text] = with_placeholders([ready.record.text], len(ready.media), field=ready.record.image_field)
    return Document(ready.id, text, ready.media, ready.split, ready.source)


def to_sample(ready: Ready, system: str = "") -> Sample:
    """A choice (reference: letter; options in meta) or a short question (reference: text).

    Args:
        system: system prompt for rows that bring none.
    """
    record = ready.record
    turns = list(record.turns)
    if not turns:
        content = f"{record.text}\n{render_options(record.options)}" if record.options else record.text
        turns = [Message("user", content)]
    first_user = next(i for i, turn in enumerate(turns) if turn.role == "user")
    texts = with_placeholders([turn.content for turn in turns], len(ready.media), field=record.image_field, first=first_user)
    messages = [Message(turn.role, text) for turn, text in zip(turns, texts, strict=True)]
    if system and messages[0].role != "system":
        messages.insert(0, Message("system", system))
    meta = {**record.meta, "group": ready.group}
    if record.options:
        meta["options"] = dict(zip(LETTERS, record.options, strict=False))
        if record.answer in LETTERS[: len(record.options)] and record.answer:
            meta["answer_text"] = record.options[LETTERS.index(record.answer)]
    return Sample(
        id=ready.id, task=task_of(record), messages=tuple(messages),
        reference=record.answer or record.response, media=ready.media, meta=meta, split=ready.split, source=ready.source,
    )  # fmt: skip


def to_lesson(ready: Ready, system: str = "") -> Lesson:
    """The sample with the worked response of its row."""
    return Lesson(to_sample(ready, system), ready.record.response)
