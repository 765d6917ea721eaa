"""Rows in the shapes that sets of any domain come in, each turned into a Record.

| shape | set it comes from |
| --- | --- |
| webdataset-caption | caption shards: image member with `.txt` or `.json` |
| factory-sample | the factory's own `id, task, messages, reference, media, meta`, and `response` for a lesson |
| chat | LLaMA-Factory / ShareGPT `conversations` or `messages`, with `images` |
| verl | parquet rows of verl: `prompt, images, reward_model, extra_info, data_source` |
| omnimedvqa | `image_path, question, gt_answer, option_A..D, question_type, modality_type` |
| multiple-choice | `question, options, answer, explanation`, with or without an image |
| vqa | `image, question, answer` |
| figure-caption | `image_path, caption` |
| plain-text | a corpus of text: `text` |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from factory.contracts import IMAGE, Media, Message
from factory.data.readers_binary import IMAGE_MEMBERS, TEXT_MEMBERS
from factory.data.rows import RowFault
from factory.data.shapes import Shape, cell, optional_cell, text_cell
from factory.errors import DataError
from factory.packs.choices import check_options, parse_options, resolve_answer, split_options
from factory.packs.records import DOCUMENTS, LESSONS, QUESTIONS, SAMPLES, Record

IMAGE_COLUMNS = ("image_path", "image", "img", "img_path", "images", "image_file", "filename", "file_name", "filepath", "path")
CAPTION_COLUMNS = ("caption", "text", "captions")
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant", "system": "system"}
CLOSED_MAX_WORDS = 5
"""Longest free answer that exact match can judge fairly; longer ones teach (lessons) but are not scored."""


@dataclass(frozen=True)
class RowShape(Shape):
    """A layout of rows and what makes Records of them."""

    convert: Callable[[Mapping[str, Any], Any], Record | Iterable[Record]] = None  # type: ignore[assignment]
    """(row, the pack's loader settings) -> one Record, or several with distinct keys. Raises RowFault naming field and reason."""


def convert(row: Mapping[str, Any], shape: RowShape, settings: Any) -> list[Record]:
    """Turn one row of a known shape into its Records. Raises RowFault naming the field and the reason."""
    if shape.convert is None:
        raise RowFault(
            "row", "the table begins with rows that name no column, so its layout is unknown. Take the empty rows out."
        )
    try:
        made = shape.convert(row, settings)
        records = [made] if isinstance(made, Record) else list(made)
    except UnicodeEncodeError as err:  # a digest of a text that is none
        raise _half_character(err) from err
    for record in records:
        _fill_in(record, row)
    return records


def refuse_half_characters(*texts: Any) -> None:
    """Raises RowFault when a text holds half of a surrogate pair (JSON can write one as `\\ud800`): no tokenizer takes it."""
    for text in texts:
        try:
            if isinstance(text, str):
                text.encode()
        except UnicodeEncodeError as err:
            raise _half_character(err) from err


def _half_character(err: UnicodeEncodeError) -> RowFault:
    before = err.object[max(0, err.start - 20) : err.start]
    return RowFault("text", f"holds half of a character (a lone surrogate) behind {before!r}. Write it whole, or take it out.")


def _fill_in(record: Record, row: Mapping[str, Any]) -> None:
    """The row's own id, declared split and place in a nested file, where the converter gave none."""
    if record.key is None:
        key = optional_cell(row, "id", "uid", "question_id", "sample_id")
        record.key = str(key) if key is not None else None
    if record.split is None:
        split = optional_cell(row, "split")
        record.split = split if isinstance(split, str) else None
    path = row.get("_path")
    if isinstance(path, str):
        record.meta["subset"] = path
        record.split = record.split or path.rpartition("/")[2]


def image_cell(row: Mapping[str, Any]) -> tuple[Any, str]:
    """The cell that holds the image, and its column. Raises RowFault."""
    value = cell(row, *IMAGE_COLUMNS)
    return value, next(name for name in IMAGE_COLUMNS if row.get(name) is value)


def _figure_caption(row: Mapping[str, Any], settings: Any) -> Record:
    images, name = image_cell(row)
    return Record(DOCUMENTS, text=text_cell(row, *CAPTION_COLUMNS), images=images, image_field=name)


def _webdataset(row: Mapping[str, Any], settings: Any) -> Record:
    about = row.get("json") if isinstance(row.get("json"), dict) else {}
    name = next((name for name in IMAGE_MEMBERS if name in row), None)
    if name is None:
        raise RowFault("jpg", f"sample {row.get('__key__')!r} has no image member ({', '.join(IMAGE_MEMBERS)}).")
    text = optional_cell(row, *TEXT_MEMBERS) or optional_cell(about, *CAPTION_COLUMNS)
    if not isinstance(text, str):
        raise RowFault("txt", f"sample {row.get('__key__')!r} has no caption: neither .txt nor a caption in .json.")
    patient = {k: about[k] for k in ("patient_id", "case_id", "slide_id", "original_path") if about.get(k)}
    return Record(DOCUMENTS, key=str(row["__key__"]), text=text, images=row[name], image_field=name, meta=patient)


def read_turns(value: Any, column: str) -> list[Message]:
    """Turns of a ShareGPT (`from`, `value`) or OpenAI (`role`, `content`) conversation. Raises RowFault."""
    if not isinstance(value, (list, tuple)) or not value:
        raise RowFault(column, f"must be a list of turns, got {type(value).__name__} {value!r:.40}.")
    turns = []
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, Mapping):
            raise RowFault(column, f"turn {number} must be a mapping, got {type(turn).__name__}.")
        who, content = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
        if not isinstance(who, str) or who not in ROLES:
            raise RowFault(column, f"turn {number} is from {who!r:.40}; known are {', '.join(ROLES)}.")
        if isinstance(content, (list, tuple)):
            content = "".join(_part(part, column, number) for part in content)
        if not isinstance(content, str) or not content.strip():
            raise RowFault(column, f"turn {number} has no text.")
        turns.append(Message(ROLES[who], content))
    return turns


