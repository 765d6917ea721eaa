"""One row of anyone's data on its way to a Document, Lesson or Sample."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from factory.contracts import IMAGE, Document, Lesson, Media, Message, Sample
from factory.data.rows import RowFault
from factory.packs.choices import LETTERS, render_options

DOCUMENTS, LESSONS, SAMPLES = frozenset({"documents"}), frozenset({"lessons"}), frozenset({"samples"})
QUESTIONS = LESSONS | SAMPLES
GROUP_FIELDS = ("patient_id", "patient", "case_id", "slide_id", "source_img", "original_path")
"""Columns that keep rows together in one split, the strongest first."""


@dataclass
class Record:
    """One converted row. Images are still cells (path, bytes or struct); the loader resolves them for the split it keeps."""

    gives: frozenset[str]
    """What it can become: any of `documents`, `lessons`, `samples`."""
    key: str | None = None
    """The row's own id, unique in its file."""
    text: str = ""
    """Caption or question, without options."""
    turns: tuple[Message, ...] = ()
    """Chat and verl rows: all turns before the answer, as written."""
    options: tuple[str, ...] = ()
    answer: str = ""
    """Letter for a choice, else the text."""
    response: str = ""
    """Worked response to imitate."""
    images: Any = None
    image_field: str = "image"
    split: str | None = None
    """Split that the row itself declares, as written."""
    group: str = ""
    """What must stay in one split (`scaffold=c1ccccc1`); empty leaves it to `group_of`."""
    task: str = ""
    """The pack's task; empty leaves it to the pack's `task_of`."""
    reference: Any = None
    """Reference of the sample when it is not `answer`: a number, a list, a mapping."""
    media: tuple[Media, ...] = ()
    """Images that the converter drew itself, after those of `images`."""
    draw: Callable[[], tuple[Media, ...]] | None = None
    """As `media`, but drawn only when the row is wanted."""
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ready:
    """One row, checked, with its images at hand."""

    id: str
    group: str
    split: str
    source: str
    record: Record
    media: tuple[Media, ...]
    task: str = ""


def group_of(row: Mapping[str, Any], record: Record, group_field: str, *, fallback: str) -> str:
    """What must stay in one split: the asked-for column, else the record's own group, patient, case or slide, image, text.

    Raises:
        RowFault: `group_field` is set, and blank or missing in this row.
    """
    extra = row.get("extra_info") if isinstance(row.get("extra_info"), Mapping) else {}
    if group_field:
        value = row.get(group_field, extra.get(group_field, record.meta.get(group_field)))
        if value in (None, ""):
            raise RowFault(group_field, "is missing; pack.group_field needs it in every row.")
        return f"{group_field}={value}"
    if record.group:
        return record.group
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


def to_document(ready: Ready) -> Document:
    """Caption with its images in front."""
    [text] = with_placeholders([ready.record.text], len(ready.media), field=ready.record.image_field)
    return Document(ready.id, text, ready.media, ready.split, ready.source)


def to_sample(ready: Ready, system: str = "") -> Sample:
    """A choice (reference: letter; options in meta) or another question (reference: the record's, else its answer).

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
    reference = record.reference if record.reference is not None else record.answer or record.response
    return Sample(
        id=ready.id, task=ready.task, messages=tuple(messages), reference=reference, media=ready.media, meta=meta,
        split=ready.split, source=ready.source,
    )  # fmt: skip


def to_lesson(ready: Ready, system: str = "") -> Lesson:
    """The sample with the worked response of its row."""
    return Lesson(to_sample(ready, system), ready.record.response)
