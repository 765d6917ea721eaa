"""A whole pack from a table and its `questions.yaml`: what `factory domains new NAME --from FILE` sets up, and an author extends.

    PACK = TablePack(Path(__file__).parent)

Rows come from the pack's `data/` folder, or from `--data` in the same columns. Subclass it to add verifiers, evals or reasoning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from factory.contracts import DataRequest, Document, Eval, Lesson, Sample, Verifier
from factory.data.rows import RowFault, RowReport
from factory.data.shapes import cell, optional_cell, text_cell
from factory.data.splits import normalised
from factory.packs.by_sample import ByTask
from factory.packs.choices import parse_options, resolve_answer
from factory.packs.common_shapes import RowShape
from factory.packs.loading import Loader
from factory.packs.questions import NO, PLACE, TEXT_WORDS, YES, Questions, Task, read_questions
from factory.packs.records import DOCUMENTS, QUESTIONS, SAMPLES, Record
from factory.packs.sources import LoadSettings
from factory.plugins import read_manifest
from factory.rewards.numeric import NumericAnswer
from factory.rewards.quantities import read_quantity
from factory.rewards.verifiers import ClosedAnswer, FormatVerifier, OptionLetter, YesNo

LETTERS = "ABCDEFGHIJ"


class TablePack:
    """Questions from the rows of a table.

    Args:
        folder: with pack.yaml, questions.yaml and `data/`.

    Raises:
        BrokenPlugin: pack.yaml or questions.yaml is wrong.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        self.questions = read_questions(folder)
        shape = RowShape(
            "table", "rows of this pack", tuple((name,) for name in self._needed()), None, QUESTIONS | DOCUMENTS, self._records
        )
        self.loader = Loader(
            self.manifest.name, (shape,), task_of=lambda record: record.task, settings=_settings_of(self.questions)
        )

    def corpus(self, split: str, seed: int, request: DataRequest) -> Iterator[Document]:
        """A text of each row, for continued pretraining."""
        return self.loader.documents(self._with_paths(request), split, seed)

    def lessons(self, split: str, seed: int, request: DataRequest) -> Iterator[Lesson]:
        """Questions with the response to imitate."""
        return self.loader.lessons(self._with_paths(request), split, seed)

    def samples(self, split: str, seed: int, request: DataRequest) -> Iterator[Sample]:
        """Questions whose answer is scored."""
        return self.loader.samples(self._with_paths(request), split, seed)

    def verifiers(self) -> dict[str, Verifier]:
        """One for each kind of answer in use, the form, and `accuracy` for the eval."""
        own = {kind: self.verifier_of(kind) for kind in self.questions.kinds}
        lenient = {kind: replace(one, mode="lenient") for kind, one in own.items()}
        routes = {task.name: lenient[task.kind] for task in self.questions.tasks if task.kind in lenient}
        return {**own, "format": FormatVerifier(shape=self.questions.shape), "accuracy": ByTask("accuracy", routes)}

    def verifier_of(self, kind: str) -> Any:
        """The strict verifier of one kind of answer."""
        shape = self.questions.shape
        if kind == "number":
            return NumericAnswer(name=kind, shape=shape, rel_tol=float(self.questions.tolerance))
        return {"letter": OptionLetter, "yes_no": YesNo, "label": ClosedAnswer, "text": ClosedAnswer}[kind](
            name=kind, shape=shape
        )

    def evals(self) -> dict[str, Eval]:
        """Held-out accuracy; the report also splits it by task."""
        return {"accuracy": Eval("accuracy", verifier="accuracy", primary=True)}

    def gives(self, request: DataRequest) -> frozenset[str]:
        """Which of `corpus`, `lessons`, `samples` there are."""
        return frozenset(self.manifest.provides)

    def check(self, request: DataRequest) -> RowReport:
        """Read the user's files whole and report every bad row."""
        return self.loader.check(self._with_paths(request))

    def gold(self, sample: Sample) -> str:
        """A completion that earns the full reward: for the conformance kit, never for training."""
        return self.respond(str(sample.reference), "as the row says")

    def respond(self, answer: str, reasoning: str) -> str:
        """A response in the pack's shape."""
        thinking = f"<think>{reasoning}</think>" if self.questions.shape == "think_answer" else ""
        return f"{thinking}<answer>{answer}</answer>"

    def reason(self, row: Mapping[str, Any], task: Task) -> str:
        """The worked reasoning of a row, empty for none. An author may derive it from the row here."""
        return str(optional_cell(row, task.reasoning) or "").strip() if task.reasoning else ""

    def _with_paths(self, request: DataRequest) -> DataRequest:
        return request if request.paths else replace(request, paths=(str(self.folder / "data"),))

    def _needed(self) -> tuple[str, ...]:
        """Columns that every row must have."""
        return self.questions.shared_columns or self.questions.tasks[0].columns

    def _records(self, row: Mapping[str, Any], settings: Any) -> list[Record]:
        """All questions of one row, and its text. Raises RowFault."""
        questions, found, taken = self.questions, [], set()
        group = self._group(row)
        for task in questions.tasks:
            if task.answer in taken or optional_cell(row, task.answer) is None:
                continue
            try:
                record = self._record(row, task) if task.kind != "long" else None
            except RowFault:
                if any(other.answer == task.answer for other in questions.tasks[questions.tasks.index(task) + 1 :]):
                    continue  # a later task may take it
                raise
            taken.add(task.answer)
            found += [record] if record is not None else []
            if record is None and not questions.document:
                found.append(Record(DOCUMENTS, text=f"{filled(task.ask, row)}\n{text_cell(row, task.answer)}"))
        if not taken:
            raise RowFault(questions.tasks[0].answer, "is blank, and so is every other answer.")
        if questions.document:
            found.append(Record(DOCUMENTS, text=filled(questions.document, row)))
        key = optional_cell(row, "id", "uid", "sample_id")
        for number, record in enumerate(found):
            record.group = group
            record.key = f"{key}.{number}" if key is not None else None
            if questions.image:
                record.images, record.image_field = cell(row, questions.image), questions.image
        return found

    def _group(self, row: Mapping[str, Any]) -> str:
        questions = self.questions
        if questions.group:
            return f"{questions.group}={cell(row, questions.group)}"
        if questions.image:
            return ""  # the loader keeps an image's rows together
        shown = normalised(" ".join(str(row.get(name)) for name in questions.shared_columns)) if questions.shared_columns else ""
        return f"question={hashlib.sha256(shown.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}" if shown else ""

    def _record(self, row: Mapping[str, Any], task: Task) -> Record:
        answer, options = read_answer(row, task)
        reasoning = self.reason(row, task)
        is_lesson = bool(reasoning) or self.questions.shape != "think_answer"
        response = self.respond(answer, reasoning) if is_lesson else ""
        return Record(QUESTIONS if is_lesson else SAMPLES, text=filled(task.ask, row), options=options, answer=answer, response=response,
                      task=task.name)  # fmt: skip