def _part(part: Any, column: str, number: int) -> str:
    """One part of an OpenAI-style content list: text, or the place of an image."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text":
        return str(part.get("text", ""))
    if kind in ("image", "image_url"):
        return IMAGE
    raise RowFault(column, f"turn {number} has a content part of type {kind!r}; known are text and image.")


def _chat(row: Mapping[str, Any], settings: Any) -> Record:
    column = "conversations" if row.get("conversations") is not None else "messages"
    turns = read_turns(cell(row, column), column)
    if turns[-1].role != "assistant":
        raise RowFault(column, f"the last turn is from the {turns[-1].role}; a lesson ends with the assistant.")
    if len(turns) < 2 or turns[-2].role != "user":
        raise RowFault(column, "the assistant's last turn must answer a user turn.")
    if isinstance(row.get("system"), str) and row["system"].strip() and turns[0].role != "system":
        turns.insert(0, Message("system", row["system"]))
    record = Record(LESSONS, turns=tuple(turns[:-1]), response=turns[-1].content, images=optional_cell(row, "images", "image"))
    record.image_field = "images" if row.get("images") is not None else "image"
    _, record.options = split_options(turns[-2].content)
    said = re.findall(r"<answer>(.*?)</answer>", record.response, re.DOTALL)
    if said and record.options:
        record.answer = resolve_answer(said[-1], check_options(record.options))
    elif said:
        record.answer = said[-1].strip()
    return record


def _verl(row: Mapping[str, Any], settings: Any) -> Record:
    prompt = cell(row, "prompt")
    turns = [Message("user", prompt)] if isinstance(prompt, str) else read_turns(prompt, "prompt")
    if turns[-1].role != "user":
        raise RowFault("prompt", f"the last turn is from the {turns[-1].role}; a prompt ends with the user.")
    reward = row.get("reward_model")
    extra = row.get("extra_info") if isinstance(row.get("extra_info"), Mapping) else {}
    truth = optional_cell(row, "ground_truth")
    if truth is None and isinstance(reward, Mapping):
        truth = optional_cell(reward, "ground_truth")
    if truth is None:
        raise RowFault("reward_model", "no ground_truth, neither as a column nor inside reward_model.")
    record = Record(SAMPLES, turns=tuple(turns), images=optional_cell(row, "images", "image"), image_field="images")
    _, found = split_options(turns[-1].content)
    record.options = check_options(found) if found else ()
    record.answer = resolve_answer(truth, record.options) if found else free_answer(str(truth).strip(), "reward_model")
    record.split = extra.get("split") if isinstance(extra.get("split"), str) else None
    if extra.get("index") is not None:
        record.key = f"{row.get('data_source', 'verl')}/{record.split or 'all'}/{extra['index']}"
    record.meta = {"data_source": row.get("data_source")} if row.get("data_source") else {}
    record.meta |= {k: extra[k] for k in ("patient_id", "case_id", "slide_id") if extra.get(k)}
    return record


def free_answer(answer: str, column: str) -> str:
    """An answer without options. A bare letter would be scored as a word, so its options must have been missed."""
    if re.fullmatch(r"\(?[A-J][.):]?\)?", answer):
        raise RowFault(column, f"the answer is the letter {answer!r}, but the question holds no options such as 'A. ...'.")
    return answer


def _omnimedvqa(row: Mapping[str, Any], settings: Any) -> Record:
    letters = [letter for letter in "ABCDEFGHIJ" if optional_cell(row, f"option_{letter}") is not None]
    if letters != list("ABCDEFGHIJ"[: len(letters)]):
        raise RowFault(f"option_{letters[-1]}", f"there is an option {letters[-1]} but an earlier one is blank.")
    options = check_options([text_cell(row, f"option_{letter}") for letter in letters])
    images, name = image_cell(row)
    meta = {k: row[k] for k in ("question_type", "modality_type", "dataset") if row.get(k)}
    return Record(SAMPLES, text=text_cell(row, "question"), options=options, meta=meta, images=images, image_field=name,
                  answer=resolve_answer(text_cell(row, "gt_answer"), options))  # fmt: skip


def _multiple_choice(row: Mapping[str, Any], settings: Any) -> Record:
    options = parse_options(cell(row, "options", "choices"))
    answer = resolve_answer(text_cell(row, "answer"), options)
    images = optional_cell(row, *IMAGE_COLUMNS)
    name = next((name for name in IMAGE_COLUMNS if images is not None and row.get(name) is images), "image")
    explanation = optional_cell(row, "explanation", "reasoning", "rationale")
    response = f"<think>{explanation.strip()}</think><answer>{answer}</answer>" if isinstance(explanation, str) else ""
    meta = {k: row[k] for k in ("patient_id", "case_id", "slide_id", "source_img") if row.get(k)}
    return Record(QUESTIONS if response else SAMPLES, text=text_cell(row, "question"), options=options, answer=answer,
                  response=response, images=images, image_field=name, meta=meta)  # fmt: skip


def _vqa(row: Mapping[str, Any], settings: Any) -> Record:
    images, name = image_cell(row)
    question, options = split_options(text_cell(row, "question"))
    answer = text_cell(row, "answer")
    if options:
        options = check_options(options)
        letter = resolve_answer(answer, options)
        return Record(SAMPLES, text=question, options=options, answer=letter, images=images, image_field=name)
    answer = free_answer(answer, "answer")
    is_short = len(answer.split()) <= CLOSED_MAX_WORDS
    meta = {"answer_type": row["answer_type"]} if row.get("answer_type") else {}
    return Record(SAMPLES if is_short else LESSONS, text=question, answer=answer, response="" if is_short else answer,
                  images=images, image_field=name, meta=meta)  # fmt: skip


def _factory(row: Mapping[str, Any], settings: Any) -> Record:
    turns = read_turns(cell(row, "messages"), "messages")
    if turns[-1].role != "user":
        raise RowFault("messages", f"the last turn is from the {turns[-1].role}; a prompt ends with the user.")
    listed, meta = row.get("media") or (), row.get("meta") or {}
    if not isinstance(meta, Mapping) or not isinstance(listed, (list, tuple)):
        raise RowFault("meta", "must be a mapping, and media a list.")
    try:
        media = tuple(Media.from_json(item) for item in listed)
    except (DataError, ValueError, AttributeError) as err:
        raise RowFault("media", f"cannot be read: {err}.") from err
    response = optional_cell(row, "response")
    return Record(
        QUESTIONS if isinstance(response, str) else SAMPLES, turns=tuple(turns), task=text_cell(row, "task"), media=media,
        reference=cell(row, "reference"), response=response or "", meta=dict(meta), group=str(meta.get("group") or ""),
    )  # fmt: skip


def _plain_text(row: Mapping[str, Any], settings: Any) -> Record:
    return Record(DOCUMENTS, text=text_cell(row, "text"))


TAR, JSON_LIKE = frozenset({"tar"}), frozenset({"jsonl", "json", "parquet", "hub"})
WEBDATASET = RowShape("webdataset-caption", "image with .txt or .json caption", (IMAGE_MEMBERS, (*TEXT_MEMBERS, "json")), TAR, DOCUMENTS,
                      _webdataset)  # fmt: skip
FACTORY = RowShape("factory-sample", "samples as the factory writes them; with a response they are lessons",
                   (("messages",), ("reference",), ("task",)), None, QUESTIONS, _factory)  # fmt: skip
CHAT = RowShape("chat", "LLaMA-Factory, ShareGPT or OpenAI turns", (("conversations", "messages"),), None, LESSONS, _chat)
VERL = RowShape("verl", "verl RL rows", (("prompt",), ("reward_model", "ground_truth")), None, SAMPLES, _verl)
OMNIMEDVQA = RowShape("omnimedvqa", "OmniMedVQA", (("question",), ("gt_answer",), ("option_A",), ("option_B",)), None, SAMPLES,
                      _omnimedvqa)  # fmt: skip
MULTIPLE_CHOICE = RowShape("multiple-choice", "question with options", (("question",), ("options", "choices"), ("answer",)), None,
                           QUESTIONS, _multiple_choice)  # fmt: skip
VQA = RowShape("vqa", "question about an image", (IMAGE_COLUMNS, ("question",), ("answer",)), None, QUESTIONS, _vqa)
FIGURE_CAPTION = RowShape(
    "figure-caption", "image with caption", (IMAGE_COLUMNS, CAPTION_COLUMNS), None, DOCUMENTS, _figure_caption
)
PLAIN_TEXT = RowShape("plain-text", "text alone", (("text",),), JSON_LIKE, DOCUMENTS, _plain_text)

COMMON = (WEBDATASET, FACTORY, CHAT, VERL, OMNIMEDVQA, MULTIPLE_CHOICE, VQA, FIGURE_CAPTION, PLAIN_TEXT)
"""From special to general: the first that fits is taken. A pack puts its own shapes before these."""
