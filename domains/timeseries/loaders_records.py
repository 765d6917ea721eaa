"""One series of the user's as records: a caption, and a question with its worked response.

The task follows from what the row has: a class gives `classify`, marked steps `anomaly`, a number `regress` (asked for by name),
and `pack.task=forecast` makes windows of anything. A row without any of these gives its caption alone.
"""

from __future__ import annotations

import hashlib
import math
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from factory.data.rows import RowFault
from factory.data.shapes import optional_cell
from factory.data.splits import checked_shares
from factory.domains.timeseries.augment import altered
from factory.domains.timeseries.files_ucr import plain_label
from factory.domains.timeseries.measured import measure, told
from factory.domains.timeseries.options import Shown
from factory.domains.timeseries.puzzles import NEXT
from factory.domains.timeseries.reading import SERIES, SeriesRow, stacked_channels
from factory.domains.timeseries.series import Series
from factory.domains.timeseries.showing import about, form_of, picture
from factory.domains.timeseries.windows import Window, anomaly_windows, forecast_windows, group_in_time
from factory.domains.timeseries.wording import classify_question, interval_text, is_terse, joined, puzzle_question
from factory.domains.timeseries.written import written
from factory.packs.common_shapes import RowShape
from factory.packs.records import DOCUMENTS, QUESTIONS, SAMPLES, Record
from factory.packs.settings import one_of, within
from factory.packs.sources import LoadSettings

TASKS = ("auto", "classify", "regress", "anomaly", "forecast")
LARGEST = sys.float_info.max
"""JSON knows whole numbers beyond it; they are no measurements."""
MOST_CLASSES_NAMED = 40
"""Classes listed in a question; sets with more ask without the list."""


@dataclass(frozen=True)
class SeriesSettings(LoadSettings, Shown):
    """`pack.*` of a build on the user's series: the shared loader's keys, how series are shown, and these."""

    task: str = "auto"
    """`auto`: by what the rows have. `classify`, `regress`, `anomaly`, `forecast`."""
    layout: str = "auto"
    """CSV and Parquet: `long` (a row is a value) or `wide` (a row is a series); `auto` where the names of the columns say it."""
    columns: dict[str, str] = field(default_factory=dict)
    """Role -> column: id, time, channel, value, label, target, anomaly."""
    header: bool = True
    """Whether a CSV begins with names; without them columns are numbered from 0."""
    classes: tuple[str, ...] = ()
    """All classes, where the files do not hold or know them all."""
    class_names: dict[str, str] = field(default_factory=dict)
    """Label in the file -> name in questions and answers, such as {1: gun, 2: point}."""
    title: str = ""
    """What the series are, for questions in sentences: "the power demand of a day"."""
    window: int = 256
    """Steps of a window cut from a long series (anomaly, forecast)."""
    horizon: int = 16
    """Steps after a window whose direction is asked for (forecast)."""
    augment: int = 0
    """Altered copies of each training series, in corpus, lessons and samples; never in validation or test. Fewer for large files."""
    synthetic: float = 0.0
    """Share of the corpus that is generated signals, which teach reading plots before the user's few series are seen."""

    def __post_init__(self) -> None:
        LoadSettings.__post_init__(self)
        Shown.__post_init__(self)
        from factory.domains.timeseries.files_tables import ROLES

        one_of("pack.task", self.task, TASKS)
        one_of("pack.layout", self.layout, ("auto", "long", "wide"))
        for role in self.columns:
            one_of("a key of pack.columns", role, ROLES)
        within("pack.window", self.window, 8, 100_000)
        within("pack.horizon", self.horizon, 1, 10_000)
        within("pack.augment", self.augment, 0, 1000)
        within("pack.synthetic", self.synthetic, 0.0, 0.95)


def task_of(record: Record) -> str:
    """The task of a row that is no series: with options `choice`, else a short answer."""
    return "choice" if record.options else "feature"


