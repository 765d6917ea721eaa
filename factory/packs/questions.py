"""How the rows of a table become questions: `questions.yaml` of a pack, read and checked.

    group: specimen                  # column that must not be divided between splits; without it equal questions stay together
    shape: answer                    # form of a completion, a name of factory.rewards.formats
    tolerance: 0.01                  # of numbers, relative
    document: "{colour} and {grain}: {rock}"
    tasks:
      rock:
        kind: label                  # letter, yes_no, number, label, text or long
        ask: "Colour: {colour}. Grain: {grain}. Which rock is it?"
        answer: rock                 # column
        labels: [basalt, granite]

Tasks with the same answer column compete for a row: the first whose kind fits gets it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from factory.errors import BrokenPlugin, ConfigError, near_miss
from factory.quick_yaml import read_yaml
from factory.rewards.formats import shape_named

FILE = "questions.yaml"
PLACE = re.compile(r"\{([^{}]+)\}")
"""Place of a column in a template."""
KINDS = {
    "letter": "the letter of one of several options",
    "yes_no": "yes or no",
    "number": "a number, right within the tolerance",
    "label": "a word of a closed list",
    "text": "a few words, compared after normalisation",
    "long": "free text: read in pretraining, never asked or scored",
}
"""Kind of answer -> what it is."""
YES, NO = ("yes", "true", "ja", "y"), ("no", "false", "nein", "n")
TEXT_WORDS = 5
"""Longest free answer that exact comparison can judge fairly."""


@dataclass(frozen=True)
class Task:
    """One kind of question that a row gives."""

    name: str
    kind: str
    ask: str
    """Template with `{column}` places."""
    answer: str
    """Column of the answer."""
    labels: tuple[str, ...] = ()
    options: str = ""
    """For `letter`: the column that holds the options, or `option_` for columns option_A, option_B ..."""
    reasoning: str = ""
    """Column of the worked reasoning."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the question shows."""
        return tuple(dict.fromkeys(PLACE.findall(self.ask)))


@dataclass(frozen=True)
class Questions:
    """A whole questions.yaml."""

    tasks: tuple[Task, ...]
    shape: str = "answer"
    tolerance: float = 0.0
    group: str = ""
    image: str = ""
    """Column of the image; empty for none."""
    document: str = ""
    """Template of a text for continued pretraining; empty for none."""
    splits: Mapping[str, float] = field(default_factory=lambda: {"validation": 0.15, "test": 0.15})

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds in use that are scored, in the order of KINDS."""
        return tuple(kind for kind in KINDS if kind != "long" and any(task.kind == kind for task in self.tasks))

    @property
    def shared_columns(self) -> tuple[str, ...]:
        """Columns that every question shows: rows that agree in them stay in one split."""
        common = set(self.tasks[0].columns).intersection(*(task.columns for task in self.tasks))
        return tuple(name for name in self.tasks[0].columns if name in common)


def read_questions(folder: Path) -> Questions:
    """Read `questions.yaml` of a pack's folder. Raises BrokenPlugin naming the key and the remedy."""
    path = folder / FILE
    try:
        raw = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise BrokenPlugin(f"{path}: cannot be read: {err}. `factory domains new NAME --from FILE` writes one.") from err
    _known(path, "", raw, [one.name for one in fields(Questions)])
    rows = raw.get("tasks")
    if not isinstance(rows, Mapping) or not rows:
        raise BrokenPlugin(f"{path}: tasks must map at least one task to its settings. Add one with kind, ask and answer.")
    tasks = tuple(_task(path, str(name), row) for name, row in rows.items())
    made = Questions(**{**raw, "tasks": tasks})
    try:
        shape_named(made.shape)
    except ConfigError as err:
        raise BrokenPlugin(f"{path}: shape: {err}") from err
    if isinstance(made.tolerance, bool) or not isinstance(made.tolerance, int | float) or not 0 <= made.tolerance < math.inf:
        raise BrokenPlugin(f"{path}: tolerance is {made.tolerance!r}; want a share of the number, such as 0.01.")
    return made


def _known(path: Path, where: str, raw: Any, names: Sequence[str]) -> None:
    if not isinstance(raw, Mapping):
        raise BrokenPlugin(f"{path}: {where or 'the file'} must be a mapping of keys, got {type(raw).__name__}.")
    for key in raw:
        if key not in names:
            raise BrokenPlugin(
                f"{path}: {where}{'.' if where else ''}{key} is unknown.{near_miss(str(key), names)} Keys: {', '.join(names)}."
            )


def _task(path: Path, name: str, row: Any) -> Task:
    where = f"tasks.{name}"
    _known(path, where, row, [one.name for one in fields(Task) if one.name != "name"])
    missing = [key for key in ("kind", "ask", "answer") if not row.get(key)]
    if missing:
        raise BrokenPlugin(f"{path}: {where} has no {', '.join(missing)}. Each task needs kind, ask and answer.")
    if row["kind"] not in KINDS:
        raise BrokenPlugin(
            f"{path}: {where}.kind is {row['kind']!r}.{near_miss(str(row['kind']), KINDS)} Use one of: {', '.join(KINDS)}."
        )
    if row["kind"] == "label" and not row.get("labels"):
        raise BrokenPlugin(f"{path}: {where} is of kind label and lists no labels. Add labels: [...], or make it kind: text.")
    if row["kind"] == "letter" and not row.get("options"):
        raise BrokenPlugin(f"{path}: {where} is of kind letter and names no options. Add options: COLUMN.")
    return Task(name=name, **{**row, "labels": tuple(str(label) for label in row.get("labels") or ())})
