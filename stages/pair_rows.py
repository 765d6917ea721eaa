"""One row of a table as a preference pair: our own form, or TRL's `prompt`, `chosen`, `rejected` as texts or conversations.

TRL's forms: https://huggingface.co/docs/trl/dataset_formats, "Preference". A conversation's `content` is a text or a list of
`{"type": "text" | "image", ...}` parts; `images` (or `image`) holds paths relative to the file, or encoded pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factory.contracts import IMAGE, Media, Message, Pair, Sample
from factory.data.images import find_image, media_from
from factory.data.report import RowFault
from factory.data.shapes import cell, optional_cell

_LABELS = ("chosen_safe", "rejected_safe")
_READ = {"sample", "prompt", "chosen", "rejected", "images", "image", "meta", "id", "task", "reference", "source", *_LABELS}
_YES_NO = {"true": True, "false": False, "1": True, "0": False}


def unread_columns(row: Mapping[str, Any]) -> list[str]:
    """Columns of a row that no pair is made from, sorted."""
    return sorted(str(name) for name in row if name not in _READ)


def fault_of(pair: Pair) -> str | None:
    """Why a pair teaches nothing, or None."""
    if not pair.chosen.strip():
        return "chosen is blank."
    if pair.chosen == pair.rejected:
        return "chosen and rejected are the same text, so nothing is preferred."
    return None


def pair_from_row(row: Mapping[str, Any], folder: Path, *, fallback_id: str) -> Pair:
    """The pair that a row holds.

    Args:
        folder: where relative image paths begin.
        fallback_id: id of the sample when the row names none.

    Raises:
        RowFault: a column is missing or of a wrong type, an image cannot be used, or the pair teaches nothing.
    """
    pair = _own_form(row, folder) if "sample" in row else _trl_form(row, folder, fallback_id)
    fault = fault_of(pair)
    if fault is not None:
        raise RowFault("chosen", fault)
    return pair


def _own_form(row: Mapping[str, Any], folder: Path) -> Pair:
    for name in ("chosen", "rejected"):
        if not isinstance(row.get(name), str):
            raise RowFault(name, f"must be text in a pair of the factory, got {type(row.get(name)).__name__}.")
    try:
        pair = Pair.from_json({**row, "meta": _meta(row)})
    except KeyError as err:
        raise RowFault(f"sample.{err.args[0]}", "is missing.") from err
    except (TypeError, ValueError, AttributeError) as err:
        raise RowFault("sample", f"is not what Sample.to_json writes: {err}.") from err
    sample = pair.sample
    media = tuple(_anchored(item, folder) for item in sample.media)
    messages = _with_placeholders(sample.messages, len(media), is_strict=True)
    return Pair(_sample(sample, messages, media), pair.chosen, pair.rejected, pair.meta)


def _sample(sample: Sample, messages: tuple[Message, ...], media: tuple[Media, ...]) -> Sample:
    return Sample(
        sample.id, sample.task, messages, sample.reference, media, sample.meta, split=sample.split, source=sample.source
    )


def _anchored(item: Media, folder: Path) -> Media:
    if item.path is None:
        return item
    return Media(item.kind, path=str(find_image(item.path, [folder], field="sample.media").absolute()))


def _trl_form(row: Mapping[str, Any], folder: Path, fallback_id: str) -> Pair:
    chosen, rejected = cell(row, "chosen"), _present(row, "rejected")
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise RowFault("rejected", f"must have the form of chosen ({type(chosen).__name__}), got {type(rejected).__name__}.")
    if isinstance(chosen, str):
        messages = _prompt(_present(row, "prompt"))
        answers = (chosen, rejected)
    else:
        messages, answers = _conversation(row.get("prompt"), _turns(chosen, "chosen"), _turns(rejected, "rejected"))
    pictures = optional_cell(row, "images", "image")
    media = media_from(pictures, [folder], field="images") if pictures is not None else ()
    sample = Sample(
        id=str(row.get("id") or fallback_id), task=str(row.get("task") or "preference"),
        messages=_with_placeholders(messages, len(media), is_strict=False), reference=row.get("reference"), media=media,
        source=str(row.get("source") or ""),
    )  # fmt: skip
    return Pair(sample, *answers, _meta(row))


def _present(row: Mapping[str, Any], name: str) -> Any:
    """A cell that may be an empty text (a model may answer nothing), but has to be there."""
    return row[name] if row.get(name) is not None else cell(row, name)


def _prompt(prompt: Any) -> tuple[Message, ...]:
    return (Message("user", prompt),) if isinstance(prompt, str) else _turns(prompt, "prompt")


def _conversation(
    prompt: Any, chosen: tuple[Message, ...], rejected: tuple[Message, ...]
) -> tuple[tuple[Message, ...], tuple[str, str]]:
    """(prompt, answers). Without a prompt it is what both conversations begin with."""
    if prompt is not None:
        messages = _prompt(prompt)
    else:
        shared = 0
        while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
            shared += 1
        messages, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    if not messages:
        raise RowFault("prompt", "is missing, and chosen and rejected do not begin with the same turns.")
    return messages, (_answer(chosen, "chosen"), _answer(rejected, "rejected"))


def _answer(turns: tuple[Message, ...], field: str) -> str:
    if len(turns) != 1 or turns[0].role != "assistant":
        roles = ", ".join(turn.role for turn in turns)
        raise RowFault(field, f"must be one assistant turn after the prompt, got: {roles}. Move earlier turns into prompt.")
    return turns[0].content


def _turns(turns: Any, field: str) -> tuple[Message, ...]:
    if not isinstance(turns, (list, tuple)) or not turns:
        raise RowFault(field, f"must be a text or a list of turns, got {type(turns).__name__} {turns!r:.40}.")
    return tuple(_turn(turn, field) for turn in turns)


def _turn(turn: Any, field: str) -> Message:
    if not isinstance(turn, Mapping) or not isinstance(turn.get("role"), str):
        raise RowFault(field, f"a turn is a mapping with `role` and `content`, got {turn!r:.60}.")
    content = turn.get("content")
    if isinstance(content, list):
        content = "".join(_part(part, field) for part in content)
    if not isinstance(content, str):
        raise RowFault(field, f"the content of a turn is a text or a list of parts, got {type(content).__name__}.")
    return Message(turn["role"], content)


def _part(part: Any, field: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "image":
        return IMAGE
    if kind == "text" and isinstance(part.get("text"), str):
        return part["text"]
    raise RowFault(field, f"a part of a turn is a text or an image, got {part!r:.60}.")


def _with_placeholders(messages: tuple[Message, ...], num_images: int, *, is_strict: bool) -> tuple[Message, ...]:
    """Messages with one placeholder per image; where there is none at all, TRL puts the images before the first user turn."""
    num_marks = sum(message.content.count(IMAGE) for message in messages)
    if num_marks == num_images:
        return messages
    user = next((place for place, message in enumerate(messages) if message.role == "user"), None)
    if is_strict or num_marks or user is None:
        raise RowFault("images", f"{num_images} images for {num_marks} {IMAGE} placeholders in the prompt. Write one for each.")
    first = Message("user", IMAGE * num_images + messages[user].content)
    return (*messages[:user], first, *messages[user + 1 :])


def _meta(row: Mapping[str, Any]) -> dict[str, Any]:
    meta = row.get("meta") or {}
    if not isinstance(meta, Mapping):
        raise RowFault("meta", f"must be a mapping, got {type(meta).__name__}.")
    found = {**meta, **{name: row[name] for name in _LABELS if row.get(name) is not None}}
    for name in _LABELS:
        if name in found:
            found[name] = _yes_no(found[name], name)
    return found


def _yes_no(value: Any, field: str) -> bool:
    word = str(value).strip().lower()
    if word not in _YES_NO:
        raise RowFault(field, f"must be true or false, got {value!r:.40}.")
    return _YES_NO[word]
