"""Pathology tables in the shapes people have: each becomes the right item, and each fault is named by file, row and field."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from factory.contracts import DataRequest, Document, Lesson, Sample
from factory.domains.pathology.loaders import LOADER
from factory.errors import ConfigError, DataError

from .conftest import lines, png

load_documents, load_lessons, load_samples = LOADER.documents, LOADER.lessons, LOADER.samples
detect, gives, preview = LOADER.detect, LOADER.gives, LOADER.preview

ALL_TRAIN = {"splits": {"validation": 0.0, "test": 0.0}, "shuffle_buffer": 1}
MCQ = {"image": "x.png", "question": "Which stain?", "options": ["A) H&E", "B) IHC"], "answer": "B) IHC"}


def put(folder: Path, name: str, content: Any) -> Path:
    """Write a table beside two pictures, x.png and y.png."""
    for seed, picture in enumerate(("x.png", "y.png")):
        (folder / picture).write_bytes(png(seed))
    path = folder / name
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(content), path)
    else:
        path.write_text(content if isinstance(content, str) else lines(content) if name.endswith("l") else json.dumps(content))
    return path


def request(path: Path, **fields: Any) -> DataRequest:
    options = {**ALL_TRAIN, **fields.pop("options", {})}
    return DataRequest(paths=(str(path),), options=options, **fields)


def one_sample(path: Path, **options: Any) -> Sample:
    [found] = load_samples(request(path, options=options), "train", 0)
    return found


def check(paths: list[str], **fields: Any) -> Any:
    return LOADER.check(DataRequest(paths=tuple(paths), **fields))


def faults(path: Path, **options: Any) -> list[tuple[str, int, str, str]]:
    return [(bad.file, bad.row, bad.field, bad.reason) for bad in check([str(path)], options=options).first_bad]


# --- shapes ------------------------------------------------------------------------------------------------------------


def test_figure_captions_become_documents(tmp_path):
    path = put(tmp_path, "c.csv", "image_path,caption\nx.png,Nests of cells.\n")
    [document] = load_documents(request(path), "train", 0)
    assert document == Document("c.csv:2", "<image>\nNests of cells.", document.media, "train", "figure-caption c.csv:2")
    assert document.media[0].read() == png(0)


def test_extracted_figures_keep_their_inline_reference(tmp_path):
    row = {"bbox": [1, 2, 30, 40], "caption": "Fig. 1 Gland.", "figure_path": "x.png", "inline_ref": "See Fig. 1."}
    [document] = load_documents(request(put(tmp_path, "page.json", [row])), "train", 0)
    assert document.text == "<image>\nFig. 1 Gland.\nSee Fig. 1."


def test_caption_shards_become_documents(tmp_path):
    path = tmp_path / "00000.tar"
    with tarfile.open(path, "w") as archive:
        for name, content in (
            ("000000000.png", png()),
            ("000000000.txt", b"Stroma."),
            ("000000001.json", b'{"caption": "Fat."}'),
            ("000000001.png", png(1)),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    found = list(load_documents(request(path), "train", 0))
    assert [(d.id, d.text) for d in found] == [
        ("00000.tar:000000000", "<image>\nStroma."),
        ("00000.tar:000000001", "<image>\nFat."),
    ]


@pytest.mark.parametrize("column", ["conversations", "messages"])
def test_conversations_become_lessons(tmp_path, column):
    who, what = ("from", "value") if column == "conversations" else ("role", "content")
    names = ("human", "gpt") if column == "conversations" else ("user", "assistant")
    turns = [
        {who: names[0], what: "<image>Which? A. fat B. nerve"},
        {who: names[1], what: "<think>lipid</think><answer>A</answer>"},
    ]
    [lesson] = load_lessons(request(put(tmp_path, "c.jsonl", [{column: turns, "images": ["x.png"]}])), "train", 0)
    assert lesson.response == turns[1][what] and lesson.sample.messages[0].content == turns[0][what]
    assert (lesson.sample.task, lesson.sample.reference, lesson.sample.meta["options"]) == (
        "choice",
        "A",
        {"A": "fat", "B": "nerve"},
    )


def test_earlier_turns_of_a_conversation_stay_in_the_prompt(tmp_path):
    turns = [{"from": who, "value": text} for who, text in [("human", "Q1"), ("gpt", "R1"), ("human", "Q2"), ("gpt", "R2")]]
    [lesson] = load_lessons(request(put(tmp_path, "c.jsonl", [{"conversations": turns, "system": "Be brief."}])), "train", 0)
    assert [(m.role, m.content) for m in lesson.sample.messages] == [
        ("system", "Be brief."), ("user", "Q1"), ("assistant", "R1"), ("user", "Q2")]  # fmt: skip
    assert lesson.response == "R2"


def test_verl_rows_become_samples(tmp_path):
    row = {
        "data_source": "pathmmu",
        "prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": "<image>Which? /n A. fat /n B. nerve"}],
        "images": [{"bytes": png(), "path": None}], "reward_model": {"style": "rule", "ground_truth": "B"},
        "extra_info": {"split": "train", "index": 7, "patient_id": "P1"},
    }  # fmt: skip
    found = one_sample(put(tmp_path, "train.parquet", [row]))
    assert (found.id, found.reference, found.meta["group"]) == ("train.parquet:pathmmu/train/7", "B", "patient_id=P1")
    assert [m.role for m in found.messages] == ["system", "user"] and found.meta["options"] == {"A": "fat", "B": "nerve"}


def test_pathmmu_rows_become_samples_and_their_explanations_lessons(tmp_path):
    rows = {"Atlas": {"train": [{**MCQ, "img": "x.png", "explanation": "Brown chromogen.", "id": "q1"}]}}
    path = put(tmp_path, "data.json", rows)
    found = one_sample(path)
    assert (found.task, found.reference, found.meta["answer_text"]) == ("choice", "B", "IHC")
    assert found.messages[0].content == "<image>\nWhich stain?\nA. H&E\nB. IHC"
    assert found.id == "data.json:Atlas/train:q1" and found.meta["subset"] == "Atlas/train"
    [lesson] = load_lessons(request(path), "train", 0)
    assert lesson.response == "<think>Brown chromogen.</think><answer>B</answer>"


def test_pathvqa_rows_are_yes_no_short_or_lessons(tmp_path):
    long_answer = "irregular nests of atypical cells within a desmoplastic stroma"
    answers = ("yes", "adipose tissue", long_answer)
    rows = [
        {"image": {"bytes": png(i), "path": None}, "question": f"Q{i}?", "answer": answer} for i, answer in enumerate(answers)
    ]
    path = put(tmp_path, "vqa.parquet", rows)
    found = list(load_samples(request(path), "train", 0))
    assert [(s.task, s.reference) for s in found] == [("yes_no", "yes"), ("finding", "adipose tissue")]
    assert [lesson.response for lesson in load_lessons(request(path), "train", 0)] == [long_answer]


def test_omnimedvqa_rows_become_samples(tmp_path):
    row = {"image_path": "x.png", "question": "Organ?", "gt_answer": "liver", "option_A": "lung", "option_B": "liver",
           "option_C": "", "option_D": None, "modality_type": "Microscopy Images"}  # fmt: skip
    found = one_sample(put(tmp_path, "BRIGHT.json", [row]))
    assert (found.reference, found.meta["options"], found.meta["modality_type"]) == (
        "B",
        {"A": "lung", "B": "liver"},
        "Microscopy Images",
    )


def test_plain_text_becomes_documents_without_images(tmp_path):
    [document] = load_documents(request(put(tmp_path, "t.jsonl", [{"text": "Cells."}])), "train", 0)
    assert (document.text, document.media) == ("Cells.", ())


def test_every_item_survives_json(tmp_path):
    found = one_sample(put(tmp_path, "a.jsonl", [MCQ]))
    assert Sample.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_the_system_turn_is_the_one_that_the_pack_option_asks_for(tmp_path):
    path = put(tmp_path, "a.jsonl", [MCQ])
    assert [m.role for m in one_sample(path).messages] == ["user"]
    assert [m.role for m in one_sample(path, system="expert").messages] == ["system", "user"]


def test_an_unknown_shape_names_the_nearest_and_lists_all(tmp_path):
    path = put(tmp_path, "c.csv", "image_path,captoin\nx.png,Fat.\n")
    with pytest.raises(DataError) as caught:
        detect(path)
    says = str(caught.value)
    assert "c.csv: columns (image_path, captoin) fit no known shape." in says
    assert "Nearest is figure-caption, which also needs 'caption' (there is 'captoin')" in says
    assert "multiple-choice: question, options (or choices), answer -- question with options" in says and "webdataset" not in says


def test_shapes_are_told_apart_by_their_columns(tmp_path):
    path = put(tmp_path, "a.jsonl", [MCQ])
    assert detect(path).name == "multiple-choice" and gives(request(path)) == {"lessons", "samples"}


# --- faults: exact file, row, field, reason ----------------------------------------------------------------------------


def test_row_faults_are_named(tmp_path):
    (tmp_path / "cut.png").write_bytes(png(0, (64, 64))[:500])
    (tmp_path / "page.png").write_bytes(b"<!doctype html><p>login")
    (tmp_path / "zero.png").write_bytes(b"")
    rows = [
        {**MCQ, "id": "1"},
        {**MCQ, "id": "1"},
        {**MCQ, "image": "gone.png"},
        {**MCQ, "image": "cut.png"},
        {**MCQ, "image": "page.png"},
        {**MCQ, "image": "zero.png"},
        {**MCQ, "answer": "E"},
        {**MCQ, "answer": "A) IHC"},
        {**MCQ, "options": ["same", "Same."]},
        {**MCQ, "options": ["one"]},
        {"image": "x.png", "options": ["a", "b"], "answer": "A", "questoin": "?"},
        {**MCQ, "question": " "},
        {**MCQ, "question": "<image> and <image>?"},
    ]
    path = put(tmp_path, "a.jsonl", rows)
    got = faults(path)
    assert [(file, row, field) for file, row, field, _ in got] == [
        ("a.jsonl", 2, "id"), ("a.jsonl", 3, "image"), ("a.jsonl", 4, "image"), ("a.jsonl", 5, "image"), ("a.jsonl", 6, "image"),
        ("a.jsonl", 7, "answer"), ("a.jsonl", 8, "answer"), ("a.jsonl", 9, "options"), ("a.jsonl", 10, "options"),
        ("a.jsonl", 11, "question"), ("a.jsonl", 12, "question"), ("a.jsonl", 13, "image"),
    ]  # fmt: skip
    expected = [
        "'1' appears again in this file.", "image file 'gone.png' not found under", "image 'cut.png' cannot be decoded",
        "image 'page.png' is an HTML page", "image 'zero.png' is empty (0 bytes)",
        "'E' is not among the options (A. H&E; B. IHC).", "'A) IHC' contradicts itself: that text is option B.",
        "options A and B are equal: 'Same.'.", "1 options; a choice has 2 to 10.",
        "column is missing (there is 'questoin').", "is blank.", "1 images for 2 <image> placeholders.",
    ]  # fmt: skip
    for (_, _, _, reason), says in zip(got, expected, strict=True):
        assert reason.startswith(says), reason


def test_an_image_above_the_pixel_limit_is_named(tmp_path):
    [(file, row, field, reason)] = faults(put(tmp_path, "a.jsonl", [MCQ]), max_image_pixels=40)
    assert (file, row, field) == ("a.jsonl", 1, "image") and "8 x 6 pixels, above the limit of 40" in reason


@pytest.mark.parametrize(
    ("box", "says"),
    [([1, 2, 3], "must be four numbers"), ([5, 5, 5, 9], "is empty: x1 < x2"), ("1,2,3,4", "must be four numbers")],
)
def test_a_box_that_is_none_is_named(tmp_path, box, says):
    row = {"bbox": box, "caption": "c", "figure_path": "x.png"}
    [(_, number, field, reason)] = faults(put(tmp_path, "a.json", [row]))
    assert (number, field) == (1, "bbox") and says in reason


@pytest.mark.parametrize(
    ("turns", "says"),
    [
        ([{"from": "human", "value": "Q"}], "the last turn is from the user; a lesson ends with the assistant."),
        ([{"from": "alien", "value": "Q"}], "turn 1 is from 'alien'; known are human"),
        ([{"from": "human", "value": ""}], "turn 1 has no text."),
        ("Q", "must be a list of turns, got str"),
    ],
)
def test_a_broken_conversation_is_named(tmp_path, turns, says):
    [(_, number, field, reason)] = faults(put(tmp_path, "a.jsonl", [{"conversations": turns}]))
    assert (number, field) == (1, "conversations") and reason.startswith(says)


def test_a_verl_row_without_an_answer_is_named(tmp_path):
    row = {"prompt": "Q?", "reward_model": {"style": "rule"}}
    [(_, _, field, reason)] = faults(put(tmp_path, "a.jsonl", [row]))
    assert field == "reward_model" and reason.startswith("no ground_truth")


def test_a_letter_without_options_is_named(tmp_path):
    rows = [
        {"image": "x.png", "question": "Which? A.fat, B.nerve", "answer": "B"},
        {"image": "x.png", "question": "Fat?", "answer": "no"},
    ]
    [(_, number, field, reason)] = faults(put(tmp_path, "a.jsonl", rows))
    assert (number, field) == (1, "answer") and "the question holds no options" in reason


def test_few_bad_rows_are_set_aside_and_the_rest_is_loaded(tmp_path):
    rows = [{**MCQ, "question": f"Q{i}?"} for i in range(40)]
    rows[25]["answer"] = "Z"
    made = request(put(tmp_path, "a.jsonl", rows), quarantine_dir=str(tmp_path / "aside"))
    assert len(list(load_samples(made, "train", 0))) == 39
    [row] = (tmp_path / "aside" / "quarantine-samples-train.jsonl").read_text().splitlines()
    assert json.loads(row)["row"] == 26 and json.loads(row)["field"] == "answer"


def test_too_many_bad_rows_stop_the_load(tmp_path):
    rows = [{**MCQ, "answer": "Z" if i % 10 == 0 else "A"} for i in range(40)]
    with pytest.raises(
        DataError, match=r"4 of 40 rows are bad, above data.max_bad_fraction=0.05. First:\n  a.jsonl:1: answer: 'Z' is not among"
    ):
        list(load_samples(request(put(tmp_path, "a.jsonl", rows)), "train", 0))


def test_a_bad_row_stops_the_load_at_once_when_asked(tmp_path):
    rows = [{**MCQ, "answer": "Z" if i == 30 else "A"} for i in range(40)]
    with pytest.raises(DataError, match=r"a.jsonl:31: answer: 'Z' is not among"):
        list(load_samples(request(put(tmp_path, "a.jsonl", rows), on_bad_row="stop"), "train", 0))


@pytest.mark.parametrize("content", ["", "<html>sign in</html>"])
def test_a_table_that_is_none_stops_the_load_with_its_reason(tmp_path, content):
    with pytest.raises(DataError, match=r"a.jsonl: file: the file is (empty|an HTML page)"):
        list(load_samples(request(put(tmp_path, "a.jsonl", content)), "train", 0))


def test_data_of_another_kind_is_refused_by_name(tmp_path):
    path = put(tmp_path, "c.csv", "image_path,caption\nx.png,Fat.\n")
    with pytest.raises(DataError, match=r"holds no samples \(found: figure-caption\)"):
        list(load_samples(request(path), "train", 0))


def test_an_empty_split_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(DataError, match=r"no samples in split 'test' \(1 good rows in all"):
        list(load_samples(request(put(tmp_path, "a.jsonl", [MCQ])), "test", 0))


@pytest.mark.parametrize(
    ("options", "says"),
    [({"verify_image": "off"}, "Did you mean 'verify_images'"), ({"tile_px": "big"}, "want a whole number"),
     ({"shape": "vqqa"}, "Did you mean 'vqa'"), ({"verify_images": "some"}, "want one of full, header, off")],
)  # fmt: skip
def test_a_wrong_option_is_refused_with_a_hint(tmp_path, options, says):
    with pytest.raises(ConfigError, match=says):
        list(load_samples(request(put(tmp_path, "a.jsonl", [MCQ]), options=options), "train", 0))


# --- splits, order, check and preview ----------------------------------------------------------------------------------


def many(num_patients: int = 60) -> list[dict[str, Any]]:
    return [
        {**MCQ, "question": f"Q{p}-{i}?", "patient_id": f"P{p}", "id": f"{p}-{i}"} for p in range(num_patients) for i in range(3)
    ]


def test_a_patient_is_never_in_two_splits_and_every_row_is_in_one(tmp_path):
    path = put(tmp_path, "a.jsonl", many())
    made = DataRequest(paths=(str(path),))
    groups = {split: [s.meta["group"] for s in load_samples(made, split, 0)] for split in ("train", "validation", "test")}
    assert sum(map(len, groups.values())) == 180 and all(groups.values())
    patients = [set(members) for members in groups.values()]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 60


def test_rows_of_one_image_share_a_split_when_there_is_no_patient(tmp_path):
    path = put(tmp_path, "a.jsonl", [{**MCQ, "question": f"Q{i}?"} for i in range(30)])
    report = check([str(path)])
    assert [key for key in report.tallies if key.startswith("split ")] and len(
        [k for k in report.tallies if k.startswith("split ")]
    ) == 1


def test_the_group_column_can_be_named(tmp_path):
    rows = [{**MCQ, "question": f"Q{i}?", "site": f"S{i % 2}"} for i in range(4)] + [{**MCQ, "question": "last?"}]
    path = put(tmp_path, "a.jsonl", rows)
    got = faults(path, group_field="site")
    assert got == [("a.jsonl", 5, "site", "is missing; pack.group_field needs it in every row.")]


def test_declared_splits_are_kept(tmp_path):
    put(tmp_path, "train.jsonl", many(40))
    put(tmp_path, "test.jsonl", [{**MCQ, "question": "only this?"}])
    made = DataRequest(paths=(str(tmp_path),))
    assert [s.messages[0].content.splitlines()[1] for s in load_samples(made, "test", 0)] == ["only this?"]
    counts = [len(list(load_samples(made, split, 0))) for split in ("train", "validation")]
    assert sum(counts) == 120 and 0 < counts[1] < 40  # validation, declared nowhere, is lent by train


def test_a_tiny_extract_of_the_test_split_is_not_counted_twice(tmp_path):
    rows = {"Atlas": {"test": [{**MCQ, "id": "1"}, {**MCQ, "id": "2"}], "test_tiny": [{**MCQ, "id": "1"}]}}
    assert [s.id for s in load_samples(request(put(tmp_path, "data.json", rows)), "test", 0)] == [
        "data.json:Atlas/test:1",
        "data.json:Atlas/test:2",
    ]


def test_the_order_follows_the_seed_and_the_limit_is_kept(tmp_path):
    path = put(tmp_path, "a.jsonl", many())
    made = request(path, options={"shuffle_buffer": 50}, limit=40)
    ids = [[s.id for s in load_samples(made, "train", seed)] for seed in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2] and [len(set(one)) for one in ids] == [40, 40, 40]


def test_ids_do_not_depend_on_where_the_data_is_mounted(tmp_path):
    for home in ("one/set", "two/set"):
        (tmp_path / home).mkdir(parents=True)
        put(tmp_path / home, "a.jsonl", many(3))
    ids = [[s.id for s in load_samples(request(tmp_path / home), "train", 0)] for home in ("one/set", "two/set")]
    assert ids[0] == ids[1] and ids[0][0] == "set/a.jsonl:0-0"


def test_check_counts_what_there_is_without_raising(tmp_path):
    path = put(tmp_path, "a.jsonl", [*many(10), "{broken"])
    report = check([str(path)], quarantine_dir=str(tmp_path / "aside"))
    assert (report.num_good, report.num_bad, report.tallies["samples"]) == (30, 1, 30)
    assert sum(n for key, n in report.tallies.items() if key.startswith("groups ")) == 10
    assert json.loads((tmp_path / "aside" / "quarantine-check.jsonl").read_text())["row"] == 31


def test_preview_shows_the_first_rows_as_the_stages_see_them(tmp_path):
    path = put(tmp_path, "a.jsonl", ["{broken", {**MCQ, "explanation": "Brown."}, MCQ, MCQ])
    shown = preview(DataRequest(paths=(str(path),)), 2)
    assert [type(item) for item in shown] == [Lesson, Sample]


def test_check_lists_every_fault_of_a_mixed_folder(tmp_path):
    """One bad file does not hide the others: unknown columns, an empty slide, a wrong encoding and bad rows in one report."""
    put(tmp_path, "qa.jsonl", [MCQ, {**MCQ, "id": "b", "answer": "Z"}])
    put(tmp_path, "wrong.csv", "identifier,picture\n1,x.png\n")
    (tmp_path / "latin.csv").write_bytes("id,image,caption\n1,x.png,caf\xe9\n".encode("latin-1"))
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "empty.svs").write_bytes(b"")
    report = check([str(tmp_path)])
    faults = {(Path(bad.file).name, bad.field) for bad in report.first_bad}
    assert {("qa.jsonl", "answer"), ("wrong.csv", "file"), ("latin.csv", "encoding"), ("empty.svs", "file")} <= faults
    reasons = {Path(bad.file).name: bad.reason for bad in report.first_bad}
    assert "fit no known shape" in reasons["wrong.csv"] and "UTF-8" in reasons["latin.csv"]


def test_rows_without_worked_responses_give_no_lessons_and_the_error_says_so(tmp_path):
    bare = {key: value for key, value in MCQ.items() if key not in ("explanation", "reasoning", "analysis")}
    path = put(tmp_path, "a.jsonl", [{**bare, "id": f"q{i}"} for i in range(12)])
    with pytest.raises(DataError, match=r"none of the \d+ good rows gives lessons \(a worked response beside the question\)"):
        list(load_lessons(request(path), "train", 0))