def _settings_of(questions: Questions) -> type[LoadSettings]:
    """The loader's settings with the pack's own shares of the splits."""
    from dataclasses import field, make_dataclass

    shares = dict(questions.splits)
    return make_dataclass(
        "TableSettings",
        [("splits", dict[str, float], field(default_factory=lambda: dict(shares)))],
        bases=(LoadSettings,),
        frozen=True,
    )


def filled(template: str, row: Mapping[str, Any]) -> str:
    """The template with the row's cells. Raises RowFault for a blank or missing one."""

    return PLACE.sub(lambda place: text_cell(row, place.group(1)), template).strip()


def read_answer(row: Mapping[str, Any], task: Task) -> tuple[str, tuple[str, ...]]:
    """The answer of a row as its kind wants it, and the options of a `letter`. Raises RowFault: it does not fit the kind."""
    if task.kind == "letter":
        options = parse_options(_options(row, task))
        return resolve_answer(text_cell(row, task.answer), options), options
    text = text_cell(row, task.answer)
    if task.kind == "yes_no":
        folded = text.strip(" .").casefold()
        if folded not in (*YES, *NO):
            raise RowFault(task.answer, f"{text!r} is neither yes nor no.")
        return ("yes" if folded in YES else "no"), ()
    if task.kind == "number":
        try:
            read_quantity(text)
        except ValueError as err:
            raise RowFault(task.answer, f"{text!r} is no number: {err}.") from err
    if task.kind == "label":
        match = next((label for label in task.labels if label.casefold() == text.casefold()), None)
        if match is None:
            raise RowFault(
                task.answer, f"{text!r} is not among the labels ({', '.join(task.labels[:8])}). Add it to questions.yaml."
            )
        return match, ()
    if task.kind == "text" and len(text.split()) > TEXT_WORDS:
        raise RowFault(
            task.answer, f"has {len(text.split())} words; exact comparison is fair up to {TEXT_WORDS}. Use a task of kind long."
        )
    return text, ()


def _options(row: Mapping[str, Any], task: Task) -> Any:
    if task.options != "option_":
        return cell(row, task.options)
    return [row[f"option_{letter}"] for letter in LETTERS if optional_cell(row, f"option_{letter}") is not None]
