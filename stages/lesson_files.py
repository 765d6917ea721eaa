"""The files that one stage leaves for another: lessons.jsonl, pairs.jsonl and prompts.jsonl. One JSON object a line; no torch.

A setting such as `lessons_from` names an earlier stage (`select`) or a file (`./rounds/lessons.jsonl`); a word without dots and
slashes is a stage. What is read must belong to the training split: a held-out sample that came back as a lesson would make
every later measurement worthless.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from factory.contracts import Lesson, Pair, Sample
from factory.data.report import RowReport
from factory.errors import ConfigError, DataError, PluginError, near_miss
from factory.plugins import load_stage
from factory.registry.files import write_atomic

LESSONS, PAIRS, PROMPTS = "lessons.jsonl", "pairs.jsonl", "prompts.jsonl"
FILE_OF = {"lessons": LESSONS, "pairs": PAIRS, "prompts": PROMPTS}
"""What a stage `produces` -> the name of its file."""
SET_OF = {"lessons": "shortest_correct", "pairs": "right_wrong"}
"""What a stage can be told not to write -> a rule that writes it."""

_STAGE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,60}")
Row = TypeVar("Row")


@dataclass(frozen=True)
class PromptStat:
    """What the rollouts of one prompt say about it. Rates and moments are over rollouts that no failed verifier masked."""

    sample_id: str
    pass_rate: float | None
    """Share of right rollouts, in [0, 1]; None when every rollout was masked, hence nothing is known."""
    variance: float | None
    """Population variance of the rewards; `p(1-p)` when they are 0 or 1. None with `pass_rate`."""
    kept: bool
    repeat: int
    """How often the prompt stands in a repeated training set; 0 when it is not kept."""
    why: str = ""
    """`kept`, or which rule turned it down."""
    num_right: int = 0
    num_counted: int = 0
    """Rollouts that were not masked."""
    num_masked: int = 0
    mean_tokens: float | None = None
    """Mean length of all rollouts, tokens."""
    blind_pass_rate: float | None = None
    """Pass rate without the images; None when it was not measured."""
    rap_d: float | None = None
    """`pass_rate - blind_pass_rate`, in [-1, 1]."""


def stage_named(value: str) -> str | None:
    """The stage that a `…_from` setting names, or None when it is empty or a path."""
    return value if _STAGE_NAME.fullmatch(value) else None


def path_named(value: str) -> str | None:
    """The path that a `…_from` setting names, or None when it is empty or a stage."""
    return value if value and stage_named(value) is None else None


def check_source(key: str, value: str, wanted: str, build: Mapping[str, Any]) -> None:
    """Refuse, while planning, a source that cannot hold what is wanted.

    Args:
        key: the setting, for the message: `stages.sft.lessons_from`.
        value: stage name or path; empty is fine.
        wanted: `lessons`, `pairs` or `prompts`.
        build: the whole config as plain data.

    Raises:
        ConfigError: the stage is unknown, writes no such file or was told not to, or the path is missing.
    """
    stage, stages = stage_named(value), build.get("stages", {})
    if stage is None:
        if value and not _file(Path(value).expanduser(), wanted).is_file():
            raise ConfigError(f"{key} is '{value}', where no {FILE_OF[wanted]} lies. Give a file, its folder, or a stage.")
        return
    makers = [name for name, section in stages.items() if wanted in _produces(section)]
    if stage not in stages:
        raise ConfigError(
            f"{key} is '{stage}', which is no stage of this build.{near_miss(stage, stages)} Stages that write {wanted}: "
            f"{', '.join(makers) or 'none'}. A file in this folder is written ./{stage}."
        )
    if stage not in makers:
        raise ConfigError(
            f"{key} is '{stage}', a stage of kind '{stages[stage]['kind']}', which writes no {wanted}. "
            f"Name one that does ({', '.join(makers) or 'none yet; add one of kind select'})."
        )
    rule = stages[stage].get(wanted)
    if getattr(rule, "value", rule) == "none":
        raise ConfigError(
            f"{key} is '{stage}', but stages.{stage}.{wanted} is none, so it writes no {wanted}. "
            f"Set stages.{stage}.{wanted}={SET_OF[wanted]}."
        )


def _produces(section: Mapping[str, Any]) -> frozenset[str]:
    try:
        return load_stage(section["kind"]).produces
    except PluginError:
        # Its own place in the plan tells of an unknown kind.
        return frozenset()


def find_file(value: str, wanted: str, inputs: Mapping[str, Path]) -> Path:
    """The file that a `…_from` setting stands for.

    Args:
        value: stage name or path, not empty. A folder stands for the file of that name inside it.
        wanted: `lessons`, `pairs` or `prompts`.
        inputs: `ctx.inputs`, the folders of the stages that are read.

    Raises:
        DataError: the stage was not handed over, or the file is missing.
    """
    stage = stage_named(value)
    if stage is not None and stage not in inputs:
        raise DataError(f"stage '{stage}' is read for its {wanted}, but was not handed over. Add it to `reads` of this stage.")
    path = _file(inputs[stage] if stage is not None else Path(value).expanduser(), wanted)
    if not path.is_file():
        raise DataError(f"{path}: no such file; {wanted} are read from it. Check the setting, or build the stage that writes it.")
    return path


def _file(path: Path, wanted: str) -> Path:
    return path / FILE_OF[wanted] if path.is_dir() else path


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line; readers see the old file or the whole new one. Refuses NaN (ValueError)."""
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def lesson_row(lesson: Lesson, **more: Any) -> dict[str, Any]:
    """A line of lessons.jsonl; `more` (where it came from, its length) is for people and is not read back."""
    return {"sample": lesson.sample.to_json(), "response": lesson.response, **more}


