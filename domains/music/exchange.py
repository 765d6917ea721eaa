"""Scores to and from MIDI and MusicXML, through maintained libraries: symusic for MIDI, partitura for MusicXML.

Both are in the extra `domain-factory[music]` and imported when first used. Pitches are spelled: MusicXML keeps the spelling, MIDI
cannot, so notes read from MIDI are spelled by the key signature of the file.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from factory.domains.music.abc_reader import read_abc
from factory.domains.music.abc_writer import Event, write_tune
from factory.domains.music.keys import Key, signature_of, tonic_of
from factory.domains.music.meter import Meter, note_value
from factory.domains.music.pitch import LETTERS, SEMITONES, Pitch
from factory.domains.music.score import Bar, Tune
from factory.errors import DataError

TICKS = 480
"""MIDI ticks per quarter note; divides triplets and dotted sixteenths exactly."""
MAX_NOTES = 100_000
MAX_BARS = 20_000
"""Bars of a MIDI file: one damaged time would make rests of millions."""
ACCIDENTALS = {-2: "flat-flat", -1: "flat", 0: "natural", 1: "sharp", 2: "double-sharp"}
"""MusicXML's names of the signs."""


def missing_extra(library: str, what: str) -> DataError:
    """The error of a missing optional library, with its remedy."""
    return DataError(f"{what} needs {library}, which is not installed. pip install 'domain-factory[music]'")


# --- MusicXML -----------------------------------------------------------------------------------------------------------


def to_musicxml(abc: str) -> str:
    """MusicXML of a tune. Raises AbcError, or DataError when partitura is not installed."""
    partitura = _partitura()
    part = _part(read_abc(abc))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "score.musicxml"
        partitura.save_musicxml(part, str(path))
        return with_accidentals(path.read_text(encoding="utf-8"))


def with_accidentals(musicxml: str) -> str:
    """The same score with `<accidental>` elements where a reader needs a sign: partitura writes what sounds, engravers draw what is signed.

    A sign is needed where a note differs from the key and from what stood on its place of the staff before in the measure; a note
    that is tied from another needs none. The document type is dropped.
    """
    root = ElementTree.fromstring(musicxml.encode("utf-8"))
    for name in root.iter("part-name"):
        name.text, _ = "", name.set("print-object", "no")
    signature: dict[str, int] = {}
    for measure in root.iter("measure"):
        fifths = measure.find("attributes/key/fifths")
        if fifths is not None and fifths.text:
            signature = signature_of(int(fifths.text))
        state: dict[tuple[str, str], int] = {}
        for note in measure.iter("note"):
            _sign(note, signature, state)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)


def _sign(note: ElementTree.Element, signature: dict[str, int], state: dict[tuple[str, str], int]) -> None:
    letter, octave = note.findtext("pitch/step"), note.findtext("pitch/octave")
    if letter is None or octave is None:
        return
    alter = int(float(note.findtext("pitch/alter") or 0))
    is_held = any(tie.get("type") == "stop" for tie in note.findall("tie"))
    if alter == state.get((letter, octave), signature.get(letter, 0)) or is_held:
        return
    state[letter, octave] = alter
    behind = [index for index, part in enumerate(note) if part.tag in ("voice", "type", "dot")]
    sign = ElementTree.Element("accidental")
    sign.text = ACCIDENTALS[alter]
    note.insert(behind[-1] + 1 if behind else len(note), sign)


def _partitura() -> Any:
    try:
        import partitura
    except ImportError as err:
        raise missing_extra("partitura", "MusicXML") from err
    return partitura


