"""Rows of the pathology sets that people have on disk, turned into one neutral Record.

| shape | set it comes from |
| --- | --- |
| figure-extraction | Patho-R1's page extraction: `bbox, caption, figure_path, inline_ref` |
| figure-caption | CSV `image_path,caption` (PathCap, Quilt-1M, PathGen) |
| webdataset-caption | caption shards: image member with `.txt` or `.json` |
| chat | LLaMA-Factory / ShareGPT `conversations` or `messages`, with `images` |
| verl | parquet rows of verl: `prompt, images, reward_model, extra_info, data_source` |
| omnimedvqa | `image_path, question, gt_answer, option_A..D, question_type, modality_type` |
| multiple-choice | PathMMU: `img, question, options, answer, explanation` |
| vqa | PathVQA, Quilt-VQA: `image, question, answer` |
| plain-text | a corpus of text: `text` |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from factory.contracts import IMAGE, Message
from factory.data.readers_binary import IMAGE_MEMBERS, TEXT_MEMBERS
from factory.data.rows import RowFault
from factory.data.shapes import Shape, cell, optional_cell, text_cell
from factory.domains.pathology.loaders_options import check_options, parse_options, resolve_answer, split_options

IMAGE_COLUMNS = ("image_path", "image", "img", "img_path", "images", "image_file", "filename", "file_name", "filepath", "path")
CAPTION_COLUMNS = ("caption", "text", "captions")
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant", "system": "system"}
CLOSED_MAX_WORDS = 5
"""Longest free answer that exact match can judge fairly; longer ones teach (lessons) but are not scored."""

DOCUMENTS, LESSONS, SAMPLES = frozenset({"documents"}), frozenset({"lessons"}), frozenset({"samples"})
QUESTIONS = LESSONS | SAMPLES
TAR, CSV = frozenset({"tar"}), frozenset({"csv", "tsv"})

SHAPES = (
    Shape("webdataset-caption", "image with .txt or .json caption", (IMAGE_MEMBERS, (*TEXT_MEMBERS, "json")), TAR, DOCUMENTS),
    Shape("figure-extraction", "figures cut from pages", (("figure_path",), ("caption",), ("bbox",)), None, DOCUMENTS),
    Shape("chat", "LLaMA-Factory, ShareGPT or OpenAI turns", (("conversations", "messages"),), None, LESSONS),
    Shape("verl", "verl RL rows", (("prompt",), ("reward_model", "ground_truth")), None, SAMPLES),
    Shape("omnimedvqa", "OmniMedVQA", (("question",), ("gt_answer",), ("option_A",), ("option_B",)), None, SAMPLES),
    Shape("multiple-choice", "PathMMU and alike", (("question",), ("options", "choices"), ("answer",)), None, QUESTIONS),
    Shape("vqa", "PathVQA, Quilt-VQA", (IMAGE_COLUMNS, ("question",), ("answer",)), None, QUESTIONS),
    Shape("slide-captions", "captions of slides beside them", (("slide_id",), CAPTION_COLUMNS), CSV, DOCUMENTS),
    Shape("slide-labels", "labels of slides beside them", (("slide_id",), ("label",)), CSV, SAMPLES),
    Shape("figure-caption", "image with caption", (IMAGE_COLUMNS, CAPTION_COLUMNS), None, DOCUMENTS),
    Shape("plain-text", "text alone", (("text",),), frozenset({"jsonl", "json", "parquet", "hub"}), DOCUMENTS),
)  # fmt: skip
"""From special to general: the first that fits is taken."""


@dataclass
class Record:
    """One converted row. Images are still cells (path, bytes or struct); the loader resolves them for the split it keeps."""

    gives: frozenset[str]
    key: str | None = None
    """The row's own id."""
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
    meta: dict[str, Any] = field(default_factory=dict)


def convert(row: Mapping[str, Any], shape: Shape) -> Record:
    """Turn one row of a known shape into a Record. Raises RowFault naming the field and the reason."""
    record = CONVERTERS[shape.name](row)
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
    return record


def _image_cell(row: Mapping[str, Any]) -> tuple[Any, str]:
    value = cell(row, *IMAGE_COLUMNS)
    return value, next(name for name in IMAGE_COLUMNS if row.get(name) is value)


def _figure_caption(row: Mapping[str, Any]) -> Record:
    images, name = _image_cell(row)
    return Record(DOCUMENTS, text=text_cell(row, *CAPTION_COLUMNS), images=images, image_field=name)


def _figure_extraction(row: Mapping[str, Any]) -> Record:
    box = cell(row, "bbox")
    if not (isinstance(box, (list, tuple)) and len(box) == 4 and all(isinstance(v, (int, float)) and v >= 0 for v in box)):
        raise RowFault("bbox", f"must be four numbers [x1, y1, x2, y2] of 0 or more, got {box!r:.60}.")
    if box[0] >= box[2] or box[1] >= box[3]:
        raise RowFault("bbox", f"{list(box)} is empty: x1 < x2 and y1 < y2 are needed.")
    caption, inline = text_cell(row, "caption"), optional_cell(row, "inline_ref")
    text = f"{caption}\n{inline.strip()}" if isinstance(inline, str) else caption
    return Record(DOCUMENTS, text=text, images=cell(row, "figure_path"), image_field="figure_path", meta={"bbox": list(box)})


