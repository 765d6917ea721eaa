"""Rows of the field's text sets. Each converter raises RowFault with the field and the reason.

| shape | set |
| --- | --- |
| medqa, medqa-lines | MedQA: `options{A..}, answer_idx`, or options inside the question with `label: [letter]` |
| medxpertqa | `question, options (mapping or list of {letter, content}), label, images[]` |
| medmcqa-1, medmcqa-0 | `opa..opd, cop`, counted from 1 (JSON lines) or 0 (parquet, hub, CSV) |
| pubmedqa, pubmedqa-hub, pubmedqa-truth | JSON by PMID; `context, final_decision`; the file of test answers |
| mmlu | `question, choices, answer` (an index), `subject`; and the header-less CSV files |
| huatuo-question, huatuo-cot | HuatuoGPT-o1's verifiable questions and worked traces |
| icd | `code` with a description or note |
| entities | a report with its list of findings |
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from factory.data.files import FileFormat, open_checked, read_at_most
from factory.data.rows import RowFault
from factory.data.shapes import cell, optional_cell, text_cell
from factory.domains.medicine.codes import read_code
from factory.domains.medicine.load_settings import MEDICAL_MMLU, MedicineLoad
from factory.errors import ConfigError
from factory.packs.choices import LETTERS, check_options, parse_options, resolve_answer
from factory.packs.common_shapes import RowShape
from factory.packs.records import LESSONS, SAMPLES, Record

MAX_BYTES = 2**30
"""Largest file that is held in memory whole."""
NOTHING: frozenset[str] = frozenset()
"""What a good row gives that is not asked for (another language, a hidden answer): it is counted and passed over."""
LINES, COUNTED_FROM_0 = frozenset({"jsonl", "json"}), frozenset({"parquet", "hub", "csv", "tsv"})


def passed_over(text: str, why: str) -> Record:
    """A good row that is not wanted."""
    return Record(NOTHING, text=text, meta={"passed_over": why})


def _medqa(row: Mapping[str, Any], settings: MedicineLoad) -> Record:
    options = parse_options(cell(row, "options"))
    letter = resolve_answer(text_cell(row, "answer_idx"), options)
    said = optional_cell(row, "answer")
    if isinstance(said, str) and resolve_answer(said, options) != letter:
        raise RowFault("answer", f"{said!r} is not option {letter}, which answer_idx names.")
    return Record(SAMPLES, text=text_cell(row, "question"), options=options, answer=letter)


def listed_options(text: str) -> tuple[str, tuple[str, ...]]:
    """Question and options of `... Answer Choices: (A) gout (B) C. difficile colitis`; no options where that mark is missing.

    Only letters in brackets count, in order, so that "C. difficile" is no option C.
    """
    stem, mark, rest = text.rpartition("Answer Choices:")
    if not mark:
        return text.strip(), ()
    parts, cursor = [], 0
    for letter in LETTERS:
        place = rest.find(f"({letter})", cursor)
        if place < 0:
            break
        parts.append(place)
        cursor = place + 3
    ends = [*parts[1:], len(rest)]
    return stem.strip(), tuple(rest[start + 3 : end].strip() for start, end in zip(parts, ends, strict=True)) if parts else ()


def _medqa_lines(row: Mapping[str, Any], settings: MedicineLoad) -> Record:
    stem, options = listed_options(text_cell(row, "question"))
    label = cell(row, "label")
    if not isinstance(label, list) or len(label) != 1:
        raise RowFault("label", f"must be a list of one letter, got {label!r:.40}.")
    options = check_options(options)
    return Record(SAMPLES, text=stem, options=options, answer=resolve_answer(label[0], options))


def _medxpertqa(row: Mapping[str, Any], settings: MedicineLoad) -> Record:
    raw = cell(row, "options")
    if isinstance(raw, list) and all(isinstance(item, Mapping) for item in raw):
        raw = {str(item.get("letter")): item.get("content") for item in raw}
    options = parse_options(raw)
    stem, _ = listed_options(text_cell(row, "question"))
    images = optional_cell(row, "images")
    meta = {key: row[key] for key in ("medical_task", "body_system", "question_type") if row.get(key)}
    images = [images] if isinstance(images, str) else images
    if images and not isinstance(images, list):
        raise RowFault("images", f"must be a list of file names, got {images!r:.80}.")
    named = [f"images/{name}" if isinstance(name, str) and "/" not in name else name for name in images] if images else None
    return Record(SAMPLES, text=stem, options=options, answer=resolve_answer(text_cell(row, "label"), options), images=named,
                  image_field="images", meta=meta)  # fmt: skip


def _medmcqa(first: int) -> Any:
    """The converter for files that count the right option from `first` (0 or 1)."""

    def convert(row: Mapping[str, Any], settings: MedicineLoad) -> Record:
        count_from = {"zero": 0, "one": 1}.get(settings.medmcqa_cop, first)
        options = check_options([text_cell(row, f"op{letter}") for letter in "abcd"])
        raw = row.get("cop")
        if raw in (None, "", -1, "-1"):
            return passed_over(text_cell(row, "question"), "no answer: the test part hides it")
        try:
            place = int(str(raw)) - count_from
        except ValueError as err:
            raise RowFault("cop", f"must be a whole number, got {raw!r:.40}.") from err
        if not 0 <= place < 4:
            other = "zero" if count_from else "one"
            raise RowFault(
                "cop", f"is {raw}, but this file is read as counting from {count_from}. "
                f"Set pack.medmcqa_cop={other}: every other answer is off by one too."
            )  # fmt: skip
        explanation = optional_cell(row, "exp")
        letter = LETTERS[place]
        response = f"<think>{explanation.strip()}</think><answer>{letter}</answer>" if isinstance(explanation, str) else ""
        meta = {key: row[key] for key in ("subject_name", "topic_name") if row.get(key)}
        return Record(SAMPLES | LESSONS if response else SAMPLES, text=text_cell(row, "question"), options=options, answer=letter,
                      response=response, meta=meta)  # fmt: skip

    return convert


def _pubmed(question: str, contexts: Any, row: Mapping[str, Any], decision: str, conclusion: Any) -> Record:
    if not isinstance(contexts, list) or not contexts or not all(isinstance(text, str) for text in contexts):
        raise RowFault("CONTEXTS", f"must be a list of texts, got {type(contexts).__name__}.")
    if decision not in ("yes", "no", "maybe"):
        raise RowFault("final_decision", f"must be yes, no or maybe, got {decision!r}.")
    text = " ".join(contexts) + f"\n\n{question}\nAnswer yes, no or maybe."
    response = (
        f"<think>{conclusion.strip()}</think><answer>{decision}</answer>"
        if isinstance(conclusion, str) and conclusion.strip()
        else ""
    )
    return Record(SAMPLES | LESSONS if response else SAMPLES, key=str(row.get("pmid") or row.get("pubid") or "") or None, text=text,
                  answer=decision, response=response, task="closed", meta={"answer_type": "CLOSED"})  # fmt: skip


def _pubmedqa(row: Mapping[str, Any], settings: MedicineLoad) -> Record:
    return _pubmed(text_cell(row, "QUESTION"), row.get("CONTEXTS"), row, text_cell(row, "final_decision"), row.get("LONG_ANSWER"))


def _pubmedqa_hub(row: Mapping[str, Any], settings: MedicineLoad) -> Record:
    context = cell(row, "context")
    contexts = context.get("contexts") if isinstance(context, Mapping) else context
    contexts = list(contexts) if isinstance(contexts, tuple) else contexts
    return _pubmed(text_cell(row, "question"), contexts, row, text_cell(row, "final_decision"), row.get("long_answer"))


def _pubmedqa_truth(row: Mapping[str, Any], settings: MedicineLoad) -> Record:
    if text_cell(row, "pubmedqa_test_answer") not in ("yes", "no", "maybe"):
        raise RowFault("pubmedqa_test_answer", f"must be yes, no or maybe, got {row['pubmedqa_test_answer']!r}.")
    return passed_over(text_cell(row, "pmid"), "the key of the test part; it decides the split of the questions beside it")


def _mmlu(row: Mapping[str, Any], settings: MedicineLoad) -> Record:
    subject = text_cell(row, "subject")
    if subject not in settings.mmlu_subjects:
        return passed_over(text_cell(row, "question"), f"subject {subject}")
    choices = cell(row, "choices")
    if not isinstance(choices, list | tuple):
        raise RowFault("choices", f"must be a list of texts, got {type(choices).__name__}.")
    options = check_options([str(option) for option in choices])
    answer = row.get("answer")
    if isinstance(answer, int) and not isinstance(answer, bool):
        if not 0 <= answer < len(options):
            raise RowFault("answer", f"is {answer}; want an index from 0 to {len(options) - 1}.")
        answer = LETTERS[answer]
    return Record(SAMPLES, text=text_cell(row, "question"), options=options, answer=resolve_answer(answer, options), meta={"subject": subject})  # fmt: skip


def _huatuo_question(row: Mapping[str, Any], settings: MedicineLoad) -> Record:
    return Record(SAMPLES, text=text_cell(row, "Open-ended Verifiable Question"), answer=text_cell(row, "Ground-True Answer", "Ground-Truth Answer"),
                  task="open", meta={"form": "huatuo", "answer_type": "OPEN"})  # fmt: skip


def _huatuo_cot(row: Mapping[str, Any], settings: MedicineLoad) -> Record:
    answer = text_cell(row, "Response")
    response = f"## Thinking\n\n{text_cell(row, 'Complex_CoT')}\n\n## Final Response\n\n{answer}"
    return Record(
        LESSONS, text=text_cell(row, "Question"), answer=answer, response=response, task="open", meta={"form": "huatuo"}
    )


def _icd(row: Mapping[str, Any], settings: MedicineLoad) -> Record:
    try:
        code = read_code(text_cell(row, "code", "icd_code", "icd10"))
    except ValueError as err:
        raise RowFault("code", f"{err}.") from err
    text = text_cell(row, "description", "long_title", "title", "note")
    depth: str | int = int(settings.code_depth) if settings.code_depth.isdecimal() else settings.code_depth
    meta: dict[str, Any] = {"code_depth": depth}
    if settings.code_table:
        meta["codes"] = sorted(known for known in code_table(settings.code_table) if known.startswith(code[:3]))
        if code not in meta["codes"]:
            raise RowFault("code", f"{code} is not in pack.code_table. Use the table of the same year and country.")
    return Record(SAMPLES, text=f"{text}\nGive the ICD-10 code.", answer=code, task="code", meta=meta, group=f"icd={code[:3]}")


@lru_cache(maxsize=4)
def code_table(path: str) -> frozenset[str]:
    """All codes of the user's table. Raises ConfigError when it cannot be read or has no column `code`."""
    try:
        with Path(path).expanduser().open(encoding="utf-8-sig", newline="") as handle:
            rows = list(csv.DictReader(handle))
    except OSError as err:
        raise ConfigError(f"pack.code_table: {path} cannot be read: {err.strerror}.") from err
    except (UnicodeDecodeError, csv.Error) as err:
        raise ConfigError(f"pack.code_table: {path} is no CSV in UTF-8: {err}. Convert or export it again.") from err
    if not rows or "code" not in rows[0]:
        raise ConfigError(f"pack.code_table: {path} has no column 'code'. Name the column of codes so.")
    try:
        return frozenset(read_code(str(row["code"])) for row in rows)
    except ValueError as err:
        raise ConfigError(f"pack.code_table: {path}: {err}.") from err


