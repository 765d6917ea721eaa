"""Look at a user's table and propose how its rows become questions: tasks, kinds of answer, tolerance, splits. Nothing is written.

Two layouts are understood: rows that hold a question and its answer (perhaps with options, reasoning and an image), and plain
tables, in which every column that looks like an answer (few values, yes/no, a number) is asked for from the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from factory.data.rows import RowFault, RowReport, read_rows
from factory.data.shapes import optional_cell
from factory.errors import DataError, near_miss
from factory.packs.common_shapes import IMAGE_COLUMNS
from factory.packs.questions import KINDS, NO, YES, Questions, Task
from factory.packs.records import GROUP_FIELDS
from factory.packs.table import read_answer
from factory.rewards.quantities import read_quantity

QUESTION = ("question", "prompt", "problem", "query", "instruction", "input")
ANSWER = ("answer", "gt_answer", "target", "response", "output", "solution", "label")
OPTIONS = ("options", "choices")
REASONING = ("explanation", "reasoning", "rationale", "cot", "thinking")
IDS = ("id", "uid", "sample_id", "index", "row", "no", "nr", "number", "name", "split")
READ_ROWS = 5000
"""Rows looked at."""
FEWEST_ROWS = 30
MOST_LABELS = 20
MOST_FEATURES = 12
FILLED = 0.97
"""Share of rows in which a column must have a value to be shown in questions."""
TOLERANCES = (0.05, 0.02, 0.01, 0.001, 0.0)
"""Relative tolerances of numbers, the widest that still tells rows apart is proposed."""


@dataclass(frozen=True)
class Proposal:
    """What was seen and what it suggests."""

    questions: Questions
    notes: tuple[str, ...]
    """What was seen, one line each; they become comments of questions.yaml."""
    counts: Mapping[str, int]
    """task -> rows that it took."""
    num_rows: int


def look(file: Path) -> list[dict[str, Any]]:
    """The first READ_ROWS readable rows.

    Raises:
        DataError: no table by its name, too few rows, or a layout that holds conversations.
    """
    rows: list[dict[str, Any]] = []
    for _, row in read_rows(file, RowReport(max_bad_fraction=1.0)):
        rows.append({name: value for name, value in row.items() if name is not None and not str(name).startswith("_")})
        if len(rows) >= READ_ROWS:
            break
    if len(rows) < FEWEST_ROWS:
        raise DataError(
            f"{file}: {len(rows)} readable rows; want at least {FEWEST_ROWS}, so that each split gets some. Add rows."
        )
    nested = [name for name in ("messages", "conversations") if isinstance(rows[0].get(name), list | tuple)]
    if nested:
        raise DataError(
            f"{file}: its rows are conversations ('{nested[0]}'), which every pack reads with --data as they are. "
            "To make a pack of them, write a table with the columns question and answer."
        )
    return rows


def propose(rows: Sequence[Mapping[str, Any]], answers: Sequence[str] = ()) -> Proposal:
    """Tasks for the rows of a table.

    Args:
        rows: as `look` gives them.
        answers: columns to ask for; by default those that look like answers.

    Raises:
        DataError: no column can be asked for, or `answers` names one that is not there.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    for name in answers:
        if name not in columns:
            raise DataError(f"--answer {name}: no such column.{near_miss(name, columns)} Columns: {', '.join(columns)}.")
    question = _first(columns, QUESTION)
    answer = answers[0] if answers else _first(columns, ANSWER)
    found = _of_questions(rows, columns, question, answer) if question and answer else _of_table(rows, columns, answers)
    return _counted(rows, found[0], found[1])


def _first(columns: Sequence[str], names: Sequence[str]) -> str:
    return next((name for name in names if name in columns), "")


