"""ABC is read by the standard: accidentals through the bar, inline fields, free metre, tuplets, dots, grace notes, ties, and its faults."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.domains.music.abc_reader import AbcError, read_abc
from factory.domains.music.abc_writer import plain_notes, write_tune
from factory.domains.music.compose import melody
from factory.domains.music.keys import NO_KEY, major_keys, minor_keys
from factory.domains.music.meter import MeterError, note_value, parse_length, parse_meter, write_length
from factory.domains.music.pitch import Pitch

HEAD = "L:1/8\nM:4/4\nK:C\n"


def keys(abc, **settings):
    return [pitch.midi for pitch in read_abc(abc, **settings).melody()]


def lengths(abc):
    return [note.duration * 8 for note in read_abc(abc).notes()]


# --- accidentals --------------------------------------------------------------------------------------------------------


def test_an_accidental_holds_to_the_end_of_its_bar():
    """The vector of the issue; music21's reader fails it (cuthbertLab/music21 #1588)."""
    assert keys("L:1/4\nM:4/4\nK:C\n^F F G F") == [66, 66, 67, 66]


def test_and_no_further():
    assert keys("L:1/4\nM:4/4\nK:C\n^F F G F | F4") == [66, 66, 67, 66, 65]


def test_in_every_octave_by_default_as_the_standard_says():
    assert keys(HEAD + "^F f") == [66, 78]
    assert keys(HEAD + "^F f", propagate="octave") == [66, 77]
    assert keys(HEAD + "^F F f", propagate="not") == [66, 65, 77]
    assert keys("%%propagate-accidentals octave\n" + HEAD + "^F f") == [66, 77]


def test_a_natural_cancels_the_signature_for_the_bar():
    assert keys("L:1/4\nM:4/4\nK:D\nF =F F f | F") == [66, 65, 65, 77, 66]


def test_a_tie_carries_the_accidental_over_the_bar_line_for_its_note_only():
    assert keys("L:1/4\nM:4/4\nK:C\n^F4- | F F2") == [66, 66, 65]


def test_double_accidentals():
    assert keys(HEAD + "^^F __B =c") == [67, 69, 72]


# --- fields -------------------------------------------------------------------------------------------------------------


def test_inline_keys_take_effect_where_they_stand():
    tune = read_abc("L:1/4\nM:4/4\nK:C\nF [K:D] F F [K:F] B | [K:C] B")
    assert [pitch.midi for pitch in tune.melody()] == [65, 66, 66, 70, 71]
    assert [bar.key.name for bar in tune.bars] == ["F major", "C major"]


def test_a_clef_leaves_the_key():
    assert keys("L:1/4\nM:4/4\nK:G\nF [K:treble] F [K:clef=bass] F") == [66, 66, 66]


def test_free_metre():
    tune = read_abc("L:1/4\nM:none\nK:C\nA B c d e | f")
    assert tune.meter.name == "none" and tune.meter.length is None
    assert [bar.is_full for bar in tune.bars] == [None, None]
    assert [bar.length for bar in tune.bars] == [Fraction(5, 4), Fraction(1, 4)]


def test_inline_metre_and_length():
    tune = read_abc("L:1/8\nM:3/4\nK:C\nA6 | [M:6/8][L:1/16] A12 | A2")
    assert [bar.meter.name for bar in tune.bars] == ["3/4", "6/8", "6/8"]
    assert [bar.is_full for bar in tune.bars] == [True, True, False]


@pytest.mark.parametrize(
    ("meter", "unit"), [("2/4", Fraction(1, 16)), ("3/4", Fraction(1, 8)), ("6/8", Fraction(1, 8)), ("none", Fraction(1, 8))]
)
def test_the_unit_length_when_it_is_missing(meter, unit):
    assert read_abc(f"M:{meter}\nK:C\nA").unit == unit


def test_no_reference_number_is_needed_and_words_are_passed_over():
    assert keys("T:A tune\nL:1/8\nM:4/4\nK:C\nw: la la\nA B % a comment\nw: la") == [69, 71]