def group_of_values(values: np.ndarray) -> str:
    """Equal series have equal groups (six significant digits), so that copies share a split."""
    rounded = [[f"{value:.6g}" for value in row] for row in values]
    return "series=" + hashlib.blake2b(repr(rounded).encode(), digest_size=12).hexdigest()


def from_series_row(row: Mapping[str, Any], settings: SeriesSettings) -> Iterator[Record]:
    """Records of a row that one of this pack's readers made."""
    return records_of(row[SERIES], settings)


def from_list_row(row: Mapping[str, Any], settings: SeriesSettings) -> Iterator[Record]:
    """Records of a row whose cell is a whole series: JSON lines and Parquet, and GluonTS (`start`, `target`)."""
    column = next(
        (name for name in ("series", "values", "ts", "target", "data") if isinstance(row.get(name), (list, tuple))), None
    )
    if column is None:
        raise RowFault("series", "no cell of the row is a list of numbers.")
    cells: Sequence[Any] = row[column]
    channels = cells if cells and isinstance(cells[0], (list, tuple)) else [cells]
    series = SeriesRow(stacked_channels([_plain_numbers(channel, column) for channel in channels]))
    series.dataset = str(optional_cell(row, "dataset") or "")
    key = optional_cell(row, settings.columns.get("id", "id"), "uid", "item_id")
    series.key = str(key) if key is not None else None
    label = optional_cell(row, settings.columns.get("label", "label"), "class")
    series.label = plain_label(str(label)) if label is not None else None
    target = optional_cell(row, settings.columns.get("target", "target"))
    if column != "target" and isinstance(target, (int, float)) and not isinstance(target, bool):
        if not abs(target) <= LARGEST:
            raise RowFault("target", f"is {target!r:.40}, no finite number.")
        series.target = float(target)
    return records_of(series, settings)


def _plain_numbers(cells: Sequence[Any], column: str) -> np.ndarray:
    """[L]; None and "NaN" are missing. Raises RowFault."""
    if not isinstance(cells, (list, tuple)):
        raise RowFault(column, f"has a channel that is {cells!r:.40}, no list of numbers.")
    values = []
    for place, value in enumerate(cells, 1):
        if value is None or (isinstance(value, str) and value.strip().casefold() in ("nan", "?", "")):
            values.append(math.nan)
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and (abs(value) <= LARGEST or value != value):
            values.append(float(value))
        else:
            raise RowFault(column, f"value {place} is {value!r:.40}, no finite number (missing values are null).")
    return np.array(values)


def from_timemaster_row(row: Mapping[str, Any], settings: SeriesSettings) -> Record:
    """A row of TimeMaster's own parquet: a prompt about the images, and the class. `pack.classes` must name all classes."""
    if not settings.classes:
        raise RowFault(
            "reward_model", "the row names its own class only. Set pack.classes to all of them, for example [Desktop, Laptop]."
        )
    verl = next(shape for shape in _common() if shape.name == "verl")
    record = verl.convert(row, settings)
    assert isinstance(record, Record)
    answer = settings.class_names.get(record.answer, record.answer)
    if answer.casefold() not in {name.casefold() for name in settings.classes}:
        raise RowFault("reward_model", f"the class {answer!r} is none of pack.classes ({', '.join(settings.classes)}).")
    form = "timemaster" if "<class>" in "".join(turn.content for turn in record.turns) else form_of(settings, "classify")
    meta = {
        "classes": list(settings.classes),
        "form": form,
        "thinking": settings.thinking,
        "dataset": str(row.get("data_source") or ""),
    }
    return replace(record, gives=SAMPLES, task="classify", answer=answer, options=(), meta={**record.meta, **meta})


def _common() -> Sequence[RowShape]:
    from factory.packs.common_shapes import COMMON

    return COMMON