def _webdataset(row: Mapping[str, Any]) -> Record:
    about = row.get("json") if isinstance(row.get("json"), dict) else {}
    name = next((name for name in IMAGE_MEMBERS if name in row), None)
    if name is None:
        raise RowFault("jpg", f"sample {row.get('__key__')!r} has no image member ({', '.join(IMAGE_MEMBERS)}).")
    text = optional_cell(row, *TEXT_MEMBERS) or optional_cell(about, *CAPTION_COLUMNS)
    if not isinstance(text, str):
        raise RowFault("txt", f"sample {row.get('__key__')!r} has no caption: neither .txt nor a caption in .json.")
    patient = {k: about[k] for k in ("patient_id", "case_id", "slide_id", "original_path") if about.get(k)}
    return Record(DOCUMENTS, key=str(row["__key__"]), text=text, images=row[name], image_field=name, meta=patient)


def _turns(value: Any, column: str) -> list[Message]:
    if not isinstance(value, (list, tuple)) or not value:
        raise RowFault(column, f"must be a list of turns, got {type(value).__name__} {value!r:.40}.")
    turns = []
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, Mapping):
            raise RowFault(column, f"turn {number} must be a mapping, got {type(turn).__name__}.")
        who, content = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
        if who not in ROLES:
            raise RowFault(column, f"turn {number} is from {who!r}; known are {', '.join(ROLES)}.")
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


def _chat(row: Mapping[str, Any]) -> Record:
    column = "conversations" if row.get("conversations") is not None else "messages"
    turns = _turns(cell(row, column), column)
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


def _verl(row: Mapping[str, Any]) -> Record:
    prompt = cell(row, "prompt")
    turns = [Message("user", prompt)] if isinstance(prompt, str) else _turns(prompt, "prompt")
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
    record.answer = resolve_answer(truth, record.options) if found else _free_answer(str(truth).strip(), "reward_model")
    record.split = extra.get("split") if isinstance(extra.get("split"), str) else None
    if extra.get("index") is not None:
        record.key = f"{row.get('data_source', 'verl')}/{record.split or 'all'}/{extra['index']}"
    record.meta = {"data_source": row.get("data_source")} if row.get("data_source") else {}
    record.meta |= {k: extra[k] for k in ("patient_id", "case_id", "slide_id") if extra.get(k)}
    return record


def _free_answer(answer: str, column: str) -> str:
    """An answer without options. A bare letter would be scored as a word, so its options must have been missed."""
    if re.fullmatch(r"\(?[A-J][.):]?\)?", answer):
        raise RowFault(column, f"the answer is the letter {answer!r}, but the question holds no options such as 'A. ...'.")
    return answer


def _omnimedvqa(row: Mapping[str, Any]) -> Record:
    letters = [letter for letter in "ABCDEFGHIJ" if optional_cell(row, f"option_{letter}") is not None]
    if letters != list("ABCDEFGHIJ"[: len(letters)]):
        raise RowFault(f"option_{letters[-1]}", f"there is an option {letters[-1]} but an earlier one is blank.")
    options = check_options([text_cell(row, f"option_{letter}") for letter in letters])
    images, name = _image_cell(row)
    meta = {k: row[k] for k in ("question_type", "modality_type", "dataset") if row.get(k)}
    return Record(SAMPLES, text=text_cell(row, "question"), options=options, meta=meta, images=images, image_field=name,
                  answer=resolve_answer(text_cell(row, "gt_answer"), options))  # fmt: skip


def _multiple_choice(row: Mapping[str, Any]) -> Record:
    options = parse_options(cell(row, "options", "choices"))
    answer = resolve_answer(text_cell(row, "answer"), options)
    images = optional_cell(row, *IMAGE_COLUMNS)
    name = next((name for name in IMAGE_COLUMNS if images is not None and row.get(name) is images), "image")
    explanation = optional_cell(row, "explanation", "reasoning", "rationale")
    response = f"<think>{explanation.strip()}</think><answer>{answer}</answer>" if isinstance(explanation, str) else ""
    meta = {k: row[k] for k in ("patient_id", "case_id", "slide_id", "source_img") if row.get(k)}
    return Record(QUESTIONS if response else SAMPLES, text=text_cell(row, "question"), options=options, answer=answer,
                  response=response, images=images, image_field=name, meta=meta)  # fmt: skip


def _vqa(row: Mapping[str, Any]) -> Record:
    images, name = _image_cell(row)
    question, options = split_options(text_cell(row, "question"))
    answer = text_cell(row, "answer")
    if options:
        options = check_options(options)
        letter = resolve_answer(answer, options)
        return Record(SAMPLES, text=question, options=options, answer=letter, images=images, image_field=name)
    answer = _free_answer(answer, "answer")
    is_short = len(answer.split()) <= CLOSED_MAX_WORDS
    meta = {"answer_type": row["answer_type"]} if row.get("answer_type") else {}
    return Record(SAMPLES if is_short else LESSONS, text=question, answer=answer, response="" if is_short else answer,
                  images=images, image_field=name, meta=meta)  # fmt: skip


CONVERTERS: dict[str, Callable[[Mapping[str, Any]], Record]] = {
    "plain-text": lambda row: Record(DOCUMENTS, text=text_cell(row, "text")),
    "figure-caption": _figure_caption, "figure-extraction": _figure_extraction, "webdataset-caption": _webdataset,
    "chat": _chat, "verl": _verl, "omnimedvqa": _omnimedvqa, "multiple-choice": _multiple_choice, "vqa": _vqa,
}  # fmt: skip