def test_voices_are_kept_apart():
    tune = read_abc("L:1/4\nM:4/4\nK:C\nV:1\nc d e f |\nV:2\nC4 |\nV:1\ng4 |\nV:2\nC4 |")
    assert list(tune.voices) == ["1", "2"]
    assert [[len(bar.notes) for bar in bars] for bars in tune.voices.values()] == [[4, 1], [1, 1]]


# --- lengths ------------------------------------------------------------------------------------------------------------


def test_lengths():
    assert lengths(HEAD + "A2 A A/2 A/ A// A3/2 A3/") == [
        2,
        1,
        Fraction(1, 2),
        Fraction(1, 2),
        Fraction(1, 4),
        Fraction(3, 2),
        Fraction(3, 2),
    ]


def test_guide_bars():
    """6/8 with L:1/8: `A2B cde` is full, `A2B c2` is not."""
    head = "L:1/8\nM:6/8\nK:C\n"
    assert read_abc(head + "A2B cde").bars[0].is_full is True
    assert read_abc(head + "A2B c2").bars[0].is_full is False


def test_broken_rhythm():
    assert lengths(HEAD + "A>B c<d e>>f") == [
        Fraction(3, 2),
        Fraction(1, 2),
        Fraction(1, 2),
        Fraction(3, 2),
        Fraction(7, 4),
        Fraction(1, 4),
    ]
    assert lengths(HEAD + "A>{g}B") == [Fraction(3, 2), 0, Fraction(1, 2)]


def test_tuplets():
    assert sum(lengths(HEAD + "(3ABc")) == 2
    assert lengths(HEAD + "(3:2:2 A2 B c") == [Fraction(4, 3), Fraction(2, 3), 1]
    assert sum(lengths(HEAD + "(5ABcde")) == 2  # five in the time of two in simple metre
    assert sum(lengths("L:1/8\nM:6/8\nK:C\n(5ABcde")) == 3  # of three in compound metre
    assert sum(lengths(HEAD + "(2AB")) == 3 and sum(lengths(HEAD + "(4ABcd")) == 3


def test_broken_rhythm_inside_a_tuplet():
    assert lengths(HEAD + "(3A>Bc") == [1, Fraction(1, 3), Fraction(2, 3)]


def test_grace_notes_have_no_length_and_share_the_bars_accidentals():
    tune = read_abc(HEAD + "{^fg}A f")
    assert [(note.is_grace, note.duration) for note in tune.notes()][:2] == [(True, 0), (True, 0)]
    assert [pitch.midi for pitch in tune.melody()] == [69, 78]


def test_ties_join_what_sounds():
    tune = read_abc("L:1/4\nM:4/4\nK:C\nc4- | c2 c2")
    assert tune.sounding() == [(72, Fraction(0), Fraction(3, 2)), (72, Fraction(3, 2), Fraction(1, 2))]
    assert len(read_abc(HEAD + "[CE]4-[CE]4").sounding()) == 2


def test_chords_multiply_their_lengths():
    assert lengths(HEAD + "[C2E2G2]2 [CE]/ [C-E-G-] C") == [4, Fraction(1, 2), 1, 1]


def test_overlays_do_not_lengthen_the_bar():
    tune = read_abc("L:1/4\nM:4/4\nK:C\nc d e f & C4 | g4")
    assert [bar.length for bar in tune.bars] == [1, 1]
    assert [note.onset for note in tune.bars[1].notes] == [1]


def test_rests_over_bars():
    tune = read_abc("L:1/8\nM:3/4\nK:C\nA6 | Z2 | z6 |]")
    assert [bar.length for bar in tune.bars] == [Fraction(3, 4)] * 4