def records_of(series: SeriesRow, settings: SeriesSettings) -> Iterator[Record]:
    """All records of one series. Raises RowFault when it does not fit `pack.task`."""
    if settings.task == "forecast":
        yield from _windows(series, settings, forecast_windows(series.values, settings.window, settings.horizon), "forecast")
        return
    if settings.task in ("auto", "classify") and series.label is None and series.target is not None:
        raise RowFault(
            "target", f"{series.target:g} is a number to be predicted, no class (a regression set, @targetLabel). "
            "Set pack.task=regress, or name a set with classes.",
        )  # fmt: skip
    if settings.task == "regress" and series.target is None:
        raise RowFault("target", "the row has no number to be predicted. Set pack.task=classify, or pack.columns.target.")
    if settings.task == "classify" and series.label is None:
        raise RowFault("label", "the row has no class. Set pack.columns.label, or pack.task=forecast to ask for what comes next.")
    has_marks = series.marks is not None and bool(series.marks.any())
    if settings.task == "anomaly" and series.marks is None:
        raise RowFault("anomaly", "the row marks no steps as anomalous. Set pack.columns.anomaly.")
    if has_marks and settings.task in ("auto", "anomaly"):
        assert series.marks is not None
        yield from _windows(series, settings, anomaly_windows(series.values, series.marks, settings.window), "anomaly")
        return
    yield from _whole(series, settings, series.values, "")
    rng = random.Random(f"timeseries-augment-{group_of_values(series.values)}")
    for number in range(1, settings.augment + 1):
        yield from _whole(series, settings, altered(series.values, rng), str(number))


def _whole(series: SeriesRow, settings: SeriesSettings, values: np.ndarray, copy: str) -> Iterator[Record]:
    """The caption of a series, and its question when it has a class or a target. `copy` numbers altered copies."""
    shape = Series(values, channels=series.channels)
    found = measure(values)
    steps = told(found, settings.style)
    label = _label(series, settings)
    answer = label if label is not None else f"{series.target:.6g}" if series.target is not None else None
    dataset = series.dataset or "series"
    base = Record(DOCUMENTS, group=group_of_values(series.values), meta={"dataset": dataset, **({"copy": copy} if copy else {})})
    key = series.key and ":".join(part for part in (series.key, f"copy{copy}" if copy else "") if part)
    caption = [*steps, *([_class_told(dataset, answer, settings.style)] if answer is not None else [])]
    yield _shown(replace(base, key=_key(key, "caption")), shape, settings, joined(caption, settings.style), dataset)
    if answer is None:
        return
    meta = {
        **base.meta,
        **series.meta,
        "features": found,
        **about(shape, settings, task="classify" if label is not None else "regress"),
    }
    if label is not None:
        classes = _classes(series, settings)
        text = _question(dataset, classes, settings)
        meta["classes"] = list(classes)
        meta["extension"] = _extension(found, label, dataset)
        task, reference = "classify", None
    else:
        text = (
            "value ?" if is_terse(settings.style) else f"This is {settings.title or dataset}. Give the number that belongs to it."
        )
        task, reference = "regress", series.target
    record = replace(base, key=_key(key, ""), gives=QUESTIONS, task=task, reference=reference, answer=answer, meta=meta)
    record.response = _response([*steps, answer], answer, settings, task, str(meta.get("extension", "")))
    yield _shown(record, shape, settings, text, dataset)


def _key(key: str | None, part: str) -> str | None:
    """None for a series without an id of its own: the loader then numbers its records by row."""
    return key and ":".join(piece for piece in (key, part) if piece)


def _label(series: SeriesRow, settings: SeriesSettings) -> str | None:
    if series.label is None or settings.task == "regress":
        return None
    label = settings.class_names.get(series.label, series.label)
    if settings.classes and label not in settings.classes:
        raise RowFault("label", f"{label!r} is none of pack.classes ({', '.join(settings.classes)}).")
    return label


def _classes(series: SeriesRow, settings: SeriesSettings) -> tuple[str, ...]:
    if settings.classes:
        return settings.classes
    known = series.classes or (str(series.label),)
    if len(known) < 2:
        raise RowFault("label", f"the file knows only the class {known[0]!r}. Set pack.classes to all classes.")
    return tuple(settings.class_names.get(name, name) for name in known)