def read_lessons(path: Path) -> list[Lesson]:
    """Lessons of a lessons.jsonl, or of the folder that holds one.

    Raises:
        DataError: unreadable line, or a sample that is not of the training split; names file and line.
    """
    return _read(path, "lessons", lambda row: Lesson(Sample.from_json(row["sample"]), _text(row, "response")), _sample_of)


def read_pairs(path: Path) -> list[Pair]:
    """Pairs of a pairs.jsonl, or of the folder that holds one. Raises as `read_lessons`."""

    def pair(row: Mapping[str, Any]) -> Pair:
        for key in ("chosen", "rejected"):
            _text(row, key)
        return Pair.from_json(row)

    return _read(path, "pairs", pair, _sample_of)


def read_prompts(folder: Path) -> list[PromptStat]:
    """Statistics of a prompts.jsonl, or of the folder that holds one, in the order of the samples.

    Raises:
        DataError: unreadable line; names file and line.
    """
    known = {field.name for field in fields(PromptStat)}
    return _read(folder, "prompts", lambda row: PromptStat(**{key: row[key] for key in row if key in known}), None)


def prompt_row(stat: PromptStat) -> dict[str, Any]:
    """A line of prompts.jsonl."""
    return asdict(stat)


def read_samples(path: Path) -> Iterator[Sample]:
    """The samples behind a file of lessons or pairs, whatever their split: for the overlap check.

    Lines in our own form, or any table of pairs that a stage can train on.

    Raises:
        DataError: unreadable line.
    """
    if path.suffix == ".jsonl" and all("sample" in row for _, row in _lines(path)):
        for number, row in _lines(path):
            yield _parsed(path, number, row, lambda given: Sample.from_json(given["sample"]))
        return
    from factory.stages.pairs import read_pair_file

    # Rows that training leaves out as malformed are left out here too: they are counted and set aside there.
    yield from (pair.sample for pair in read_pair_file(path, RowReport(max_bad_fraction=1.0)))


def _sample_of(item: Lesson | Pair) -> Sample:
    return item.sample


def _text(row: Mapping[str, Any], key: str) -> str:
    if not isinstance(row[key], str):
        raise TypeError(f"{key} is a {type(row[key]).__name__}, not text")
    return row[key]


def _read(path: Path, what: str, parse: Callable[[Any], Row], sample_of: Callable[[Any], Sample] | None) -> list[Row]:
    path, found = _file(path, what), []
    for number, row in _lines(path):
        item = _parsed(path, number, row, parse)
        split = sample_of(item).split if sample_of is not None else "train"
        if split != "train":
            raise DataError(
                f"{path}:{number}: sample {sample_of(item).id!r} is of the {split} split; {what} come from the training split "
                "only, or what is measured would have been learned. Remove it."
            )
        found.append(item)
    return found


def _parsed(path: Path, number: int, row: Any, parse: Callable[[Any], Row]) -> Row:
    try:
        return parse(row)
    except (KeyError, TypeError, AttributeError, ValueError) as err:
        raise DataError(
            f"{path}:{number}: is not such a row as a select stage writes ({type(err).__name__}: {err}). Mend or remove the line."
        ) from err


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _json(path, number, line)
    except (OSError, UnicodeDecodeError) as err:
        raise DataError(f"{path}: cannot be read: {err}. Check the path and the permissions.") from err


def _json(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as err:
        raise DataError(f"{path}:{number}: is not JSON: {err}. Mend or remove the line.") from err
