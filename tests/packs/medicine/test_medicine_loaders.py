"""Each shape of row: what becomes of it, and which fault is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from factory.contracts import DataRequest
from factory.domains.medicine import PACK
from factory.domains.medicine.loaders import LOADER
from factory.errors import ConfigError, DataError

ALL_TRAIN = {"splits": {"validation": 0.0, "test": 0.0}, "shuffle_buffer": 1}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        import csv

        with path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def image(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)).save(path)
    return path


def load(role: str, path: Path, **options: Any) -> list[Any]:
    return list(getattr(PACK, role)("train", 0, DataRequest(paths=(str(path),), options={**ALL_TRAIN, **options})))


def first_fault(path: Path, **options: Any) -> str:
    report = LOADER.check(DataRequest(paths=(str(path),), options={**ALL_TRAIN, **options}))
    assert report.num_bad >= 1
    return f"{report.first_bad[0].field}: {report.first_bad[0].reason}"


MCQ = {
    "question": "Which?",
    "options": {"A": "gout", "B": "sepsis", "C": "flu", "D": "cold"},
    "answer_idx": "B",
    "answer": "sepsis",
}


def test_medqa(tmp_path):
    [sample] = load("samples", write(tmp_path / "medqa.jsonl", [MCQ]))
    assert (sample.task, sample.reference, sample.meta["answer_text"]) == ("choice", "B", "sepsis")
    assert "B. sepsis" in sample.text()


def test_medqa_answer_that_contradicts_its_letter_is_a_bad_row(tmp_path):
    assert "not option B" in first_fault(write(tmp_path / "medqa.jsonl", [{**MCQ, "answer": "gout"}]))


def test_medqa_lines(tmp_path):
    rows = [{"id": "t-0", "question": "Which?\nAnswer Choices: (A) gout (B) sepsis", "label": ["B"]}]
    [sample] = load("samples", write(tmp_path / "medqa_input.jsonl", rows))
    assert sample.reference == "B" and sample.text().startswith("Which?\nA. gout")


@pytest.mark.parametrize(
    "options",
    [{"A": "gout", "B": "sepsis"}, [{"letter": "A", "content": "gout"}, {"letter": "B", "content": "sepsis"}]],
)
def test_medxpertqa_in_both_shapes(tmp_path, options):
    rows = [{"id": "MM-1", "question": "Which? Answer Choices: (A) gout (B) sepsis", "options": options, "label": "B", "images": ["a.png"],
             "medical_task": "Diagnosis"}]  # fmt: skip
    image(tmp_path / "images" / "a.png")
    [sample] = load("samples", write(tmp_path / "test.jsonl", rows), respect_splits=False)
    assert sample.reference == "B" and len(sample.media) == 1 and sample.meta["medical_task"] == "Diagnosis"
    assert "Answer Choices" not in sample.text()


COP = {
    "id": "1",
    "question": "Which?",
    "opa": "gout",
    "opb": "sepsis",
    "opc": "flu",
    "opd": "cold",
    "exp": "because",
    "subject_name": "Medicine",
}


@pytest.mark.parametrize(
    ("name", "cop", "options", "letter"),
    [
        ("m.jsonl", 2, {}, "B"),  # the authors' file counts from 1
        ("m.parquet", 2, {}, "C"),  # the hub's counts from 0
        ("m.jsonl", 2, {"medmcqa_cop": "zero"}, "C"),
        ("m.parquet", 2, {"medmcqa_cop": "one"}, "B"),
    ],
)
def test_medmcqa_both_conventions(tmp_path, name, cop, options, letter):
    path = write(tmp_path / name, [{**COP, "cop": cop}])
    [sample] = load("samples", path, **options)
    [lesson] = load("lessons", path, **options)
    assert sample.reference == letter
    assert lesson.response == f"<think>because</think><answer>{letter}</answer>"


@pytest.mark.parametrize(("name", "cop", "other"), [("m.jsonl", 0, "zero"), ("m.parquet", 4, "one")])
def test_medmcqa_of_the_other_convention_is_not_taken_silently(tmp_path, name, cop, other):
    assert f"pack.medmcqa_cop={other}" in first_fault(write(tmp_path / name, [{**COP, "cop": cop}]))


def test_medmcqa_hidden_answers_are_passed_over_and_counted(tmp_path):
    path = write(tmp_path / "m.parquet", [{**COP, "cop": -1}, {**COP, "id": "2", "cop": 1}])
    report = LOADER.check(DataRequest(paths=(str(path),)))
    assert (report.num_good, report.num_bad, report.tallies["samples"]) == (2, 0, 1)


def pubmed(folder: Path) -> Path:
    row = {"QUESTION": "Do they?", "CONTEXTS": ["Some did."], "LONG_ANSWER": "They do.", "final_decision": "maybe"}
    (folder / "ori_pqal.json").write_text(
        json.dumps({"11": row, "12": {**row, "QUESTION": "Will they?", "final_decision": "yes"}})
    )
    (folder / "test_ground_truth.json").write_text(json.dumps({"12": "yes"}))
    return folder


def test_pubmedqa_split_follows_the_key_file(tmp_path):
    folder = pubmed(tmp_path)
    [train] = PACK.samples("train", 0, DataRequest(paths=(str(folder),)))
    [test] = PACK.samples("test", 0, DataRequest(paths=(str(folder),)))
    assert (train.reference, test.reference) == ("maybe", "yes") and train.id.endswith(":11")
    assert train.task == "closed" and "Some did." in train.text()
    [lesson] = PACK.lessons("train", 0, DataRequest(paths=(str(folder),)))
    assert lesson.response == "<think>They do.</think><answer>maybe</answer>"


def test_mmlu_as_parquet_and_as_header_less_csv(tmp_path):
    rows = [{"question": "Which bone?", "subject": "anatomy", "choices": ["ulna", "tibia", "rib", "jaw"], "answer": 1},
            {"question": "Which law?", "subject": "professional_law", "choices": ["a", "b", "c", "d"], "answer": 0}]  # fmt: skip
    [sample] = load("samples", write(tmp_path / "one" / "all.parquet", rows))
    assert (sample.reference, sample.meta["subject"]) == ("B", "anatomy")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "anatomy_test.csv").write_text(
        '"Which bone, if any?",ulna,tibia,rib,jaw,C\n"Which?",a,b\n', encoding="utf-8"
    )
    report = LOADER.check(DataRequest(paths=(str(tmp_path / "two"),)))
    assert (report.num_good, report.num_bad) == (1, 1) and "want 6" in report.first_bad[0].reason


def test_huatuo_rows(tmp_path):
    [sample] = load(
        "samples", write(tmp_path / "q.jsonl", [{"Open-ended Verifiable Question": "What?", "Ground-True Answer": "gout"}])
    )
    assert (sample.task, sample.meta["form"], sample.reference) == ("open", "huatuo", "gout")
    [lesson] = load("lessons", write(tmp_path / "c.jsonl", [{"Question": "What?", "Complex_CoT": "Hm.", "Response": "gout"}]))
    assert lesson.response == "## Thinking\n\nHm.\n\n## Final Response\n\ngout"
    assert PACK.verifiers()["format"](lesson.response, lesson.sample).score == 1.0


def test_codes_of_the_users_table(tmp_path):
    rows = [{"code": "E11.65", "description": "with hyperglycemia"}, {"code": "E11.9", "description": "without complications"}]
    path = write(tmp_path / "icd.csv", rows)
    samples = load("samples", path, code_table=str(path), code_depth="category")
    assert [sample.reference for sample in samples] == ["E1165", "E119"]
    assert samples[0].meta["codes"] == ["E1165", "E119"]
    assert PACK.verifiers()["code"]("<think>x</think><answer>E11.9</answer>", samples[0]).score == 1.0
    assert len({sample.meta["group"] for sample in samples}) == 1  # one category, one split


def test_a_code_outside_the_table_is_a_bad_row(tmp_path):
    table = write(tmp_path / "t.csv", [{"code": "I10", "description": "hypertension"}])
    notes = write(tmp_path / "n.jsonl", [{"code": "E11.9", "note": "diabetic"}])
    assert "not in pack.code_table" in first_fault(notes, code_table=str(table))
    with pytest.raises(ConfigError, match="cannot be read"):
        load("samples", notes, code_table=str(tmp_path / "none.csv"), max_image_pixels=1)


def test_entities(tmp_path):
    [sample] = load("samples", write(tmp_path / "e.jsonl", [{"report": "Effusion. No mass.", "entities": ["effusion"]}]))
    assert (sample.task, sample.reference) == ("entities", ["effusion"])
    assert "list of one" in first_fault(write(tmp_path / "f.jsonl", [{"report": "Clear.", "entities": []}]))


RAD = {"qid": 1, "image_name": "a.png", "question": "Is it?", "answer": "Yes", "image_organ": "HEAD", "question_type": "PRES",
       "answer_type": "CLOSED", "phrase_type": "freeform"}  # fmt: skip


def test_vqa_rad_tasks_follow_answer_and_type(tmp_path):
    image(tmp_path / "images" / "a.png")
    rows = [RAD, {**RAD, "qid": 2, "answer": "flair"}, {**RAD, "qid": 3, "answer": "left lung", "answer_type": "OPEN"}]
    samples = load("samples", write(tmp_path / "trainset.json", rows))
    assert [sample.task for sample in samples] == ["judgement", "closed", "open"]
    assert samples[0].meta["answer_type"] == "CLOSED"
    assert "must be OPEN or CLOSED" in first_fault(write(tmp_path / "x" / "trainset.json", [{**RAD, "answer_type": "?"}]))


def test_leak_between_published_parts_is_told(tmp_path):
    for name in ("a.png", "b.png"):
        image(tmp_path / "images" / name, seed=ord(name[0]))
    write(tmp_path / "trainset.json", [RAD, {**RAD, "qid": 2, "image_name": "b.png"}])
    write(tmp_path / "testset.json", [{**RAD, "qid": 3}])
    report = PACK.check(DataRequest(paths=(str(tmp_path),)))
    [note] = [note for note in report.notes if "also occur" in note]
    assert "vqa-rad: 1 of 1 images of test also occur in train (a.png ...), 1 with the same question" in note
    assert report.tallies["leak vqa-rad: images of test in train"] == 1
    # split anew by image, no image is on both sides
    groups = {split: {s.meta["group"] for s in _try(split, tmp_path)} for split in ("train", "validation", "test")}
    assert not groups["train"] & groups["test"]


def _try(split: str, path: Path) -> list[Any]:
    try:
        return list(PACK.samples(split, 0, DataRequest(paths=(str(path),))))
    except DataError:
        return []


def test_slake_languages_are_passed_over(tmp_path):
    image(tmp_path / "imgs" / "x1" / "source.jpg")
    row = {
        "qid": 5,
        "img_name": "x1/source.jpg",
        "question": "What organ?",
        "answer": "Lung",
        "answer_type": "OPEN",
        "q_lang": "en",
    }
    path = write(tmp_path / "test.json", [row, {**row, "qid": 6, "question": "什么?", "q_lang": "zh"}])
    [sample] = load("samples", path, respect_splits=False)
    assert sample.task == "open" and len(sample.media) == 1
    assert len(load("samples", path, respect_splits=False, languages=["en", "zh"])) == 2


def test_pmc_vqa(tmp_path):
    image(tmp_path / "figures" / "f.jpg")
    row = {"index": 0, "Figure_path": "f.jpg", "Caption": "c", "Question": "Which?", "Choice A": " A:gout ", "Choice B": " B:sepsis ",
           "Choice C": "C: flu", "Choice D": "D:cold", "Answer": "B", "split": "test"}  # fmt: skip
    [sample] = load("samples", write(tmp_path / "test_2.csv", [row]), respect_splits=False)
    assert (sample.reference, sample.meta["options"]["B"]) == ("B", "sepsis")


def test_omnimedvqa_and_med_r1(tmp_path):
    image(tmp_path / "Images" / "i.png")
    omni = {"dataset": "d", "question_id": "q1", "question_type": "Modality Recognition", "question": "Which?", "gt_answer": "MRI",
            "image_path": "Images/i.png", "option_A": "CT", "option_B": "MRI", "option_C": "X-ray", "option_D": "US", "modality_type": "MR"}  # fmt: skip
    [sample] = load("samples", write(tmp_path / "omni.json", [omni]))
    assert sample.reference == "B" and sample.meta["modality_type"] == "MR"
    r1 = {
        "image": "Images/i.png",
        "problem": "Which modality? A) CT, B) MRI, C) X-ray, D) US",
        "solution": "<answer> B </answer>",
    }
    [sample] = load("samples", write(tmp_path / "r1.json", [r1]))
    assert (sample.reference, sample.meta["options"]["A"], sample.text().splitlines()[1]) == ("B", "CT", "Which modality?")


def test_pathvqa_parquet(tmp_path):
    shown = image(tmp_path / "p.png").read_bytes()
    row = {"image": {"bytes": shown, "path": None}, "question": "Is it?", "answer": "no"}
    [sample] = load("samples", write(tmp_path / "data.parquet", [row]))
    assert sample.task == "judgement" and sample.media[0].read() == shown


def test_iu_xray_gives_questions_lessons_and_texts(tmp_path):
    for name in ("0.png", "1.png"):
        image(tmp_path / "images" / name, seed=int(name[0]))
    row = {"id": "CXR1", "image": ["0.png", "1.png"], "findings": "The lungs are clear.", "impression": "No acute disease."}
    path = write(tmp_path / "reports.json", [row])
    [sample] = load("samples", path)
    assert sample.task == "report" and len(sample.media) == 2
    [lesson] = load("lessons", path)
    assert PACK.verifiers()["accuracy"](lesson.response, lesson.sample).score == pytest.approx(1.0)
    [document] = load("corpus", path)
    assert "The lungs are clear." in document.text


def test_unknown_columns_name_the_nearest_shape(tmp_path):
    with pytest.raises(DataError, match="Nearest is"):
        load("samples", write(tmp_path / "x.jsonl", [{"qustion": "q", "options": {"A": "a"}, "answer_idx": "A"}]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"phi": "maybe"}, "deny"),
        ({"frame": "0"}, "number from 1"),
        ({"code_depth": "deep"}, "category"),
        ({"imge_px": 5}, "image_px"),
    ],
)
def test_wrong_settings_are_named(tmp_path, options, said):
    with pytest.raises(ConfigError, match=said):
        load("samples", write(tmp_path / "m.jsonl", [MCQ]), **options)