def _entities(row: Mapping[str, Any], settings: MedicineLoad) -> Record:
    found = cell(row, "entities")
    if not isinstance(found, list) or not found or not all(isinstance(item, str) and item.strip() for item in found):
        raise RowFault("entities", f"must be a list of one or more texts, got {found!r:.60}.")
    text = f"{text_cell(row, 'report', 'text')}\nList the findings that are present, parted by commas."
    return Record(SAMPLES, text=text, reference=list(found), answer=", ".join(found), task="entities")


def _read_pubmedqa(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowFault]]:
    """`ori_pqal.json` and its like: PMID -> record. The test part is what `test_ground_truth.json` beside it lists."""
    truth = path.with_name("test_ground_truth.json")
    held_out = set(_json_object(truth)) if truth.is_file() else set()
    for number, (pmid, row) in enumerate(_json_object(path).items(), start=1):
        if not isinstance(row, dict):
            yield number, RowFault("row", f"PMID {pmid}: must be an object, got {type(row).__name__}.")
            continue
        split = {"split": "test" if pmid in held_out else "train"} if held_out else {}
        yield number, {**row, "pmid": pmid, **split}


def _read_truth(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowFault]]:
    for number, (pmid, answer) in enumerate(_json_object(path).items(), start=1):
        yield number, {"pmid": pmid, "pubmedqa_test_answer": answer}


