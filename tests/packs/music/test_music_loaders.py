"""The user's files: tunebooks, MIDI, MusicXML, SSMR-Bench and MusicTheoryBench rows, and rows that are wrong."""

from __future__ import annotations

import json

import pytest

from factory.contracts import DataRequest
from factory.domains.music.pack import PACK
from factory.errors import ConfigError

V = PACK.verifiers()
BOOK = """%abc-2.1
X:1
T:One
M:2/4
L:1/8
K:G
|: GABc | d4 :|
|: dcBA | G4 :|

some text between tunes
X:2
T:Two
M:6/8
L:1/8
K:Ador
A2B cde | ^g2f e3 :|

X:3
T:Broken
K:C
A [CE
"""


def load(folder, kind="samples", splits=("train", "validation", "test"), **options):
    request = DataRequest(paths=(str(folder),), options=options, max_bad_fraction=1.0)
    found = []
    for split in splits:
        try:
            found += list(getattr(PACK, kind)(split, 0, request))
        except Exception as err:  # a small folder may leave a split empty
            assert "no " in str(err)
    return found


def write(folder, name, rows):
    (folder / name).write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")


def test_tunebooks_are_split_into_tunes(tmp_path):
    (tmp_path / "book.abc").write_text(BOOK, encoding="utf-8")
    report = PACK.check(DataRequest(paths=(str(tmp_path),), options={"questions": 4})).to_json()
    assert (report["rows"], report["good"]) == (3, 2)
    [bad] = report["first_bad"]
    assert (bad["row"], bad["field"]) == (3, "abc_tune") and "not closed" in bad["reason"]
    texts = [document.text for document in load(tmp_path, "corpus")]
    assert len(texts) == 2 and any("T:Two" in text for text in texts)


def test_questions_about_a_tune_are_answerable(tmp_path):
    (tmp_path / "book.abc").write_text(BOOK, encoding="utf-8")
    found = load(tmp_path, questions=20)
    assert {"tune_pitch", "tune_interval", "tune_range", "tune_bars"} <= {sample.task for sample in found}
    for sample in found:
        for name in ("answer", "format", "accuracy"):
            assert V[name](PACK.gold(sample), sample).score == 1.0
    keys = [sample for sample in found if sample.task == "tune_key"]
    assert keys and all("K:none" in sample.messages[-1].content for sample in keys)
    metres = [sample for sample in found if sample.task == "tune_meter"]
    assert all("M:" not in sample.messages[-1].content for sample in metres)
    for lesson in load(tmp_path, "lessons", questions=5):
        assert V["answer"](lesson.response, lesson.sample).score == 1.0


def test_questions_of_one_tune_stay_in_one_split(tmp_path):
    (tmp_path / "book.abc").write_text(BOOK, encoding="utf-8")
    places = {}
    for split in ("train", "validation", "test"):
        for sample in load(tmp_path, splits=(split,), questions=10):
            places.setdefault(sample.meta["group"], set()).add(split)
    assert len(places) == 2 and all(len(split) == 1 for split in places.values())


def test_midi_and_musicxml_files(tmp_path, extra):
    from factory.domains.music.exchange import to_midi, to_musicxml

    abc = "L:1/8\nM:3/4\nK:D\nA2 d2 f2 | e4 c2 | d6 |]"
    (tmp_path / "a.mid").write_bytes(to_midi(abc))
    (tmp_path / "b.musicxml").write_text(to_musicxml(abc.replace("K:D", "K:A")), encoding="utf-8")
    (tmp_path / "c.mid").write_bytes(b"nothing")
    report = PACK.check(DataRequest(paths=(str(tmp_path),))).to_json()
    assert (report["rows"], report["good"]) == (3, 2) and report["first_bad"][0]["file"].endswith("c.mid")
    assert any("A2 d2 f2 | e4 c2 | d6 |]" in document.text for document in load(tmp_path, "corpus"))


def test_tunes_as_pictures(tmp_path, extra):
    (tmp_path / "book.abc").write_text(BOOK, encoding="utf-8")
    for sample in load(tmp_path, mode="visual", questions=2):
        assert len(sample.media) == 1 and sample.messages[-1].content.startswith("<image>")
        assert "K:" not in sample.messages[-1].content
    with pytest.raises(ConfigError, match=r"pack\.images=sheet"):
        list(PACK.samples("train", 0, DataRequest(paths=(str(tmp_path),), options={"mode": "visual", "images": "tile"})))


