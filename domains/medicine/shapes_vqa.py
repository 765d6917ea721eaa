"""Rows of the field's image sets. PathVQA and OmniMedVQA have common shapes (`vqa`, `omnimedvqa`).

| shape | set |
| --- | --- |
| vqa-rad | `qid, image_name, question, answer, answer_type`; published files share images, so rows are split anew by image |
| slake | `img_name, question, answer, answer_type, q_lang` beside `imgs/` |
| pmc-vqa | `Figure_path, Question, Choice A..D, Answer` beside `figures/` |
| med-r1 | `image, problem, solution` |
| iu-xray | `image[], findings, impression` |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from factory.data.rows import RowFault
from factory.data.shapes import cell, optional_cell, text_cell
from factory.data.splits import SPLIT_ALIASES
from factory.domains.medicine.load_settings import MedicineLoad
from factory.domains.medicine.shapes_text import passed_over
from factory.packs.choices import check_options, resolve_answer, split_options
from factory.packs.common_shapes import RowShape
from factory.packs.records import DOCUMENTS, LESSONS, SAMPLES, Record

YES_NO = ("yes", "no")
_PREFIX = re.compile(r"^\s*\(?[A-D][:.)]\s*")
_SOLUTION = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def task_of_answer(answer: str, answer_type: str = "") -> str:
    """`judgement` for yes and no; else `closed` or `open` by the row's own type, or by length (up to three words are closed).

    CLOSED answers are not only yes and no: about 22 of VQA-RAD's 265 are other words.
    """
    if answer.strip(" .").lower() in YES_NO:
        return "judgement"
    kind = answer_type.strip().upper()
    if kind in ("OPEN", "CLOSED"):
        return kind.lower()
    return "closed" if len(answer.split()) <= 3 else "open"


def _vqa_rad(row: Mapping[str, Any], settings: MedicineLoad) -> Record:
    answer = str(cell(row, "answer")).strip()
    kind = text_cell(row, "answer_type").upper()
    if kind not in ("OPEN", "CLOSED"):
        raise RowFault("answer_type", f"must be OPEN or CLOSED, got {kind!r}.")
    meta = {"answer_type": kind, **{key: row[key] for key in ("image_organ", "question_type", "phrase_type") if row.get(key)}}
    record = Record(SAMPLES, key=str(cell(row, "qid")), text=text_cell(row, "question"), answer=answer, images=text_cell(row, "image_name"),
                    image_field="image_name", task=task_of_answer(answer, kind), meta=meta)  # fmt: skip
    if settings.official_splits:
        declared = SPLIT_ALIASES.get(str(row.get("split", "")).lower())
        record.split = declared or ("test" if str(row.get("phrase_type", "")).startswith("test") else None)
    return record


def _slake(row: Mapping[str, Any], settings: MedicineLoad) -> Record:
    question = text_cell(row, "question")
    language = str(row.get("q_lang") or "en")
    if language not in settings.languages:
        return passed_over(question, f"language {language}")
    answer = text_cell(row, "answer")
    kind = str(row.get("answer_type") or "").upper()
    key = optional_cell(row, "qid")
    return Record(SAMPLES, key=None if key is None else str(key), text=question, answer=answer, images=f"imgs/{text_cell(row, 'img_name')}",
                  image_field="img_name", task=task_of_answer(answer, kind), meta={"answer_type": kind} if kind else {})  # fmt: skip


def _pmc_vqa(row: Mapping[str, Any], settings: MedicineLoad) -> Record:
    options = check_options([_PREFIX.sub("", text_cell(row, f"Choice {letter}")).strip() for letter in "ABCD"])
    answer = resolve_answer(_PREFIX.sub("", said) if len(said := text_cell(row, "Answer")) > 2 else said, options)
    return Record(SAMPLES, text=text_cell(row, "Question"), options=options, answer=answer, images=f"figures/{text_cell(row, 'Figure_path')}",
                  image_field="Figure_path")  # fmt: skip


def _med_r1(row: Mapping[str, Any], settings: MedicineLoad) -> Record:
    problem, options = split_options(text_cell(row, "problem"))
    said = _SOLUTION.search(text_cell(row, "solution"))
    answer = (said.group(1) if said else text_cell(row, "solution")).strip()
    images = optional_cell(row, "image", "images")
    if not options:
        return Record(SAMPLES, text=problem, answer=answer, images=images, task=task_of_answer(answer))
    options = check_options([option.strip(" ,") for option in options])
    return Record(SAMPLES, text=problem.strip(" ,"), options=options, answer=resolve_answer(answer, options), images=images)


def _iu_xray(row: Mapping[str, Any], settings: MedicineLoad) -> Record:
    reference = {name: text_cell(row, name) for name in ("findings", "impression")}
    report = f"Findings: {reference['findings']} Impression: {reference['impression']}"
    return Record(DOCUMENTS | LESSONS | SAMPLES, text="Write the report: `Findings: ...` and `Impression: ...`.", reference=reference,
                  answer=report, response=f"<answer>{report}</answer>", images=cell(row, "image", "images"), task="report",
                  meta={"form": "answer", "answer_type": "REPORT"})  # fmt: skip


def _iu_xray_rows(row: Mapping[str, Any], settings: MedicineLoad) -> list[Record]:
    """A report is a question with its answer, and a text to read."""
    question = _iu_xray(row, settings)
    key = optional_cell(row, "id", "uid")
    question.gives, question.key = LESSONS | SAMPLES, None if key is None else str(key)
    text = Record(DOCUMENTS, key=None if key is None else f"{key}-text", text=question.answer, images=question.images)
    return [question, text]


SHAPES = (
    RowShape("vqa-rad", "VQA-RAD", (("qid",), ("image_name",), ("question",), ("answer",), ("answer_type",)), None, SAMPLES, _vqa_rad),
    RowShape("slake", "SLAKE", (("img_name",), ("question",), ("answer",)), None, SAMPLES, _slake),
    RowShape("pmc-vqa", "PMC-VQA", (("Figure_path",), ("Question",), ("Choice A",), ("Choice B",), ("Choice C",), ("Choice D",), ("Answer",)),
             None, SAMPLES, _pmc_vqa),
    RowShape("med-r1", "Med-R1", (("problem",), ("solution",)), None, SAMPLES, _med_r1),
    RowShape("iu-xray", "IU-Xray", (("image", "images"), ("findings",), ("impression",)), None, DOCUMENTS | LESSONS | SAMPLES, _iu_xray_rows),
)  # fmt: skip