def _part(tune: Tune) -> Any:
    """Our tune as a partitura Part, one division per smallest length."""
    import partitura.score as ps

    whole = _divisions(tune)
    part = ps.Part("P1", "Melody", quarter_duration=whole // 4)
    part.add(ps.Clef(1, "G", 2, 0), 0)
    place, key, meter, number = Fraction(0), None, None, 0
    held: dict[str, Any] = {}
    spans: list[tuple[Bar, int, int]] = []
    for bar in tune.bars:
        start, number = place, number + 1
        if bar.key != key:
            part.add(
                ps.KeySignature(max(-7, min(7, bar.key.fifths)), "minor" if bar.key.mode == "minor" else "major"),
                _at(place, whole),
            )
        if bar.meter != meter and bar.meter.unit:
            part.add(ps.TimeSignature(bar.meter.beats, bar.meter.unit), _at(place, whole))
        key, meter = bar.key, bar.meter
        place = _fill_bar(part, bar, place, whole, held)
        part.add(ps.Measure(number=number), _at(start, whole), _at(place, whole))
        spans.append((bar, _at(start, whole), _at(place, whole)))
    _add_repeats(part, spans)
    ps.tie_notes(part)
    return part


def _add_repeats(part: Any, spans: Sequence[tuple[Bar, int, int]]) -> None:
    """Repeat signs, first and second endings, and double bars."""
    import partitura.score as ps

    begin = spans[0][1]
    ending: tuple[str, int] | None = None
    for index, (bar, start, end) in enumerate(spans):
        is_last = index == len(spans) - 1
        if bar.opens.endswith(":"):
            begin = start
        ending = (bar.ending, start) if bar.ending else ending
        if bar.closes.startswith(":"):
            part.add(ps.Repeat(), begin, end)
            begin = end if is_last or spans[index + 1][0].ending in ("", "1") else begin
        elif not is_last and any(mark in bar.closes for mark in ("||", "|]")):
            part.add(ps.Barline("light-light"), end)
        if ending is not None and (
            is_last or spans[index + 1][0].ending or spans[index + 1][0].opens.endswith(":") or ":" in bar.closes
        ):
            number = int(ending[0][0])
            part.add(ps.Ending(number), ending[1], end)
            ending = None


def _divisions(tune: Tune) -> int:
    """Units in a whole note so that every length is whole, and a quarter is too."""
    found = 4
    for note in tune.notes():
        found = lcm(found, note.duration.denominator)
    if found > 1_000_000:
        raise DataError("the tune's lengths need more divisions than MusicXML readers take.")
    return found


def _at(place: Fraction, whole: int) -> int:
    return int(place * whole)


def _fill_bar(part: Any, bar: Bar, place: Fraction, whole: int, held: dict[str, Any]) -> Fraction:
    import partitura.score as ps

    tuplet: list[Any] = []
    grace: list[Any] = []
    for note in bar.notes:
        if note.layer:
            continue
        if note.is_grace:
            grace += [_grace(pitch, index + len(grace), _at(place, whole)) for index, pitch in enumerate(note.pitches)]
            continue
        end = place + note.duration
        symbol = _symbolic(note.written, note.tuplet)
        made = []
        for pitch in note.pitches:
            one = ps.Note(step=pitch.letter, octave=pitch.octave, alter=pitch.alter or None, id=f"n{_at(place, whole)}-{pitch.name}",
                          voice=1, staff=1, symbolic_duration=symbol)  # fmt: skip
            before = held.pop(pitch.name, None)
            if before is not None:
                before.tie_next, one.tie_prev = one, before
            if note.is_tied:
                held[pitch.name] = one
            made.append(one)
        if not made:
            made.append(ps.Rest(id=f"r{_at(place, whole)}", voice=1, staff=1, symbolic_duration=symbol))
        for one in made:
            part.add(one, _at(place, whole), _at(end, whole))
        grace = _add_grace(part, grace, made[0], _at(place, whole))
        if note.tuplet is not None:
            tuplet.append(made[0])
            if len(tuplet) == note.tuplet[0]:
                part.add(ps.Tuplet(tuplet[0], tuplet[-1]), _at(place, whole))
                tuplet = []
        place = end
    return place


def _grace(pitch: Pitch, index: int, place: int) -> Any:
    import partitura.score as ps

    return ps.GraceNote("grace", step=pitch.letter, octave=pitch.octave, alter=pitch.alter or None, id=f"g{place}-{index}", voice=1, staff=1,
                        symbolic_duration={"type": "eighth", "dots": 0})  # fmt: skip


def _add_grace(part: Any, grace: list[Any], main: Any, place: int) -> list[Any]:
    """Hang grace notes in front of their note, linked in order; returns the emptied list."""
    for before, behind in itertools.pairwise([*grace, main]):
        before.grace_next = behind
        if behind is not main:
            behind.grace_prev = before
    for one in grace:
        part.add(one, place, place)
    return []


def _symbolic(written: Fraction, tuplet: tuple[int, int] | None) -> dict[str, Any] | None:
    """partitura's description of a note sign; None leaves it to partitura (a length that no single sign has)."""
    named = note_value(written)
    if named is None:
        return None
    names = {"thirty-second": "32nd", "sixty-fourth": "64th", "sixteenth": "16th"}
    found: dict[str, Any] = {"type": names.get(named[0], named[0]), "dots": named[1]}
    if tuplet is not None:
        found |= {"actual_notes": tuplet[0], "normal_notes": tuplet[1]}
    return found


def from_musicxml(path: Path) -> str:
    """ABC of the first voice of the first part of a MusicXML file.

    Raises:
        DataError: partitura is not installed, or cannot read the file.
    """
    partitura = _partitura()
    try:
        return _from_part(partitura.load_musicxml(str(path)).parts[0])
    except DataError:
        raise
    except (
        Exception
    ) as err:  # partitura raises many types on bad files, and hands on what no note can be; each means the same to the user
        raise DataError(
            f"{path.name}: partitura cannot read it as MusicXML: {type(err).__name__}: {err}. Export it again."
        ) from err


def _from_part(part: Any) -> str:
    import partitura.score as ps

    divisions = int(part.quarter_duration_map(0)) * 4
    key_signs = list(part.iter_all(ps.KeySignature))
    key = Key("C", "major")
    if key_signs:
        mode = "minor" if key_signs[0].mode == "minor" else "major"
        key = Key(tonic_of(int(key_signs[0].fifths), mode), mode)
    times = list(part.iter_all(ps.TimeSignature))
    meter = Meter(int(times[0].beats), int(times[0].beat_type)) if times else Meter(4, 4)
    bars: list[list[Event]] = []
    tied: set[tuple[int, int]] = set()
    for measure in part.iter_all(ps.Measure):
        rows: dict[int, tuple[list[Pitch], int]] = {}
        held: set[int] = set()
        for note in part.iter_all(ps.GenericNote, measure.start, measure.end, include_subclasses=True):
            if isinstance(note, ps.GraceNote) or (note.voice or 1) != 1:
                continue
            pitches, _ = rows.setdefault(note.start.t, ([], note.end.t - note.start.t))
            if isinstance(note, ps.Note):
                pitches.append(Pitch(note.step, int(note.alter or 0), int(note.octave)))
                if note.tie_next is not None:
                    held.add(note.start.t)
        if rows:
            tied |= {(len(bars), place) for place, start in enumerate(sorted(rows)) if start in held}
            bars.append([(tuple(sorted(pitches)), Fraction(length, divisions)) for _, (pitches, length) in sorted(rows.items())])
    if not bars:
        raise DataError("the first part has no notes in its first voice. Put the melody there.")
    return write_tune(bars, key, meter, Fraction(1, 8), tied=tied)


# --- MIDI ---------------------------------------------------------------------------------------------------------------


def _symusic() -> Any:
    try:
        import symusic
    except ImportError as err:
        raise missing_extra("symusic", "MIDI") from err
    return symusic


def to_midi(abc: str) -> bytes:
    """A MIDI file of a tune: ties joined, grace notes left out, bars in written order."""
    symusic = _symusic()
    tune = read_abc(abc)
    score = symusic.Score(TICKS)
    track = symusic.Track(name="melody", program=0, is_drum=False)
    for midi, onset, duration in tune.sounding():
        if not 0 <= midi <= 127:
            raise DataError(f"MIDI has no key {midi}. Transpose the tune into 0 to 127.")
        track.notes.append(
            symusic.Note(time=round(onset * 4 * TICKS), duration=round(duration * 4 * TICKS), pitch=midi, velocity=80)
        )
    score.tracks.append(track)
    if tune.meter.unit:
        score.time_signatures.append(symusic.TimeSignature(time=0, numerator=tune.meter.beats, denominator=tune.meter.unit))
    score.key_signatures.append(
        symusic.KeySignature(time=0, key=max(-7, min(7, tune.key.fifths)), tonality=int(tune.key.mode == "minor"))
    )
    return bytes(score.dumps_midi())


def from_midi(data: bytes) -> str:
    """ABC of the first track with notes of a MIDI file: quantised to 48ths of a whole note, one chord at a time.

    Raises:
        DataError: symusic is not installed, cannot read the bytes, or no track has notes.
    """
    symusic = _symusic()
    try:
        score = symusic.Score.from_midi(data)
    except Exception as err:  # symusic raises bare RuntimeErrors of its C++ side
        raise DataError(f"symusic cannot read this as MIDI: {err}") from err
    track = next((one for one in score.tracks if len(one.notes) and not one.is_drum), None)
    if track is None or len(track.notes) > MAX_NOTES:
        raise DataError(f"the MIDI file has no pitched track, or one of more than {MAX_NOTES} notes. Cut it, or leave it out.")
    key = Key("C", "major")
    if len(score.key_signatures):
        mode = "minor" if score.key_signatures[0].tonality else "major"
        key = Key(tonic_of(int(score.key_signatures[0].key), mode), mode)
    meter = Meter(4, 4)
    if len(score.time_signatures):
        meter = Meter(int(score.time_signatures[0].numerator), int(score.time_signatures[0].denominator))
    if score.ticks_per_quarter < 1 or meter.beats < 1 or meter.unit < 1:
        raise DataError(
            f"the MIDI file has {score.ticks_per_quarter} ticks a quarter and the metre {meter.name}; both must be above 0."
        )
    events = _monophonic(track.notes, score.ticks_per_quarter, key)
    if sum((duration for _, duration in events), Fraction(0)) > MAX_BARS * Fraction(meter.beats, meter.unit):
        raise DataError(f"the MIDI file is longer than {MAX_BARS} bars; a time in it is damaged. Cut it, or leave it out.")
    bars, tied = _into_bars(events, meter)
    return write_tune(bars, key, meter, Fraction(1, 8), tied=tied)


def spell(midi: int, key: Key) -> Pitch:
    """A MIDI key as the key signature spells it; outside the key with a sharp in sharp keys and a flat in flat ones."""
    candidates = []
    for letter in LETTERS:
        for alter in (-1, 0, 1):
            if (SEMITONES[letter] + alter - midi) % 12 == 0:
                is_own = key.signature.get(letter, 0) == alter
                candidates.append((not is_own, abs(alter), alter * (-1 if key.fifths >= 0 else 1), letter, alter))
    _, _, _, letter, alter = min(candidates)
    return Pitch(letter, alter, (midi - SEMITONES[letter] - alter) // 12 - 1)


def _monophonic(notes: Any, ticks: int, key: Key) -> list[Event]:
    rows: dict[Fraction, tuple[list[Pitch], Fraction]] = {}
    for note in notes:
        onset, length = (_grid(value, ticks) for value in (note.time, note.duration))
        pitches, before = rows.get(onset, ([], Fraction(0)))
        rows[onset] = ([*pitches, spell(note.pitch, key)], max(before, length))
    events: list[Event] = []
    place = Fraction(0)
    order = sorted(rows)
    for onset, behind in zip(order, [*order[1:], None], strict=True):
        pitches, length = rows[onset]
        if onset > place:
            events.append(((), onset - place))
        length = min(length, behind - onset) if behind is not None else length
        if length > 0:
            events.append((tuple(sorted(set(pitches))), length))
            place = onset + length
    return events


def _grid(value: int, ticks: int) -> Fraction:
    return Fraction(round(Fraction(value, 4 * ticks) * 48), 48)


def _into_bars(events: Sequence[Event], meter: Meter) -> tuple[list[list[Event]], set[tuple[int, int]]]:
    """Cut at the bar lines: the bars, and (bar, event) of notes that are tied across a line because they were cut."""
    assert meter.length is not None
    bars: list[list[Event]] = [[]]
    tied: set[tuple[int, int]] = set()
    left = meter.length
    for pitches, duration in events:
        rest = duration
        while rest > 0:
            part = min(rest, left)
            bars[-1].append((pitches, part))
            rest, left = rest - part, left - part
            if rest > 0 and pitches:
                tied.add((len(bars) - 1, len(bars[-1]) - 1))
            if left == 0:
                bars.append([])
                left = meter.length
    return [bar for bar in bars if bar], tied
