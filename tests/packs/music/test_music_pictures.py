"""Pictures: tiles that show what they should, sheets engraved with the right signs, and MIDI and MusicXML there and back."""

from __future__ import annotations

import builtins
import io
import random
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from factory.domains.music.abc_reader import read_abc
from factory.domains.music.asks import Ask
from factory.domains.music.compose import melody
from factory.domains.music.exchange import from_midi, from_musicxml, spell, to_midi, to_musicxml
from factory.domains.music.keys import Key, major_keys, minor_keys
from factory.domains.music.meter import parse_meter
from factory.domains.music.options_drawn import option_score
from factory.domains.music.pitch import Pitch, parse_pitch
from factory.domains.music.staff import HIGHEST, LOWEST, fits, height, notes_tile, signature_tile
from factory.errors import DataError

TUNE = "L:1/8\nM:3/4\nK:D\n(3ABc d>e ^g2 | g2 z2 {Bc}[FAd]2- | [FAd]2 =c4 |]"


def grey(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("L"), dtype=float)


def heads(png, column):
    """Rows of the darkest ink in a column of 16 px: where the note head lies."""
    part = grey(png)[:, 16 * column + 8 : 16 * column + 13]
    return np.flatnonzero(part.mean(axis=1) < 60)


def test_heads_lie_where_the_staff_says():
    for place in range(LOWEST, HIGHEST + 1):
        pitch = Pitch("CDEFGAB"[place % 7], 0, place // 7)
        rows = heads(notes_tile([(pitch, None)], random.Random(0)), 0)
        assert abs(rows.mean() + 0.5 - height(place)) < 1.0


def test_each_note_has_its_column_and_accidentals_stand_before_it():
    notes = [parse_pitch(name) for name in ("E4", "Gb4", "B4", "C#5")]
    tile = grey(notes_tile([(pitch, None) for pitch in notes], random.Random(0)))
    bare = grey(notes_tile([(Pitch(pitch.letter, 0, pitch.octave), None) for pitch in notes], random.Random(0)))
    changed = np.flatnonzero((abs(tile - bare) > 80).any(axis=0))
    assert set(changed // 16) == {1, 3} and all(column % 16 < 8 for column in changed)


@pytest.mark.parametrize(("eighths", "is_open"), [(1, False), (2, False), (3, False), (4, True), (6, True), (8, True)])
def test_lengths_look_different(eighths, is_open):
    pitch = parse_pitch("A4")
    tile = grey(notes_tile([(pitch, Fraction(eighths, 8))], random.Random(0)))
    assert (tile[int(height(pitch.step)), 9:12].mean() > 120) == is_open
    others = {other: grey(notes_tile([(pitch, Fraction(other, 8))], random.Random(0))) for other in (1, 2, 3, 4, 6, 8)}
    assert all(abs(tile - other).max() > 100 for length, other in others.items() if length != eighths)


def test_signatures_grow_by_one_sign():
    ink = [(grey(signature_tile(key, random.Random(0))) < 120).sum() for key in major_keys()]
    assert ink[7] == 0 or ink[7] < min(ink[6], ink[8])
    assert ink[7:] == sorted(ink[7:]) and ink[:8] == sorted(ink[:8], reverse=True)


def test_prints_differ_byte_for_byte_and_repeat_by_seed():
    notes = [(parse_pitch("E4"), None)]
    assert notes_tile(notes, random.Random(1)) != notes_tile(notes, random.Random(2))
    assert notes_tile(notes, random.Random(1)) == notes_tile(notes, random.Random(1))
    assert not fits([parse_pitch("B3")]) and fits([parse_pitch("C4"), parse_pitch("A5")])


def test_options_as_scores():
    assert option_score(Ask("bars", "L:1/8\nM:none\nK:C\nA B c", {"meter": "3/8"}), "A B c").endswith("M:3/8\nK:C\nA B c |]")
    chord = option_score(Ask("missing", "L:1/4\nM:none\nK:C\n[_E_B]", {"chord": "Eb major"}), "G")
    assert [pitch.name for pitch in read_abc(chord).melody()] == ["Eb4", "G4", "Bb4"]


# --- MusicXML and sheets ------------------------------------------------------------------------------------------------


def test_musicxml_there_and_back(extra, tmp_path):
    path = tmp_path / "tune.musicxml"
    path.write_text(to_musicxml(TUNE), encoding="utf-8")
    there, back = read_abc(TUNE), read_abc(from_musicxml(path))
    assert [(n.pitches, n.duration) for n in back.notes()] == [(n.pitches, n.duration) for n in there.notes() if not n.is_grace]
    assert (back.key.fifths, back.meter.name) == (2, "3/4")
    assert back.sounding() == there.sounding()  # the tie too


def test_signs_are_written_where_an_engraver_needs_them(extra):
    """G sharp once in its bar, G natural not signed in the next, C natural against the signature; tied notes bear none."""
    xml = to_musicxml(TUNE)
    notes = re.findall(r"<note[ >].*?</note>", xml, re.DOTALL)
    signed = [
        re.search(r"<step>(\w)", note)[1] + re.search(r"<accidental>(.*?)<", note)[1] for note in notes if "<accidental>" in note
    ]
    assert signed == ["Gsharp", "Cnatural"]
    carried = to_musicxml("L:1/4\nM:4/4\nK:C\n^F F G F | ^F4- | F4 | =F4 |]")
    assert carried.count("<accidental>sharp") == 2


def test_repeats_and_endings_are_engraved(extra):
    xml = to_musicxml("L:1/8\nM:2/4\nK:G\nD4 |: G4 |1 A4 :|2 B4 |]")
    assert 'direction="forward"' in xml and 'direction="backward"' in xml
    assert re.findall(r'<ending type="start" number="(\d)"', xml) == ["1", "2"]


def test_sheets_show_heads_for_notes(extra):
    from factory.domains.music.sheet import sheet_png, sheet_svg

    assert (
        sheet_svg(TUNE).count('class="note"') == 16
    )  # 6 in the first bar, 1 + 2 grace notes + 3 in the second, 3 + 1 in the third
    page = Image.open(io.BytesIO(sheet_png(TUNE, random.Random(3))))
    assert page.mode == "RGB" and page.width > 200
    assert sheet_png(TUNE, random.Random(3)) == sheet_png(TUNE, random.Random(3)) != sheet_png(TUNE, random.Random(4))


# --- MIDI ---------------------------------------------------------------------------------------------------------------


def test_midi_there_and_back(extra):
    back = read_abc(from_midi(to_midi(TUNE)))
    assert back.sounding() == read_abc(TUNE).sounding()
    assert (back.key.name, back.meter.name) == ("D major", "3/4")


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 9999))
def test_melodies_survive_midi(extra, seed):
    from factory.domains.music.abc_writer import write_tune

    rng = random.Random(seed)
    key = rng.choice([key for key in (*major_keys(), *minor_keys()) if abs(key.fifths) < 6])
    meter = parse_meter(rng.choice(("2/4", "6/8", "4/4")))
    abc = write_tune(melody(rng, key, meter, 2), key, meter, Fraction(1, 8))
    assert read_abc(from_midi(to_midi(abc))).sounding() == read_abc(abc).sounding()
    assert [p.name for p in read_abc(from_midi(to_midi(abc))).melody()] == [p.name for p in read_abc(abc).melody()]


def test_midi_notes_are_spelled_by_the_key():
    assert spell(66, Key("D", "major")).name == "F#4"
    assert spell(66, Key("Gb", "major")).name == "Gb4"
    assert spell(71, Key("Cb", "major")).name == "Cb5"
    assert spell(61, Key("F", "major")).name == "Db4"


def test_broken_files_say_so(extra, tmp_path):
    with pytest.raises(DataError, match="cannot read this as MIDI"):
        from_midi(b"not midi")
    path = tmp_path / "x.musicxml"
    path.write_text("<score>", encoding="utf-8")
    with pytest.raises(DataError, match=r"x\.musicxml: partitura cannot read it"):
        from_musicxml(path)


@pytest.mark.parametrize(("library", "call"), [("symusic", lambda: to_midi(TUNE)), ("partitura", lambda: to_musicxml(TUNE))])
def test_a_missing_library_names_the_extra(library, call, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == library:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"pip install 'domain-factory\[music\]'"):
        call()
