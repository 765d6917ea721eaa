"""Real music on the user's disk: tunes in ABC, MIDI and MusicXML, SSMR-Bench, MusicTheoryBench, and the shapes every pack takes.

| shape | what it is |
| --- | --- |
| ssmr | SSMR-Bench: `class_name, question, abc_context, correct_answer, incorrect_answer1..3` |
| musictheorybench | `stem, options, answer, abc_score`, perhaps `subset` |
| tune | one tune in a column `abc_music`, `abc_tune` or `abc`; also each tune of .abc, .mid and .musicxml files |
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from factory.contracts import EXACT_TEXT, Media
from factory.data.rows import RowFault
from factory.data.shapes import cell, optional_cell, text_cell
from factory.domains.music.abc_reader import FIELD_LINE, AbcError, read_abc
from factory.domains.music.asks import Ask, AskError, right_answers
from factory.domains.music.file_formats import FORMATS
from factory.domains.music.generator import worked
from factory.domains.music.options import Options
from factory.domains.music.question import accepts
from factory.domains.music.tune_questions import MAKERS, TuneQuestion, questions
from factory.errors import ConfigError
from factory.packs.choices import LETTERS, check_options, parse_options, resolve_answer
from factory.packs.common_shapes import COMMON, RowShape
from factory.packs.generated import system_prompt
from factory.packs.loading import Loader
from factory.packs.records import DOCUMENTS, QUESTIONS, SAMPLES, Record
from factory.packs.settings import one_of, within
from factory.packs.sources import LoadSettings

TUNE_COLUMNS = ("abc_music", "abc_tune", "abc")
CLASSES = {
    "timesignature": "time_signature", "barlineplacement": "bar_lines", "intervalnumber": "interval",
    "notecompletionbyinterval": "note", "chordidentification": "chord", "chordscompletion": "chord_completion",
    "chordrootidentification": "chord_root", "chordkeyrootidentification": "chord_key_root", "scaleidentification": "scale",
    "scaleselection": "scale_selection",
}  # fmt: skip
"""SSMR-Bench's class names -> tasks."""
RECHECKED = {"interval": "interval", "chord": "chord", "chord_root": "root", "chord_key_root": "root"}
"""Tasks whose published key can be worked out from `abc_context` alone -> kind of question."""


@dataclass(frozen=True)
class LoadOptions(LoadSettings):
    """Loader options that are music's own."""

    questions: int = 3
    """Questions asked about each tune."""
    mode: str = "text"
    images: str = "sheet"
    form: str = "think_answer"
    thinking: str = "short"
    recheck: bool = False
    """Work SSMR-Bench's keys out again where the score allows, and refuse rows whose key the score contradicts."""

    def __post_init__(self) -> None:
        within("pack.questions", self.questions, 1, 100)
        one_of("pack.mode", self.mode, ("text", "visual"))
        one_of("pack.form", self.form, ("think_answer", "boxed"))
        one_of("pack.thinking", self.thinking, ("short", "off"))
        if self.mode == "visual" and self.images != "sheet":
            raise ConfigError("pack.images: a 64 px tile cannot show a whole tune. Use pack.images=sheet with data of your own.")


# --- tunes --------------------------------------------------------------------------------------------------------------


def tune_group(abc: str) -> str:
    """What keeps copies of a tune in one split: its notes without fields, spaces and case."""
    body = "".join(line for line in abc.splitlines() if not FIELD_LINE.match(line))
    return "tune=" + hashlib.sha256("".join(body.split()).casefold().encode()).hexdigest()[:24]


def _tune(row: Mapping[str, Any], settings: LoadOptions) -> Iterable[Record]:
    abc = text_cell(row, *TUNE_COLUMNS)
    column = next(name for name in TUNE_COLUMNS if optional_cell(row, name) is not None)
    try:
        tune = read_abc(abc)
    except AbcError as err:
        raise RowFault(column, f"cannot be read: {err}.") from err
    group, key = tune_group(abc), optional_cell(row, "id", "uid")
    stem = str(key) if key is not None else group[5:17]
    yield Record(DOCUMENTS, key=f"{stem}.tune", text=abc.strip(), group=group)
    for number, question in enumerate(questions(abc.strip(), tune, settings.questions, group)):
        yield _asked(question, f"{stem}.{number}", group, settings)


def _asked(question: TuneQuestion, key: str, group: str, settings: LoadOptions) -> Record:
    is_visual = settings.mode == "visual"
    meta = {"ask": question.ask.to_meta(), "difficulty": question.difficulty, "mode": settings.mode, "form": settings.form,
            "thinking": settings.thinking, EXACT_TEXT: True}  # fmt: skip
    return Record(
        QUESTIONS, key=key, text=question.text if is_visual else f"{question.text}\n{question.shown}", answer=question.answer,
        response=worked(question.told, question.answer, settings.form, settings.thinking), group=group, task=question.task,
        reference=question.answer, meta=meta, draw=_sheet(question.shown) if is_visual else None,
    )  # fmt: skip


