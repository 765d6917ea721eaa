"""Verifiers recompute from the score; copies, lists and double boxes earn nothing; rules of melody and voice leading, by hand."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.contracts import DataRequest, Message, Sample, Status
from factory.domains.music import rules
from factory.domains.music.abc_reader import read_abc
from factory.domains.music.asks import Ask, AskError, is_right, right_answers
from factory.domains.music.composed import PARTIAL, judge
from factory.domains.music.evals import details
from factory.domains.music.forms import form_of
from factory.domains.music.keys import Key
from factory.domains.music.motifs import relations
from factory.domains.music.pack import PACK
from factory.domains.music.pitch import parse_pitch
from factory.domains.music.verifiers import TheoryAnswer
from factory.errors import ConfigError

HEAD = "L:1/4\nM:none\nK:C\n"
V = PACK.verifiers()


def sample(kind, score="", params=None, reference="", task="interval", **meta):
    return Sample("s", task, (Message("user", "?"),), reference, (), {"ask": Ask(kind, score, params or {}).to_meta(), **meta})


def said(answer):
    return f"<think>so</think><answer>{answer}</answer>"


def test_the_stored_answer_is_never_looked_up():
    """A wrong reference changes nothing: the score decides."""
    lying = sample("interval", HEAD + "C E", reference="minor second")
    assert V["answer"](said("major third"), lying).score == 1.0
    assert V["answer"](said("minor second"), lying).score == 0.0


def test_a_key_that_the_score_contradicts_is_an_error_not_a_wrong_answer():
    options = {"A": "major third", "B": "minor third"}
    with pytest.raises(ValueError, match="by the score it is A"):
        V["answer"](said("A"), sample("interval", HEAD + "C E", reference="B", options=options))
    with pytest.raises(ValueError, match="2 options answer"):
        V["answer"](said("A"), sample("interval", HEAD + "C E", reference="A", options={"A": "major third", "B": "M3"}))
    with pytest.raises(ValueError, match="cannot be read"):
        V["answer"](said("A"), sample("interval", "K:H\nC E"))


def test_a_distractor_that_forms_the_interval_on_the_other_side_is_seen():
    """Published fault: a random distractor may be right in the other direction. With `either` both are right answers."""
    ask = Ask("note", HEAD + "A", {"interval": "minor third", "direction": "either"})
    assert right_answers(ask) == ["C5", "F#4"]
    one_way = Ask("note", HEAD + "A", {"interval": "minor third", "direction": "up"})
    assert is_right(one_way, "c") and not is_right(one_way, "^F")


def test_equality_is_spelled_or_enharmonic_by_name():
    ask = sample("note", HEAD + "_E", {"interval": "minor third"})
    assert V["answer"](said("^F"), ask).score == 0.0
    assert TheoryAnswer(level="enharmonic")(said("^F"), ask).score == 1.0
    with pytest.raises(ConfigError, match="spelled or enharmonic"):
        TheoryAnswer(level="loose")


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{A}\\boxed{B}",
        "\\boxed{B}\\boxed{A}",
        "\\boxed{A}, \\boxed{A}",
        "\\boxed{A, B}",
        "\\boxed{A or B}",
        "\\boxed{}",
        "A",
    ],
)
@pytest.mark.parametrize("name", ["answer", "accuracy", "letter"])
def test_two_boxes_or_two_letters_earn_nothing(name, text):
    asked = sample("interval", HEAD + "C E", reference="B", options={"A": "minor third", "B": "major third"}, form="boxed")
    strict = name != "accuracy" or text != "A"
    assert V[name](text, asked).score == 0.0 or not strict
    assert V[name]("\\boxed{B}", asked).score == 1.0


def test_every_task_refuses_a_copied_score_and_a_list_of_options():
    for item in PACK.samples("test", 0, DataRequest(limit=200, options={"choice": 0.5})):
        score = item.meta["ask"]["score"].rpartition("\n")[2].rstrip("|] ") or "C"
        if not ("options" in item.meta and score in item.meta["options"]):  # the note B is also the name of an option
            assert V["answer"](said(score), item).score == 0.0, item
        if "options" in item.meta:
            listed = " ".join(f"{letter}. {text}" for letter, text in item.meta["options"].items())
            assert V["answer"](said(listed), item).score == 0.0
            assert V["accuracy"](listed, item).score == 0.0


def test_notes_are_not_read_as_option_letters():
    options = {"A": "c", "B": "C", "C": "_B", "D": "b"}
    asked = sample("note", HEAD + "D", {"interval": "major second", "direction": "down"}, "B", options=options)
    assert [V["answer"](said(text), asked).score for text in ("B", "_B", "b", "d", "c", "^B")] == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]


@given(st.text(max_size=80))
@settings(max_examples=150, deadline=None)
def test_any_text_gets_a_verdict(text):
    for item in CASES:
        for name in ("answer", "accuracy"):
            verdict = V[name](said(text), item)
            assert verdict.status in (Status.ok, Status.wrong, Status.unparsable) and verdict.reason


CASES = list(PACK.samples("validation", 0, DataRequest(limit=18)))


# --- music that is judged by rules --------------------------------------------------------------------------------------


def chords(*rows):
    return [[parse_pitch(name) for name in row.split()] for row in rows]


def test_parallel_fifths_and_octaves():
    assert rules.no_parallels(chords("C3 G3", "D3 A3")).fault == "parallel fifths from chord 1 to 2"
    assert rules.no_parallels(chords("C3 C4", "D3 D4")).fault == "parallel octaves from chord 1 to 2"
    assert rules.no_parallels(chords("C3 G3", "C3 G3")).is_kept  # repeated, not moved
    assert rules.no_parallels(chords("C3 G3", "D3 F3")).is_kept


def test_consonance_is_spelled():
    assert rules.consonant(chords("C3 E3", "C3 A3", "C3 G4")).is_kept
    assert not rules.consonant(chords("C3 F3")).is_kept  # a fourth above the bass
    assert not rules.consonant(chords("C3 D#3")).is_kept  # sounds like a minor third, is an augmented second


def test_voices_keep_their_order_and_distance():
    assert rules.voices_ordered(chords("C3 E3 G3 C4")).is_kept
    assert not rules.voices_ordered(chords("C3 G3 E3 C4")).is_kept
    assert not rules.voices_ordered(chords("C3 E3 G4 C5")).is_kept  # tenor and alto a tenth apart


def test_the_leading_note_rises():
    key = Key("C", "major")
    assert rules.leading_note_rises(chords("G2 B3 D4 G4", "C3 C4 E4 G4"), key).is_kept
    assert not rules.leading_note_rises(chords("G2 B3 D4 G4", "C3 G3 E4 G4"), key).is_kept


def test_minor_keys_allow_the_raised_sixth_and_seventh():
    key = Key("A", "minor")
    assert rules.in_key([parse_pitch(name) for name in ("G4", "G#4", "F#4")], key).is_kept
    assert rules.in_key([parse_pitch(name) for name in ("D#4", "A4")], key).share == 0.5


def test_leaps():
    assert rules.small_leaps([parse_pitch(name) for name in ("C4", "G4", "C5")]).is_kept
    assert not rules.small_leaps([parse_pitch(name) for name in ("C4", "B4")]).is_kept
    assert not rules.small_leaps([parse_pitch(name) for name in ("F4", "B4")]).is_kept


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("B2 A2 G2", 1.0),
        ("B2 A2 G2 |", 1.0),
        ("B2 A2", PARTIAL * 4 / 6),  # bar not full, wrong end
        ("B2 _A2 G2", PARTIAL * (1 + 2 / 3 + 1 + 2 / 3 + 1 + 1) / 6),  # one note of three foreign; A-flat to G fine, B to A-flat augmented: 1 of 3
        ("c2 B2 A2", 0.0),  # copied
        ("B2 A2 G2 | G6", 0.0),  # two bars
        ("[GB]2 A2 G2", 0.0),  # a chord
        ("z6", 0.0),
    ],
)  # fmt: skip
def test_continuation(answer, score):
    ask = Ask("continue", "L:1/8\nM:3/4\nK:G\nG2 A2 B2 | c2 B2 A2 |", {"bars": 1, "end": "G"})
    assert judge(ask, answer).score == pytest.approx(score)


def test_repair_accepts_every_right_repair_and_prefers_one_change():
    ask = Ask("repair", "L:1/8\nM:6/8\nK:G\nA2 B c d2 e |")
    assert [judge(ask, text).score for text in ("A B c d2 e", "A2 B c d e")] == [1.0, 1.0]
    assert judge(ask, "A B c d e2").score == pytest.approx(PARTIAL * (1 + 1 / 3) / 2)  # full, by three changes
    assert judge(ask, "B A c d2 e").score == 0.0  # other notes
    with pytest.raises(AskError, match="0 faulty bars"):
        judge(Ask("repair", "L:1/8\nM:6/8\nK:G\nA2 B cde |"), "A2 B cde")


def test_transposition_wants_every_spelling():
    ask = Ask("transpose", HEAD + "D E G A", {"interval": "major second", "direction": "up"})
    assert judge(ask, "E ^F A B").score == 1.0
    assert judge(ask, "E _G A B").score < 0.5
    assert judge(ask, "E ^F A").score == 0.0


def test_four_part_harmony_found_by_search_keeps_every_rule():
    from factory.domains.music.melody_questions import harmony

    rng, found = random.Random(3), 0
    while found < 5:
        question = harmony(rng, voices=4)
        if question is not None:
            found += 1
            assert judge(question.ask, question.answer).score == 1.0
            assert judge(question.ask, question.bare).score == 0.0


def test_bar_lines_must_fill_bars():
    ask = Ask("bars", "L:1/8\nM:none\nK:C\nA B c d2 e", {"meter": "3/8"})
    assert [judge(ask, text).score for text in ("A B c | d2 e", "A B c | d2 e |]", "A B c d2 e", "A B c | d e e")] == [
        1.0,
        1.0,
        0.0,
        0.0,
    ]


@pytest.mark.parametrize("score", [0, 1])
def test_partial_scores_stay_below_the_gate(score):
    for item in CASES:
        verdict = V["answer"](said("G A B c d" if score else "[CEG] c"), item)
        assert verdict.score == 1.0 or verdict.score <= PARTIAL


# --- forms and motifs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "form"),
    [
        ("A4 | B4 :: c4 | d4 :|", "AABB"),
        ("|: A4 | B4 :|", "AA"),
        ("A4 | B4 || c4 | d4 || A4 | B4 |]", "ABA"),
        ("|: A4 |1 B4 :|2 c4 :: d4 :|", "AABB"),
        ("G2 |: A4 | B4 :|: c4 | d4 :|", "AABB"),
        ("A4 | B4 | c4 |]", "A"),
    ],
)  # fmt: skip
def test_forms(body, form):
    assert form_of(read_abc(f"L:1/8\nM:2/4\nK:C\n{body}")) == form


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ("C D E", "G A B", ["transposition"]), ("C D F", "F D C", ["retrograde"]), ("C D F", "C B, G,", ["inversion"]), ("C D F", "C2 D2 F2", ["augmentation"]),
        ("C2 D2 F2", "C D F", ["diminution"]), ("C D E", "C D E", ["repetition"]), ("C D E", "C E D", []), ("C D E F", "F E D C", ["inversion", "retrograde"]),
    ],
)  # fmt: skip
def test_motifs(first, second, found):
    bars = read_abc(f"L:1/8\nM:none\nK:C\n{first} | {second} |]").bars
    assert relations(bars[0].sounded, bars[1].sounded) == found


# --- evals --------------------------------------------------------------------------------------------------------------


def test_details_split_accuracy_by_difficulty_and_mode():
    """Every answer right but those of one difficulty and those that are music."""
    from types import SimpleNamespace

    request = DataRequest(limit=80)
    asked = list(PACK.samples("test", 7, request))
    is_music = [item.task in ("transposition", "repair", "continuation", "harmonisation") for item in asked]
    wrong = [item.meta["difficulty"] == "easy" or music for item, music in zip(asked, is_music, strict=True)]
    answers = {item.id: said("?") if bad else PACK.gold(item) for item, bad in zip(asked, wrong, strict=True)}
    found = details(SimpleNamespace(request=request, answers=answers), "test", 7)
    assert found["easy"] == found["composition/right"] == found["composition/rules"] == 0.0
    assert found["text"] == pytest.approx(1 - sum(wrong) / 80)
    everything = {item.id: PACK.gold(item) for item in asked}
    assert set(details(SimpleNamespace(request=request, answers=everything), "test", 7).values()) == {1.0}


def test_likelihood_reads_a_model_that_knows():
    from types import SimpleNamespace

    from factory.domains.music.evals import likelihood

    request = DataRequest(options={"shares": {"interval": 1}})
    gold = {}
    for item in PACK.samples("test", 0, DataRequest(limit=64, options={"shares": {"interval": 1}, "choice": 1.0})):
        gold[item.messages[-1].content.split("\nA", 1)[0] + "\n"] = item.meta["options"][item.reference]
    knows = SimpleNamespace(request=request, continuation_logprobs=lambda prompts, texts: [
        0.0 if gold[prompt] == text else -9.0 for (prompt, _), text in zip(prompts, texts, strict=True)])  # fmt: skip
    assert likelihood(knows, "test", 0)["accuracy"] == 1.0
