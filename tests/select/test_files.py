"""Files between stages: what is written is read back, what is wrong is told with its line, and sft takes the lessons."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import Lesson, Media, Message, Pair, Sample
from factory.errors import ConfigError, DataError
from factory.plugins import load_stage
from factory.stages.lesson_files import (
    PromptStat,
    check_source,
    find_file,
    lesson_row,
    path_named,
    prompt_row,
    read_lessons,
    read_pairs,
    read_prompts,
    read_samples,
    stage_named,
    write_rows,
)
from factory.stages.models.facts import model_facts
from factory.stages.sft.config import SftConfig
from factory.stages.sft.lessons import draw, gather_lessons, shares

BUILD = {
    "precision": "fp32",
    "launch": {"processes": 1, "zero_stage": -1, "threads": 1},
    "stages": {"look": {"kind": "select"}, "warm": {"kind": "sft"}, "odd": {"kind": "nothing"}},
}


def sample(index=0, split="train"):
    return Sample(
        f"s{index}",
        "t",
        (Message("user", "<image> what\u2028 is it?"),),
        {"a": [1]},
        (Media(data=b"\x00\xff"),),
        {"m": 1},
        split,
        "x",
    )


def test_lessons_pairs_and_prompts_come_back_equal(tmp_path):
    lessons = [Lesson(sample(i), "because <b>\n42") for i in range(3)]
    pairs = [Pair(sample(i), "yes", "no", {"rule": "right_wrong"}) for i in range(2)]
    prompts = [PromptStat("s0", 0.25, 0.1875, True, 6, "kept", 1, 4, 0, 9.5), PromptStat("s1", None, None, False, 0, "masked")]
    write_rows(tmp_path / "lessons.jsonl", (lesson_row(lesson, origin="model") for lesson in lessons))
    write_rows(tmp_path / "pairs.jsonl", (pair.to_json() for pair in pairs))
    write_rows(tmp_path / "prompts.jsonl", map(prompt_row, prompts))
    assert read_lessons(tmp_path) == read_lessons(tmp_path / "lessons.jsonl") == lessons
    assert read_pairs(tmp_path) == pairs
    assert read_prompts(tmp_path) == prompts
    assert [s.id for s in read_samples(tmp_path / "pairs.jsonl")] == ["s0", "s1"]


def test_held_out_samples_are_refused_as_lessons_and_pairs(tmp_path):
    write_rows(
        tmp_path / "lessons.jsonl", [lesson_row(Lesson(sample(i, split), "x")) for i, split in enumerate(["train", "test"])]
    )
    with pytest.raises(
        DataError, match=r"lessons\.jsonl:2: sample 's1' is of the test split; lessons come from the training split"
    ):
        read_lessons(tmp_path)
    write_rows(tmp_path / "pairs.jsonl", [Pair(sample(0, "validation"), "a", "b").to_json()])
    with pytest.raises(DataError, match=r"pairs\.jsonl:1: sample 's0' is of the validation split"):
        read_pairs(tmp_path)
    # The overlap check compares held-out ones, so it has to see them.
    assert [s.split for s in read_samples(tmp_path / "lessons.jsonl")] == ["train", "test"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", r"lessons\.jsonl:2: is not JSON"),
        ("[]", r":2: is not such a row as a select stage writes \(TypeError"),
        ('{"response": "x"}', r":2: is not such a row .*KeyError: 'sample'"),
        (json.dumps({"sample": sample().to_json(), "response": 3}), r"response is a int, not text"),
    ],
)
def test_a_bad_line_is_told_with_its_place(tmp_path, line, told):
    (tmp_path / "lessons.jsonl").write_text(json.dumps(lesson_row(Lesson(sample(), "x"))) + "\n" + line + "\n")
    with pytest.raises(DataError, match=told):
        read_lessons(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_lessons(tmp_path / "nowhere.jsonl")


@given(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,60}", fullmatch=True))
def test_a_word_is_a_stage_and_a_path_is_not(word):
    assert (stage_named(word), path_named(word)) == (word, None)
    for path in (f"./{word}", f"{word}.jsonl", f"/{word}"):
        assert (stage_named(path), path_named(path)) == (None, path)
    assert stage_named("") is path_named("") is None


def test_where_a_source_lies(tmp_path):
    for folder in ("03-look", "other"):
        (tmp_path / folder).mkdir()
        write_rows(tmp_path / folder / "lessons.jsonl", [])
    inputs = {"look": tmp_path / "03-look"}
    assert find_file("look", "lessons", inputs) == tmp_path / "03-look" / "lessons.jsonl"
    assert find_file(str(tmp_path / "other"), "lessons", inputs) == tmp_path / "other" / "lessons.jsonl"
    with pytest.raises(DataError, match="stage 'gone' is read for its pairs, but was not handed over"):
        find_file("gone", "pairs", inputs)
    with pytest.raises(DataError, match=r"pairs\.jsonl: no such file; pairs are read from it"):
        find_file("look", "pairs", inputs)


def test_plan_refuses_sources_that_cannot_hold_lessons(tmp_path):
    key = "stages.sft.lessons_from"
    for fine in ("", "look"):
        check_source(key, fine, "lessons", BUILD)
    with pytest.raises(
        ConfigError, match=r"is 'lok', which is no stage of this build\. Did you mean 'look'\? .* lessons: look\."
    ):
        check_source(key, "lok", "lessons", BUILD)
    with pytest.raises(
        ConfigError, match=r"is 'warm', a stage of kind 'sft', which writes no lessons\. Name one that does \(look\)"
    ):
        check_source(key, "warm", "lessons", BUILD)
    with pytest.raises(ConfigError, match=r"where no lessons\.jsonl lies"):
        check_source(key, str(tmp_path), "lessons", BUILD)


# --- sft --------------------------------------------------------------------------------------------------------------------


def sft_plan(config, provides=("samples", "lessons")):
    import colours

    pack = colours.ColourPack()
    pack.manifest = replace(pack.manifest, provides=provides)
    return load_stage("sft").plan("sft", config, model_facts("embedded-text", "text"), pack, BUILD)


def test_sft_names_what_it_reads():
    stage = load_stage("sft")
    assert stage.reads(SftConfig()) == stage.training_files(SftConfig()) == ()
    assert stage.reads(SftConfig(lessons_from="look")) == ("look",)
    assert stage.training_files(SftConfig(lessons_from="./look")) == ("./look",)


def test_sft_plan_with_lessons_of_a_stage(kit):
    (note,) = sft_plan(SftConfig(lessons=50, lessons_from="look", mix_pack=0.25)).notes
    assert note == "at most 50 lessons from look, 25% of them the pack's own; how many there are is known when it runs"
    assert sft_plan(SftConfig(lessons_from="look"), provides=("samples",)).notes
    for config, told in (
        (SftConfig(lessons_from="warm"), "writes no lessons"),
        (SftConfig(mix_pack=0.5), r"stages\.sft\.mix_pack has no effect"),
        (SftConfig(lessons_from="look", mix_pack=1.0), r"mix_pack is 1\.0; it is a share from 0 to below 1"),
    ):
        with pytest.raises(ConfigError, match=told):
            sft_plan(config)
    with pytest.raises(ConfigError, match="provides no lessons"):
        sft_plan(SftConfig(lessons_from="look", mix_pack=0.5), provides=("samples",))


def test_shares_by_hand():
    # 30 own ones at a quarter take 30 * .25 / .75 = 10 of the pack
    assert shares(30, 1000, 0.25) == (30, 10)
    # a limit of 20 at a quarter: 15 own, 5 of the pack
    assert shares(30, 20, 0.25) == (15, 5)
    assert shares(30, 20, 0.0) == (20, 0) and shares(5, 20, 0.0) == (5, 0)
    assert shares(30, 1, 0.9) == (1, 0)


@given(st.integers(1, 500), st.integers(1, 500), st.floats(0, 0.95))
def test_shares_stay_in_bounds(num_found, limit, mix):
    own, pack = shares(num_found, limit, mix)
    assert 1 <= own <= num_found and pack >= 0 and own + pack <= limit
    if own + pack >= 40:
        assert abs(pack / (own + pack) - mix) < 0.05


@given(st.integers(0, 30), st.integers(0, 40), st.integers(0, 9))
def test_a_draw_keeps_the_order_and_depends_on_the_seed_only(n, num, seed):
    drawn = draw(range(n), num, seed)
    assert drawn == draw(range(n), num, seed) == sorted(set(drawn)) and len(drawn) == min(n, num)


def test_lessons_of_a_stage_are_mixed_with_the_packs(kit, tmp_path):
    inputs = {"look": tmp_path}
    write_rows(tmp_path / "lessons.jsonl", [lesson_row(Lesson(sample(i), f"own {i}")) for i in range(8)])
    ctx = kit.context(tmp_path / "sft", Path("unused"), inputs=inputs)
    lessons, sources = gather_lessons(SftConfig(lessons_from="look", mix_pack=0.2, lessons=100), ctx)
    # 8 own ones at a fifth take 8 * .2 / .8 = 2 of the pack
    assert [lesson.response for lesson in lessons[:8]] == [f"own {i}" for i in range(8)]
    assert len(lessons) == 10 and all(lesson.response.startswith("the expert") for lesson in lessons[8:])
    assert sources == {"look": 8, "pack": 2}
    by_path, sources = gather_lessons(SftConfig(lessons_from=str(tmp_path / "lessons.jsonl"), lessons=5), ctx)
    assert len(by_path) == 5 and set(sources.values()) == {5, 0}
    write_rows(tmp_path / "lessons.jsonl", [])
    with pytest.raises(DataError, match=r"holds no lessons, so there is nothing to imitate\. Read prompts\.jsonl"):
        gather_lessons(SftConfig(lessons_from="look"), ctx)
    write_rows(tmp_path / "lessons.jsonl", [lesson_row(Lesson(sample(0, "test"), "x"))])
    with pytest.raises(DataError, match="is of the test split"):
        gather_lessons(SftConfig(lessons_from="look"), ctx)
    own, sources = gather_lessons(SftConfig(lessons=3), ctx)
    assert len(own) == 3 and sources == {"pack": 3}