def _sheet(abc: str) -> Callable[[], tuple[Media, ...]]:
    def draw() -> tuple[Media, ...]:
        from factory.domains.music.sheet import sheet_png

        return (Media(data=sheet_png(abc)),)

    return draw


# --- benchmarks ---------------------------------------------------------------------------------------------------------


def _ssmr(row: Mapping[str, Any], settings: LoadOptions) -> Record:
    name = "".join(text_cell(row, "class_name").replace("_", " ").split()).casefold()
    if name not in CLASSES:
        raise RowFault("class_name", f"{row['class_name']!r} is none of SSMR-Bench's templates ({', '.join(CLASSES)}).")
    task = CLASSES[name]
    right = text_cell(row, "correct_answer")
    texts = [right, *(text_cell(row, f"incorrect_answer{number}") for number in (1, 2, 3))]
    check_options(_exact(texts))
    score = optional_cell(row, "abc_context")
    question = text_cell(row, "question")
    if settings.recheck and task in RECHECKED and isinstance(score, str):
        _recheck(RECHECKED[task], score, right)
    random.Random(f"ssmr-{question}-{score}-{right}").shuffle(texts)
    text = f"{question}\n{score.strip()}" if isinstance(score, str) else question
    meta = {"form": settings.form, "thinking": settings.thinking, "difficulty": str(row.get("difficulty") or "unrated"), "mode": "text",
            EXACT_TEXT: True}  # fmt: skip
    return Record(SAMPLES, text=text, options=tuple(texts), answer=LETTERS[texts.index(right)], task=task, meta=meta,
                  images=optional_cell(row, "image", "images"))  # fmt: skip


def _exact(texts: list[str]) -> list[str]:
    """Marks case, so that the ABC options `C` and `c` stay two: an octave lies between them."""
    return ["".join(f"^{c}" if c.isupper() else c for c in text) for text in texts]


def _recheck(kind: str, score: str, key: str) -> None:
    """Raises RowFault when the score has an answer of this kind and the key is another."""
    ask = Ask(kind, score if "K:" in score else f"L:1/4\nM:none\nK:C\n{score}")
    try:
        is_right = accepts(ask, key)
    except AskError:
        return
    if not is_right:
        raise RowFault("correct_answer", f"is {key!r}; by its score it is {right_answers(ask)[0]!r}.")


def _theory_bench(row: Mapping[str, Any], settings: LoadOptions) -> Record:
    options = parse_options(cell(row, "options"))
    score = optional_cell(row, "abc_score")
    stem = text_cell(row, "stem")
    subset = str(row.get("subset") or row.get("class") or "").casefold()
    meta = {"form": settings.form, "thinking": settings.thinking, "mode": "text", EXACT_TEXT: True}
    answer = resolve_answer(text_cell(row, "answer"), options)
    return Record(SAMPLES, text=f"{stem}\n{score.strip()}" if isinstance(score, str) else stem, options=options, answer=answer, meta=meta,
                  task="reasoning" if "reason" in subset else "knowledge")  # fmt: skip


SSMR = RowShape(
    "ssmr", "SSMR-Bench", (("class_name",), ("question",), ("correct_answer",), ("incorrect_answer1",)), None, SAMPLES, _ssmr
)
THEORY_BENCH = RowShape(
    "musictheorybench", "MusicTheoryBench", (("stem",), ("options",), ("answer",)), None, SAMPLES, _theory_bench
)
TUNE = RowShape("tune", "a tune in ABC", (TUNE_COLUMNS,), None, DOCUMENTS | QUESTIONS, _tune)


def _in_form(shape: RowShape) -> RowShape:
    """The common shape, with the form that the build asks for."""

    def convert(row: Mapping[str, Any], settings: LoadOptions) -> Iterable[Record]:
        made = shape.convert(row, settings)
        for record in [made] if isinstance(made, Record) else made:
            record.meta.setdefault("form", settings.form)
            record.meta.setdefault("thinking", settings.thinking)
            yield record

    return replace(shape, convert=convert)


def task_of(record: Record) -> str:
    """The user's own questions: with options, or with a short answer."""
    return "knowledge" if record.options else "question"


def system_turn(options: Mapping[str, Any]) -> str:
    """Text of the system turn that `pack.system` asks for; empty for `none`."""
    name = str(options.get("system", "none"))
    if name == "none":
        return ""
    values = {"form": str(options.get("form", "think_answer")), "thinking": str(options.get("thinking", "short"))}
    return system_prompt(Path(__file__).parent / "prompts", name, **values)


SHAPES = (SSMR, THEORY_BENCH, TUNE, *map(_in_form, COMMON))
TASKS = tuple(MAKERS)
LOADER = Loader(
    "music", SHAPES, task_of=task_of, settings=LoadOptions, formats=FORMATS, generator_keys=[item.name for item in fields(Options)],
    system=system_turn,
)  # fmt: skip