def _question(dataset: str, classes: Sequence[str], settings: SeriesSettings) -> str:
    if len(classes) > MOST_CLASSES_NAMED:
        return (
            f"{dataset} : class ?"
            if is_terse(settings.style)
            else f"This is {settings.title or dataset}. Which class does it belong to?"
        )
    return classify_question(settings.title or f"a series of {dataset}", dataset, classes, settings.style)


def _class_told(dataset: str, answer: str, style: str) -> str:
    return f"{dataset} {answer}" if is_terse(style) else f"In {dataset} this is {answer}."


def _extension(found: Mapping[str, str], label: str, dataset: str) -> str:
    name, value = next(iter(found.items()))
    return (f"With {name} {value} this series fits {label}, so compare it with other {label} records of {dataset}, measure the same "
            "points on new recordings, and report those that differ.")  # fmt: skip


def _response(steps: Sequence[str], answer: str, settings: SeriesSettings, task: str, extension: str) -> str:
    worked = (
        ""
        if settings.thinking == "off"
        else f"<think>{joined(steps[-1:] if settings.thinking == 'short' else steps, settings.style)}</think>"
    )
    if form_of(settings, task) == "timemaster":
        return f"{worked}<class>{answer}</class><extension>{extension}</extension>"
    return f"{worked}<answer>{answer}</answer>"


def _shown(record: Record, series: Series, settings: SeriesSettings, text: str, title: str) -> Record:
    """The record with its picture, drawn when it is wanted, or its numbers before the text."""
    if settings.mode == "text":
        record.text = f"{written(series, settings.points)}\n{text}"
        return record
    record.text = text
    record.draw = lambda: (picture(series, settings, view="line", title=title),)
    return record


def _windows(series: SeriesRow, settings: SeriesSettings, windows: Iterator[Window], task: str) -> Iterator[Record]:
    dataset, total = series.dataset or "series", series.values.shape[1]
    key = f"{dataset}:{series.key or ''}"
    shares = checked_shares(settings.splits)
    for window in windows:
        group = group_in_time(key, window.start, window.values.shape[1], total, shares)
        if group is None:
            continue
        shape = Series(window.values, channels=series.channels)
        found = measure(window.values)
        if task == "anomaly":
            assert window.interval is not None
            reference: Any = list(window.interval)
            answer = interval_text(window.interval)
            text, end = puzzle_question("anomaly", settings.style, length=shape.length), f"anomaly {answer}"
        else:
            reference = answer = window.after
            words = random.Random(f"{key}-{window.start}").sample(NEXT, len(NEXT))
            text, end = (
                puzzle_question("forecast", settings.style, length=shape.length, words=words, horizon=settings.horizon),
                f"next {answer}",
            )
        steps = told(found, settings.style)
        meta = {"dataset": dataset, "start": window.start, "features": found, **about(shape, settings, task=task)}
        if task == "forecast":
            meta["classes"] = list(NEXT)
        own = series.key and f"{series.key}@{window.start}"
        yield _shown(Record(DOCUMENTS, key=_key(own, "caption"), group=group, meta={"dataset": dataset}), shape, settings,
                     joined([*steps, end], settings.style), dataset)  # fmt: skip
        record = Record(QUESTIONS, key=own, group=group, task=task, reference=reference, answer=answer, meta=meta)
        record.response = _response([*steps, end], answer, settings, task, "")
        yield _shown(record, shape, settings, text, dataset)


ALL_SORTS = DOCUMENTS | QUESTIONS
SHAPES = (
    RowShape("series", "series read by this pack", ((SERIES,),), None, ALL_SORTS, from_series_row),
    RowShape("timemaster", "TimeMaster's prepared rows", (("prompt",), ("images",), ("reward_model",), ("ability",)), None, SAMPLES,
             from_timemaster_row),
    RowShape("series-list", "a whole series in a cell (also GluonTS)", (("series", "values", "ts", "target", "data"),),
             frozenset({"jsonl", "json", "parquet", "series-parquet", "hub"}), ALL_SORTS, from_list_row),
)  # fmt: skip