SSMR = {
    "class_name": "IntervalNumber", "question": "What is the interval?", "abc_context": "L:1/4\nM:4/4\nK:C\nC _E", "correct_answer": "minor third",
    "incorrect_answer1": "major third", "incorrect_answer2": "perfect fourth", "incorrect_answer3": "minor second", "category": "Interval",
    "difficulty": "easy",
}  # fmt: skip


def test_ssmr_rows(tmp_path):
    rows = [
        SSMR,
        {
            **SSMR,
            "class_name": "NoteCompletionByInterval",
            "correct_answer": "C",
            "incorrect_answer1": "c",
            "incorrect_answer2": "^C",
            "incorrect_answer3": "D",
        },
        {**SSMR, "correct_answer": "major third"},
        {**SSMR, "class_name": "Rhythm"},
    ]
    write(tmp_path, "ssmr.jsonl", rows)
    report = PACK.check(DataRequest(paths=(str(tmp_path),))).to_json()
    assert (report["good"], {row["field"] for row in report["first_bad"]}) == (2, {"class_name", "options"})
    found = load(tmp_path, form="boxed", system="ssmr")
    assert {sample.task for sample in found} == {"interval", "note"}
    for sample in found:
        right = "minor third" if sample.task == "interval" else "C"
        assert sample.meta["options"][sample.reference] == right
        assert V["answer"](f"\\boxed{{{sample.reference}}}", sample).score == 1.0
        others = [letter for letter in sample.meta["options"] if letter != sample.reference]
        assert V["answer"](f"\\boxed{{{others[0]}}}", sample).score == 0.0
        assert "\\boxed{}" in sample.messages[0].content


def test_a_published_key_that_its_score_contradicts_is_refused_on_request(tmp_path):
    wrong = {**SSMR, "correct_answer": "major second", "incorrect_answer1": "minor third"}
    write(tmp_path, "ssmr.jsonl", [SSMR, wrong])
    assert PACK.check(DataRequest(paths=(str(tmp_path),))).num_good == 2
    report = PACK.check(DataRequest(paths=(str(tmp_path),), options={"recheck": True})).to_json()
    assert report["good"] == 1 and "by its score it is 'minor third'" in report["first_bad"][0]["reason"]


def test_theory_bench_rows(tmp_path):
    rows = [
        {"stem": "Which clef is this?", "options": {"A": "treble", "B": "bass", "C": "alto", "D": "tenor"}, "answer": "B", "subset": "knowledge"},
        {"stem": "Which key?", "abc_score": "X:1\nK:G\nGAB", "options": {"A": "G major", "B": "D major", "C": "C major", "D": "F major"}, "answer": "A",
         "subset": "reasoning"},
        {"stem": "Bad", "options": {"A": "x", "B": "x", "C": "y", "D": "z"}, "answer": "A", "subset": "knowledge"},
    ]  # fmt: skip
    write(tmp_path, "mtb.jsonl", rows)
    found = load(tmp_path)
    assert sorted(sample.task for sample in found) == ["knowledge", "reasoning"]
    for sample in found:
        assert V["letter"](PACK.gold(sample), sample).score == 1.0 and V["accuracy"](sample.reference, sample).score == 1.0
    assert "GAB" in next(sample for sample in found if sample.task == "reasoning").messages[-1].content


def test_common_shapes_keep_the_asked_form(tmp_path):
    write(tmp_path, "qa.jsonl", [{"question": "Which is faster?", "options": ["adagio", "presto"], "answer": "B"}])
    [sample] = load(tmp_path, form="boxed")
    assert (sample.task, sample.meta["form"]) == ("knowledge", "boxed")
    assert V["letter"]("\\boxed{B}", sample).score == 1.0


def test_an_unknown_option_has_a_near_miss(tmp_path):
    write(tmp_path, "ssmr.jsonl", [SSMR])
    with pytest.raises(ConfigError, match="questions"):
        load_strict = PACK.samples("train", 0, DataRequest(paths=(str(tmp_path),), options={"question": 3}))
        list(load_strict)


def test_musicxml_that_could_read_other_files_is_refused(tmp_path, extra):
    (tmp_path / "x.musicxml").write_text(
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><score-partwise>&x;</score-partwise>', encoding="utf-8"
    )
    report = PACK.check(DataRequest(paths=(str(tmp_path),))).to_json()
    assert report["good"] == 0 and "entities" in report["first_bad"][0]["reason"]