def test_bar_lines_repeats_and_endings():
    tune = read_abc("L:1/8\nM:2/4\nK:C\nA |: B4 | c4 |1 d4 :|2 e4 :: f4 || g4 [1 a4 | b4 |]")
    assert [(bar.opens, bar.closes, bar.ending) for bar in tune.bars] == [
        ("", "|:", ""), ("|:", "|", ""), ("|", "|", ""), ("|", ":|", "1"), (":|", "::", "2"), ("::", "||", ""), ("||", "|", "1"), ("|", "|]", ""),
    ][: len(tune.bars)]  # fmt: skip


# --- faults -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("A [CE", "not closed"), ("A {g", "not closed"), ("A ]", r"\] without"), ("2A", "behind no note"), ("A/0", "above 0"), ("A : B", "no sign of ABC"),
        (">A", "needs a note"), ("A> |", "waits for a note"), ("", "no music"), ("[]", "empty"), ("[C[E]]", "inside a chord"), ("A99999", "no note length"),
        ("A,,,,,,,,", "octave"), ("(3:0:3ABc", "no length"), ("Z2000", "1 to 1000"),
    ],
)  # fmt: skip
def test_faults_name_their_place(body, said):
    with pytest.raises(AbcError, match=said):
        read_abc(HEAD + body)


@pytest.mark.parametrize("field", ["K:H", "M:4/0", "M:x", "L:0/8", "L:x"])
def test_faulty_fields(field):
    with pytest.raises(AbcError, match="line 4"):
        read_abc(f"{HEAD}{field}\nA")


@given(st.text(alphabet="ABcd^_=[](){}|:/23>-zZ \n\"'!&.", max_size=60))
def test_any_text_is_read_or_refused(body):
    try:
        tune = read_abc(HEAD + body)
    except AbcError:
        return
    assert all(bar.length >= 0 for bar in tune.bars)


def test_reading_is_linear():
    import time

    began = time.process_time()
    read_abc(HEAD + "A B c d | " * 15_000)
    assert time.process_time() - began < 10
    with pytest.raises(AbcError, match="at most"):
        read_abc(HEAD + "A" * 200_001)


# --- writing ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.builds(Pitch, st.sampled_from("CDEFGAB"), st.integers(-2, 2), st.integers(2, 6)), min_size=1, max_size=12))
def test_notes_read_back_as_they_were_written(pitches):
    tune = read_abc(f"L:1/4\nM:none\nK:C\n{plain_notes(pitches)}")
    assert [note.pitches[0] for note in tune.notes()] == pitches


@given(st.integers(0, 10_000))
def test_tunes_read_back_as_they_were_written(seed):
    rng = random.Random(seed)
    key, meter = rng.choice([*major_keys(), *minor_keys(), NO_KEY]), parse_meter(rng.choice(("2/4", "6/8", "5/8", "4/4")))
    bars = melody(rng, key, meter, 3)
    tune = read_abc(write_tune(bars, key, meter, Fraction(1, 8)))
    assert [[(note.pitches, note.duration) for note in bar.notes] for bar in tune.bars] == bars
    assert all(bar.is_full for bar in tune.bars)


@given(st.fractions(min_value=Fraction(1, 16), max_value=12, max_denominator=16))
def test_lengths_read_back(length):
    assert parse_length(write_length(length)) == length


@pytest.mark.parametrize(
    ("duration", "value"),
    [(Fraction(3, 8), ("quarter", 1)), (Fraction(7, 16), ("quarter", 2)), (Fraction(5, 8), None), (Fraction(1), ("whole", 0))],
)
def test_note_values(duration, value):
    assert note_value(duration) == value


@pytest.mark.parametrize(
    ("text", "length"),
    [("6/8", Fraction(3, 4)), ("C", Fraction(1)), ("C|", Fraction(1)), ("2+3/8", Fraction(5, 8)), ("(2+3)/8", Fraction(5, 8))],
)
def test_metres(text, length):
    assert parse_meter(text).length == length


@pytest.mark.parametrize("text", ["4/0", "0/4", "four", "4/4/4"])
def test_no_metre(text):
    with pytest.raises(MeterError):
        parse_meter(text)