def _json_object(path: Path) -> dict[str, Any]:
    with open_checked(path) as handle:
        try:
            found = json.loads(read_at_most(handle, MAX_BYTES).decode("utf-8-sig"))
        except RowFault:
            raise
        except (ValueError, RecursionError) as err:
            raise RowFault("file", f"is not valid JSON: {err}. It is truncated; copy it again.") from err
    if not isinstance(found, dict):
        raise RowFault("file", "must be one JSON object with a PMID as each key.")
    return found


def _read_mmlu_csv(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowFault]]:
    """`anatomy_test.csv`: question, four choices, letter; no header."""
    subject = path.name.removesuffix(".gz").rsplit("_", 1)[0]
    with open_checked(path) as handle:
        try:
            text = read_at_most(handle, MAX_BYTES).decode("utf-8-sig")
            rows = list(csv.reader(text.splitlines(keepends=True)))
        except (UnicodeDecodeError, csv.Error) as err:
            raise RowFault("file", f"is no CSV in UTF-8: {err}. Convert or export it again.") from err
    for number, cells in enumerate(rows, start=1):
        if len(cells) != 6:
            yield number, RowFault("row", f"{len(cells)} cells, want 6: question, four choices, letter.")
            continue
        yield number, {"question": cells[0], "choices": cells[1:5], "answer": cells[5].strip(), "subject": subject}