def kind_of(values: Sequence[Any]) -> str:
    """Kind of answer that all these cells are: yes_no, number, label, text or long."""
    texts = [str(value).strip() for value in values]
    if all(text.strip(" .").casefold() in (*YES, *NO) for text in texts):
        return "yes_no"
    if all(_is_number(text) for text in texts):
        return "number"
    words = max(len(text.split()) for text in texts)
    distinct = len({text.casefold() for text in texts})
    if distinct <= min(MOST_LABELS, max(2, len(texts) // 3)) and words <= 5:
        return "label"
    return "text" if words <= 5 else "long"


def _is_number(text: str) -> bool:
    try:
        read_quantity(text)
    except ValueError:
        return False
    return True


def _cells(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    return [value for row in rows if (value := optional_cell(row, name)) is not None]


def _of_questions(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], question: str, answer: str
) -> tuple[Questions, list[str]]:
    """Rows with a question and its answer: one task for each kind of answer that occurs, tried in this order."""
    options = "option_" if "option_A" in columns else _first(columns, OPTIONS)
    reasoning, image = _first(columns, REASONING), _first(columns, IMAGE_COLUMNS)
    ask, made, rest = f"{{{question}}}", [], list(rows)
    shared = {"ask": ask, "answer": answer, "reasoning": reasoning}
    for kind in ("letter", "yes_no", "number", "label", "text", "long"):
        if kind == "letter" and not options:
            continue
        labels = ()
        if kind == "label":
            common = Counter(str(row[answer]).strip() for row in rest if optional_cell(row, answer) is not None)
            labels = tuple(sorted(label for label, times in common.items() if times >= 3 and len(label.split()) <= 5))
            if not 2 <= len(labels) <= MOST_LABELS:
                continue
        task = Task(kind, kind, **shared, labels=labels, options=options if kind == "letter" else "")
        taken = [row for row in rest if _fits(row, task)]
        if len(taken) < max(3, len(rows) // 100):
            continue
        made.append(task)
        rest = [row for row in rest if not any(row is one for one in taken)] if len(taken) < len(rest) else []
    if not made:
        raise DataError(f"no row has an answer in '{answer}'. Name the column with --answer COLUMN.")
    notes = [f"questions in '{question}', answers in '{answer}'" + (f", options in '{options}'" if options else "")]
    notes += [f"worked reasoning in '{reasoning}'"] if reasoning else []
    notes += [f"images in '{image}'"] if image else []
    numbers = [value for row in rows if (value := _number(row, made)) is not None]
    shape = "think_answer" if reasoning else "answer"
    document = f"{{{question}}}\n{{{answer}}}"
    return Questions(tuple(made), shape, _tolerance(numbers), _group(columns), image, document), notes


def _fits(row: Mapping[str, Any], task: Task) -> bool:
    if optional_cell(row, task.answer) is None:
        return False
    try:
        read_answer(row, task)
    except RowFault:
        return False
    return True


def _number(row: Mapping[str, Any], tasks: Sequence[Task]) -> float | None:
    task = next((task for task in tasks if _fits(row, task)), None)
    return read_quantity(str(row[task.answer])).value if task is not None and task.kind == "number" else None


def _of_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], answers: Sequence[str]) -> tuple[Questions, list[str]]:
    """A plain table: its last column of labels, of yes/no and of numbers is asked for from all others (classes stand last, mostly)."""
    group, notes, kinds = _group(columns), [], {}
    for name in columns:
        values = _cells(rows, name)
        if not values or name == group or not all(isinstance(value, str | int | float) for value in values):
            continue
        kinds[name] = kind_of(values)
        notes.append(
            f"column '{name}': {kinds[name]}, {len({str(value) for value in values})} values, {len(rows) - len(values)} blank"
        )
    is_id = {name for name in kinds if name.casefold() in IDS or (kinds[name] in ("text", "number") and _is_counter(rows, name))}
    useful = [
        name for name in kinds if name not in is_id and kinds[name] != "long" and len({str(v) for v in _cells(rows, name)}) > 1
    ]
    last = [[name for name in useful if kinds[name] == kind][-1:] for kind in ("label", "yes_no", "number")]
    wanted = list(answers) or [name for found in last for name in found]
    # Something has to be left to ask about: the last of the proposed answers is given up first.
    while len(wanted) > 1 and not answers and len(useful) - len(wanted) < 2:
        wanted.pop()
    features = [name for name in useful if name not in wanted and len(_cells(rows, name)) >= FILLED * len(rows)][:MOST_FEATURES]
    if not wanted or not features:
        raise DataError(
            f"no column can be asked for from the others (columns: {', '.join(columns)}). Name the answer with --answer COLUMN, "
            "or give a table with the columns question and answer."
        )
    given = ". ".join(f"{_words(name).capitalize()}: {{{name}}}" for name in features)
    tasks = tuple(_table_task(rows, name, kinds[name], given) for name in wanted)
    numbers = [read_quantity(str(value)).value for name in wanted if kinds[name] == "number" for value in _cells(rows, name)]
    document = (
        f"{given}. " + ". ".join(f"{_words(name).capitalize()}: {{{name}}}" for name in wanted if _is_full(rows, name)) + "."
    )
    return Questions(tasks, "answer", _tolerance(numbers), group, "", document), notes


def _table_task(rows: Sequence[Mapping[str, Any]], name: str, kind: str, given: str) -> Task:
    labels = tuple(sorted({str(value).strip() for value in _cells(rows, name)})) if kind == "label" else ()
    if kind == "yes_no":
        ask = f"{given}. {_words(name).capitalize()}: yes or no?"
    elif kind == "label":
        ask = f"{given}. Which {_words(name)} is it: {', '.join(labels)}?"
    else:
        ask = f"{given}. What is its {_words(name)}?"
    return Task(_key(name), kind, ask.replace("..", "."), name, labels)


def _key(name: str) -> str:
    """A task's name from a column's."""
    kept = "".join(letter if letter.isalnum() else "_" for letter in name.strip().lower())
    return kept.strip("_") or "task"


def _words(name: str) -> str:
    return _key(name).replace("_", " ")


def _is_full(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return len(_cells(rows, name)) == len(rows)


def _is_counter(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Every value once, and a whole number or one that begins with the same letters: a running number, not a property."""
    values = [str(value) for value in _cells(rows, name)]
    whole = all(value.lstrip("-").isdigit() for value in values)
    coded = all(any(letter.isdigit() for letter in value) and value[:1].isalpha() for value in values)
    return len(set(values)) == len(rows) and (whole or coded)


def _group(columns: Sequence[str]) -> str:
    return _first(columns, GROUP_FIELDS)


def _tolerance(numbers: Sequence[float]) -> float:
    """The widest tolerance at which a fifth of the other answers at most would count as right."""
    some = list(numbers)[:200]
    for tolerance in TOLERANCES:
        pairs = [abs(a - b) <= tolerance * abs(b) for i, a in enumerate(some) for j, b in enumerate(some) if i != j and a != b]
        if pairs and sum(pairs) / len(pairs) <= 0.2:
            return tolerance
    return 0.0


def _counted(rows: Sequence[Mapping[str, Any]], questions: Questions, notes: Sequence[str]) -> Proposal:
    """How many rows each task takes; tasks that take none fall away."""
    counts: Counter[str] = Counter()
    for row in rows:
        taken: set[str] = set()
        for task in questions.tasks:
            if task.answer not in taken and _fits(row, task):
                counts[task.name] += 1
                taken.add(task.answer)
    kept = tuple(task for task in questions.tasks if counts[task.name])
    if all(task.kind == "long" for task in kept):
        raise DataError(
            f"every answer is free text ({KINDS['long']}), so nothing could be scored. Give short answers or options in a column "
            "and name it with --answer COLUMN; or use the file with --data for lessons alone."
        )
    return Proposal(replace(questions, tasks=kept), tuple(notes), {task.name: counts[task.name] for task in kept}, len(rows))
