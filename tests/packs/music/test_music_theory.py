"""Pitches, intervals, keys, scales and chords: the guide's vectors, the eight chords that are often misspelled, and music21 as second opinion."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.domains.music.abc_writer import bare_notes
from factory.domains.music.chords import (
    INVERSIONS,
    QUALITIES,
    SEVENTHS,
    SSMR_ROOTS,
    TRIADS,
    Chord,
    diatonic,
    identify,
    invert,
    needs_double_accidental,
    parse_chord,
    roman,
    stack,
)
from factory.domains.music.intervals import Interval, between, parse_interval, transpose
from factory.domains.music.keys import (
    MODES,
    PATTERNS,
    Key,
    degree_of,
    major_keys,
    minor_keys,
    names_clef_only,
    parse_key_field,
    relative,
    scale,
    signature_of,
    tonic_of,
)
from factory.domains.music.pitch import Pitch, PitchError, parse_abc_note, parse_pitch, to_abc

pitches = st.builds(Pitch, st.sampled_from("CDEFGAB"), st.integers(-2, 2), st.integers(1, 7))
intervals = st.builds(Interval, st.integers(0, 14), st.integers(-1, 1))


# --- pitches ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "abc"), [("C4", "C"), ("C5", "c"), ("C3", "C,"), ("F#5", "^f"), ("Gbb4", "__G"), ("C6", "c'"), ("B2", "B,,")]
)
def test_octaves_in_abc(name, abc):
    """Middle C is `C`; the published generator wrote it `c`."""
    assert to_abc(parse_pitch(name)) == abc
    assert parse_abc_note(abc) == parse_pitch(name)


@given(pitches)
def test_every_pitch_survives_both_spellings(pitch):
    assert parse_abc_note(to_abc(pitch)) == pitch
    assert parse_pitch(pitch.name) == pitch


def test_an_accidental_behind_its_letter_is_no_abc():
    with pytest.raises(PitchError, match="accidental precedes the letter"):
        parse_abc_note("G^")


def test_three_sharps_cannot_be_written():
    with pytest.raises(PitchError, match="signs for two"):
        to_abc(Pitch("F", 3, 4))


@settings(deadline=None)  # the first call imports music21
@given(pitches)
def test_midi_is_what_music21_says(pitch):
    music21 = pytest.importorskip("music21")
    name = pitch.letter + ("#" * pitch.alter if pitch.alter >= 0 else "-" * -pitch.alter) + str(pitch.octave)
    assert music21.pitch.Pitch(name).midi == pitch.midi


# --- intervals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ("C4", "E4", "major third"), ("C4", "Eb4", "minor third"), ("F4", "B4", "augmented fourth"), ("B3", "F4", "diminished fifth"),
        ("C4", "C5", "perfect octave"), ("C4", "D#4", "augmented second"), ("C4", "C4", "perfect unison"), ("Cb4", "C4", "augmented unison"),
        ("B#4", "Cb5", "doubly diminished second"), ("C4", "E5", "major tenth"),
    ],
)  # fmt: skip
def test_interval_names(first, second, name):
    assert between(parse_pitch(first), parse_pitch(second))[0].name == name


def test_a_falling_interval_has_the_same_name_and_another_direction():
    assert between(parse_pitch("E4"), parse_pitch("C4")) == (Interval(2, 0), -1)
    assert between(parse_pitch("C4"), parse_pitch("E4")) == (Interval(2, 0), 1)


@given(pitches, intervals, st.sampled_from((1, -1)))
def test_transposing_there_and_back(pitch, interval, way):
    moved = transpose(pitch, interval, way)
    assert transpose(moved, interval, -way) == pitch
    assert abs(moved.midi - pitch.midi) == abs(interval.semitones)


@given(pitches, pitches)
def test_the_interval_leads_to_the_second_pitch(first, second):
    interval, way = between(first, second)
    assert transpose(first, interval, way or 1) == second


@given(st.integers(0, 20), st.integers(-3, 3))
def test_interval_names_are_read_back(steps, shift):
    assert parse_interval(Interval(steps, shift).name) == Interval(steps, shift)


@pytest.mark.parametrize(("text", "name"), [("m3", "minor third"), ("P5", "perfect fifth"), ("A4", "augmented fourth"), ("octave", "perfect octave"),
                                            ("Aug 4th", "augmented fourth"), ("dd5", "doubly diminished fifth")])  # fmt: skip
def test_short_interval_names(text, name):
    assert parse_interval(text).name == name


@pytest.mark.parametrize(
    "text", ["perfect third", "major fifth", "third", "minor third major third", "m0", "doubly minor third", ""]
)
def test_no_such_interval(text):
    with pytest.raises(PitchError):
        parse_interval(text)


def test_every_interval_is_music21s():
    music21 = pytest.importorskip("music21")
    for first, second in itertools.product(
        ["C4", "F#4", "Bb3", "E5", "Ab4"], ["C4", "D#4", "Eb4", "F4", "G#5", "Bbb4", "B5", "Cb3"]
    ):
        a, b = parse_pitch(first), parse_pitch(second)
        if a.step == b.step:
            continue  # F#-F: music21 says diminished unison; here it is an augmented one, falling
        theirs = music21.interval.Interval(
            music21.pitch.Pitch(first.replace("b", "-")), music21.pitch.Pitch(second.replace("b", "-"))
        )
        quality = theirs.niceName.rsplit(" ", 1)[0].replace("Doubly-", "doubly ").lower()
        assert between(a, b)[0].quality == quality, (first, second)
        assert between(a, b)[0].steps + 1 == theirs.generic.undirected


# --- keys and scales ----------------------------------------------------------------------------------------------------


def test_guide_scales():
    assert [p.spelled for p in scale(parse_pitch("D4"), "major")] == ["D", "E", "F#", "G", "A", "B", "C#", "D"]
    assert [p.spelled for p in scale(parse_pitch("D4"), "minor")] == ["D", "E", "F", "G", "A", "Bb", "C", "D"]
    assert bare_notes(scale(parse_pitch("G#4"), "harmonic minor")) == "^G ^A B ^c ^d e ^^f ^g"


@pytest.mark.parametrize("kind", PATTERNS)
def test_scales_use_each_letter_once(kind):
    for key in major_keys():
        letters = [pitch.letter for pitch in scale(parse_pitch(key.tonic, octave=4), kind)][:-1]
        assert sorted(letters) == sorted("ABCDEFG")


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_has_the_notes_of_its_signature(mode):
    """Two ways to the same notes: the circle of fifths and the semitone pattern."""
    for fifths in range(-7, 8):
        tonic = parse_pitch(tonic_of(fifths, mode), octave=4)
        by_pattern = {pitch.letter: pitch.alter for pitch in scale(tonic, mode)}
        by_signature = {letter: 0 for letter in "CDEFGAB"} | signature_of(fifths)
        assert by_pattern == by_signature


def test_signatures_are_music21s():
    music21 = pytest.importorskip("music21")
    for key in (*major_keys(), *minor_keys()):
        theirs = music21.key.Key(key.tonic.replace("b", "-"), key.mode)
        assert theirs.sharps == key.fifths
        assert {p.step: int(p.accidental.alter) for p in theirs.alteredPitches} == key.signature


def test_relative_keys():
    assert relative(Key("Eb", "major")) == Key("C", "minor")
    assert relative(Key("F#", "minor")) == Key("A", "major")
    with pytest.raises(PitchError, match="no relative key"):
        relative(Key("D", "dorian"))


@pytest.mark.parametrize(
    ("field", "name", "signature"),
    [
        ("G", "G major", {"F": 1}), ("Ador", "A dorian", {"F": 1}), ("F#m", "F# minor", {"F": 1, "C": 1, "G": 1}),
        ("Bb mix", "Bb mixolydian", {"B": -1, "E": -1, "A": -1}), ("D ^c =f", "D major", {"F": 0, "C": 1}), ("none", "none", {}),
        ("", "none", {}), ("Emin", "E minor", {"F": 1}), ("D clef=bass", "D major", {"F": 1, "C": 1}), ("C major", "C major", {}),
        ("Hp", "none", {"F": 1, "C": 1}), ("EPHR", "E phrygian", {}), ("exp ^f _b", "none", {"F": 1, "B": -1}), ("D exp _b", "none", {"B": -1}),
    ],
)  # fmt: skip
def test_key_fields(field, name, signature):
    key = parse_key_field(field)
    assert (key.name, key.signature) == (name, signature)
    assert parse_key_field(key.to_abc()).signature == signature


def test_a_clef_alone_names_no_key():
    assert names_clef_only("treble") and names_clef_only("clef=bass") and not names_clef_only("G clef=bass")


@pytest.mark.parametrize("field", ["H", "Gfoo", "3", "G qqq"])
def test_no_such_key(field):
    with pytest.raises(PitchError):
        parse_key_field(field)


def test_degrees():
    key = Key("D", "major")
    assert [degree_of(parse_pitch(name), key) for name in ("D4", "F#5", "C#3", "F4")] == [1, 3, 7, None]


# --- chords -------------------------------------------------------------------------------------------------------------


def test_the_eight_triads_that_need_double_accidentals():
    """Of 14 roots x 4 qualities exactly these lose an accidental in the published generator (guides/domains.md 8.2)."""
    needing = {f"{root} {quality}" for root in SSMR_ROOTS for quality in TRIADS if needs_double_accidental(root, quality)}
    assert needing == {
        "B augmented", "F# augmented", "C# augmented", "Eb diminished", "Ab diminished", "Db diminished", "Gb minor", "Gb diminished",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "abc"),
    [
        ("B augmented", "B ^d ^^f"), ("F# augmented", "^F ^A ^^c"), ("C# augmented", "^C ^E ^^G"), ("Eb diminished", "_E _G __B"),
        ("Ab diminished", "_A _c __e"), ("Db diminished", "_D _F __A"), ("Gb minor", "_G __B _d"), ("Gb diminished", "_G __B __d"),
    ],
)  # fmt: skip
def test_their_spelling(name, abc):
    chord = parse_chord(name)
    notes = stack(parse_pitch(chord.root, octave=4), chord.quality)
    assert bare_notes(notes) == abc
    assert identify(notes).name == name


def test_every_chord_is_named_from_every_inversion():
    for root, quality in itertools.product(SSMR_ROOTS, QUALITIES):
        notes = stack(parse_pitch(root, octave=4), quality)
        for times in range(len(notes)):
            assert identify(invert(notes, times)) == Chord(root, quality, times)
    assert len(INVERSIONS) == 4 and len(SEVENTHS) == 6


def test_chords_are_music21s():
    music21 = pytest.importorskip("music21")
    for root, quality in itertools.product(SSMR_ROOTS, TRIADS):
        notes = invert(stack(parse_pitch(root, octave=4), quality), 1)
        theirs = music21.chord.Chord([pitch.name.replace("b", "-") for pitch in notes])
        assert theirs.root().name.replace("-", "b") == root
        assert (theirs.quality, theirs.inversion()) == (quality, 1)


def test_spelling_decides_whether_it_is_a_chord():
    assert identify([parse_pitch(name) for name in ("C4", "Eb4", "Gb4")]).name == "C diminished"
    with pytest.raises(PitchError, match="no chord"):
        identify([parse_pitch(name) for name in ("C4", "D#4", "F#4")])


def test_roman_numerals_are_music21s():
    music21 = pytest.importorskip("music21")
    for key in (Key("D", "major"), Key("Bb", "major"), Key("E", "minor")):
        theirs = music21.key.Key(key.tonic.replace("b", "-"), key.mode)
        for degree in range(1, 8):
            notes = diatonic(key, degree)
            figure = music21.roman.romanNumeralFromChord(
                music21.chord.Chord([p.name.replace("b", "-") for p in notes]), theirs
            ).figure
            assert roman(identify(notes), key) == figure.replace("b", "").replace("#", "")


@pytest.mark.parametrize(("text", "name"), [("Cm", "C minor"), ("F#dim", "F# diminished"), ("Bb7", "Bb dominant seventh"), ("Ebmaj7", "Eb major seventh"),
                                            ("G+", "G augmented"), ("A minor triad", "A minor"), ("Dm7b5", "D half-diminished seventh")])  # fmt: skip
def test_chord_names(text, name):
    assert parse_chord(text).name == name