FORMATS = (
    FileFormat("pubmedqa", ("pqal.json", "pqau.json", "pqaa.json", "pubmedqa.json"), "PubMedQA (ori_pqal.json, ...)", _read_pubmedqa),
    FileFormat("pubmedqa-truth", ("test_ground_truth.json",), "PubMedQA's test answers (test_ground_truth.json)", _read_truth),
    FileFormat("mmlu-csv", tuple(f"{subject}_{part}.csv" for subject in MEDICAL_MMLU for part in ("test", "val", "dev")),
               "MMLU without header (anatomy_test.csv, ...)", _read_mmlu_csv),
)  # fmt: skip
_MCQ = (("opa",), ("opb",), ("opc",), ("opd",))
SHAPES = (
    RowShape("medqa", "MedQA with a mapping of options", (("question",), ("options",), ("answer_idx",)), None, SAMPLES, _medqa),
    RowShape("medxpertqa", "MedXpertQA, text and images", (("question",), ("options",), ("label",)), None, SAMPLES, _medxpertqa),
    RowShape("medqa-lines", "MedQA with its options inside the question", (("question",), ("label",)), LINES, SAMPLES, _medqa_lines),
    RowShape("medmcqa-1", "MedMCQA, cop counted from 1", _MCQ, LINES, SAMPLES | LESSONS, _medmcqa(1)),
    RowShape("medmcqa-0", "MedMCQA, cop counted from 0", _MCQ, COUNTED_FROM_0, SAMPLES | LESSONS, _medmcqa(0)),
    RowShape("pubmedqa", "PubMedQA by PMID", (("QUESTION",), ("CONTEXTS",)), None, SAMPLES | LESSONS, _pubmedqa),
    RowShape("pubmedqa-hub", "PubMedQA as on the hub", (("question",), ("context",), ("final_decision",)), None, SAMPLES | LESSONS, _pubmedqa_hub),
    RowShape("pubmedqa-truth", "PubMedQA's test answers", (("pubmedqa_test_answer",),), None, NOTHING, _pubmedqa_truth),
    RowShape("mmlu", "MMLU", (("question",), ("choices",), ("answer",), ("subject",)), None, SAMPLES, _mmlu),
    RowShape("huatuo-question", "HuatuoGPT-o1's verifiable questions", (("Open-ended Verifiable Question",),), None, SAMPLES, _huatuo_question),
    RowShape("huatuo-cot", "HuatuoGPT-o1's traces", (("Question",), ("Complex_CoT",), ("Response",)), None, LESSONS, _huatuo_cot),
    RowShape("icd", "codes with descriptions or notes", (("code", "icd_code", "icd10"), ("description", "long_title", "title", "note")), None, SAMPLES, _icd),
    RowShape("entities", "reports with their findings", (("report", "text"), ("entities",)), LINES, SAMPLES, _entities),
)  # fmt: skip
