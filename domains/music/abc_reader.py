"""ABC notation (standard 2.1) into a Tune, with the rules that readers get wrong.

An accidental holds to the end of its bar, a tie carries it over the bar line; `[K:]`, `[M:]` and `[L:]` take effect where they
stand; tuplets, dots by `>` and `<`, grace notes and ties are worked into exact durations. X: may be missing, as in AutoMusicTheoryQA's file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from fractions import Fraction

from factory.domains.music.abc_tokens import Token, tokens
from factory.domains.music.keys import NO_KEY, Key, names_clef_only, parse_key_field
from factory.domains.music.meter import FREE, MAX_DIGITS, Meter, MeterError, default_unit, parse_length, parse_meter
from factory.domains.music.pitch import Pitch, PitchError, note_octave
from factory.domains.music.score import Bar, Note, Tune
from factory.errors import DataError

PROPAGATE = ("pitch", "octave", "not")
"""Where an accidental holds until the bar ends: on its letter in every octave (the standard's default), in its own octave, or nowhere."""
MAX_CHARS = 200_000
MAX_REST_BARS = 1000
FIELD_LINE = re.compile(r"([A-Za-z]):(?![|:])(.*)")
_COMMENT = re.compile(r"(?<!\\)%.*")
_ALTERS = {"^^": 2, "^": 1, "=": 0, "_": -1, "__": -2}
_SYMBOL_MARKS = "^_<>@"


class AbcError(DataError, ValueError):
    """ABC that cannot be read, with line and column."""


def read_abc(text: str, *, propagate: str = "pitch") -> Tune:
    """Read one tune.

    Args:
        propagate: see PROPAGATE. `%%propagate-accidentals` in the text wins.

    Raises:
        AbcError: a sign that ABC does not have, an unclosed chord or grace group, a field that cannot be read, or no music.
    """
    if len(text) > MAX_CHARS:
        raise AbcError(f"the tune has {len(text)} characters; at most {MAX_CHARS} are read.")
    if propagate not in PROPAGATE:
        raise AbcError(f"propagate is {propagate!r}; want one of {', '.join(PROPAGATE)}.")
    reader = _Reader(propagate)
    for number, line in enumerate(text.splitlines(), 1):
        reader.line = number
        reader.read_line(line)
    return reader.finish()


@dataclass
class _Voice:
    """State of one voice while it is read."""

    unit: Fraction | None = None
    meter: Meter = FREE
    key: Key = NO_KEY
    onset: Fraction = Fraction(0)
    bar_start: Fraction = Fraction(0)
    notes: list[Note] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    opens: str = ""
    ending: str = ""
    accidentals: dict[tuple[str, int | None], int] = field(default_factory=dict)
    tied: dict[tuple[str, int], int] = field(default_factory=dict)
    """(letter, octave) -> alteration of pitches tied into the next note."""
    layer: int = 0
    layer_end: Fraction | None = None
    """Where the main layer of the bar ended, once an overlay began."""
    tuplet: tuple[int, int] | None = None
    tuplet_left: int = 0
    broken: int = 0
    """`>` signs (negative: `<`) that wait for their second note."""
    symbol: str | None = None
    last: int | None = None
    """Index in `notes` of the last note that is no grace note."""


@dataclass
class _Group:
    """A chord being read."""

    pitches: list[Pitch] = field(default_factory=list)
    printed: list[bool] = field(default_factory=list)
    length: Fraction | None = None
    is_tied: bool = False


class _Reader:
    def __init__(self, propagate: str) -> None:
        self.propagate = propagate
        self.line = 0
        self.fields: list[tuple[str, str]] = []
        self.notices: list[str] = []
        self.voices: dict[str, _Voice] = {}
        self.header = _Voice()
        self.voice = self.header
        self.is_music = False
        self.chord: _Group | None = None
        self.in_grace = False
        self.pending: tuple[list[Pitch], list[bool]] | None = None
        self.pending_length: Fraction | None = None
        self.pending_tie = False

    # --- lines and fields -----------------------------------------------------------------------------------------------

    def read_line(self, line: str) -> None:
        if line.startswith("%%"):
            words = line[2:].split()
            if len(words) > 1 and words[0] == "propagate-accidentals" and words[1] in PROPAGATE:
                self.propagate = words[1]
            return
        line = _COMMENT.sub("", line).rstrip()
        hit = FIELD_LINE.match(line)
        if hit is not None:
            self.fields.append((hit[1], hit[2].strip()))
            self._field(hit[1], hit[2].strip())
        elif line.strip():
            self._start_music()
            for token in tokens(line):
                self._token(token)
            self._flush()
            if self.chord is not None or self.in_grace:
                raise self._error("a chord or grace group is not closed at the end of the line")

    def _field(self, letter: str, value: str) -> None:
        try:
            if letter == "K" and not names_clef_only(value):
                self._flush()
                self.voice.key = parse_key_field(value)
                self.voice.accidentals = {}
            elif letter == "M":
                self.voice.meter = parse_meter(value)
            elif letter == "L":
                self.voice.unit = _unit(value)
            elif letter == "V" and value.split():
                self._switch(value.split()[0])
        except (PitchError, MeterError) as err:
            raise self._error(str(err)) from err

    def _switch(self, name: str) -> None:
        self._flush()
        if name not in self.voices:
            if self.voices and not any(voice.notes or voice.bars for voice in self.voices.values()) and list(self.voices) == [""]:
                self.voices = {}
            self.voices[name] = replace(self.header, notes=[], bars=[], accidentals={}, tied={})
        self.voice = self.voices[name]

    def _start_music(self) -> None:
        if not self.voices:
            self.voices[""] = self.header = replace(self.header)
            self.voice = self.voices[""]
        if self.voice.unit is None:
            self.voice.unit = default_unit(self.voice.meter)

    def _error(self, reason: str, token: Token | None = None) -> AbcError:
        place = f"line {self.line}" + (f", column {token.column}" if token is not None else "")
        return AbcError(f"{place}: {reason}")

    # --- signs ----------------------------------------------------------------------------------------------------------

    def _token(self, token: Token) -> None:
        kind = token.kind
        if kind == "length":
            self._length(token)
        elif kind == "tie":
            if self.pending is not None:
                self.pending_tie = True
            elif self.chord is not None:
                self.chord.is_tied = True
            elif self.voice.last is not None and self.voice.notes:
                self.voice.notes[-1] = replace(self.voice.notes[-1], is_tied=True)
                self._hold(self.voice.notes[-1].pitches)
        elif kind == "note":
            self._note(token)
        elif kind == "chord_open":
            self._flush()
            if self.chord is not None:
                raise self._error("a chord begins inside a chord", token)
            self.chord = _Group()
        elif kind == "chord_close":
            self._close_chord(token)
        elif kind not in ("space", "decoration", "decoration_letter", "slur"):
            self._flush()
            if self.chord is not None and kind not in ("quoted",):
                raise self._error(f"{token.text!r} inside a chord", token)
            self._structure(token)

    def _structure(self, token: Token) -> None:
        kind, voice = token.kind, self.voice
        if kind == "bar":
            self._bar(token.text)
        elif kind == "ending":
            voice.ending = token.text[1:]
        elif kind == "rest":
            self.pending = ([], [])
        elif kind == "bars_rest":
            self._rest_bars(token)
        elif kind == "broken":
            voice.broken = len(token.text) if token.text[0] == ">" else -len(token.text)
            self._shorten_first(token)
        elif kind == "grace_open":
            self.in_grace = True
        elif kind == "grace_close":
            self.in_grace = False
        elif kind == "tuplet":
            self._tuplet(token)
        elif kind == "quoted":
            said = token.text[1:-1].strip()
            if said and said[0] not in _SYMBOL_MARKS:
                voice.symbol = said
        elif kind == "field":
            self._field(token.text[1], token.text[3:-1].strip())
            self._start_music()
        elif kind == "overlay":
            voice.layer_end = voice.onset if voice.layer_end is None else voice.layer_end
            voice.layer, voice.onset, voice.accidentals = voice.layer + 1, voice.bar_start, {}
        elif kind == "unknown":
            raise self._error(f"{token.text!r} is no sign of ABC", token)

    def _note(self, token: Token) -> None:
        if self.chord is None:
            self._flush()
        pitch = self._sounding(token)
        if self.chord is not None:
            self.chord.pitches.append(pitch)
            self.chord.printed.append(bool(token.parts["sign"]))
        else:
            self.pending = ([pitch], [bool(token.parts["sign"])])

    def _sounding(self, token: Token) -> Pitch:
        """The pitch with its own accidental, else a tie's, else the bar's, else the key's."""
        letter, octave = token.parts["letter"].upper(), note_octave(token.parts["letter"], token.parts["marks"])
        place = (letter, octave if self.propagate == "octave" else None)
        voice = self.voice
        if token.parts["sign"]:
            alter = _ALTERS[token.parts["sign"]]
            if self.propagate != "not":
                voice.accidentals[place] = alter
        elif (letter, octave) in voice.tied:
            alter = voice.tied[letter, octave]
        else:
            alter = voice.accidentals.get(place, voice.key.signature.get(letter, 0))
        if not -1 <= octave <= 9:
            raise self._error(f"{token.text!r} lies in octave {octave}; want -1 to 9", token)
        return Pitch(letter, alter, octave)

    def _length(self, token: Token) -> None:
        try:
            length = parse_length(token.text)
        except MeterError as err:
            raise self._error(str(err), token) from err
        if self.chord is not None:
            self.chord.length = self.chord.length or length
        elif self.pending is not None and self.pending_length is None:
            self.pending_length = length
        else:
            raise self._error(f"the length {token.text!r} stands behind no note", token)

    def _close_chord(self, token: Token) -> None:
        if self.chord is None:
            raise self._error("] without [", token)
        if not self.chord.pitches:
            raise self._error("the chord is empty", token)
        chord, self.chord = self.chord, None
        self.pending = (chord.pitches, chord.printed)
        self.pending_tie = chord.is_tied
        self._inner = chord.length or Fraction(1)

    _inner = Fraction(1)
    """Length written inside the chord that was just closed; the one behind it multiplies it."""

    def _flush(self) -> None:
        """Write the note that waited for its length and tie."""
        if self.pending is None:
            return
        (pitches, printed), self.pending = self.pending, None
        multiplier = (self.pending_length or Fraction(1)) * self._inner
        is_tied, self.pending_length, self.pending_tie, self._inner = self.pending_tie, None, False, Fraction(1)
        self._append(tuple(pitches), tuple(printed), multiplier, is_tied=is_tied)

    def _append(self, pitches: tuple[Pitch, ...], printed: tuple[bool, ...], multiplier: Fraction, *, is_tied: bool) -> None:
        voice = self.voice
        assert voice.unit is not None
        written = multiplier * voice.unit
        if self.in_grace:
            voice.notes.append(
                Note(pitches, Fraction(0), written, voice.onset, is_grace=True, layer=voice.layer, printed=printed)
            )
            return
        if voice.broken:
            count = abs(voice.broken)
            written *= Fraction(1, 2**count) if voice.broken > 0 else 2 - Fraction(1, 2**count)
            voice.broken = 0
        duration, tuplet = written, voice.tuplet
        if tuplet is not None:
            duration = written * Fraction(tuplet[1], tuplet[0])
            voice.tuplet_left -= 1
            voice.tuplet = tuplet if voice.tuplet_left else None
        symbol, voice.symbol = voice.symbol, None
        note = Note(pitches, duration, written, voice.onset, False, is_tied, tuplet, voice.layer, symbol, printed)
        voice.notes.append(note)
        voice.last = len(voice.notes) - 1
        voice.onset += duration
        voice.tied = {}
        if is_tied:
            self._hold(pitches)

    def _hold(self, pitches: tuple[Pitch, ...]) -> None:
        self.voice.tied = {(pitch.letter, pitch.octave): pitch.alter for pitch in pitches}

    def _shorten_first(self, token: Token) -> None:
        """Apply broken rhythm to the note in front of the sign."""
        voice = self.voice
        if voice.last is None:
            raise self._error(f"{token.text!r} needs a note in front of it", token)
        note = voice.notes[voice.last]
        count = abs(voice.broken)
        factor = 2 - Fraction(1, 2**count) if voice.broken > 0 else Fraction(1, 2**count)
        changed = replace(note, duration=note.duration * factor, written=note.written * factor)
        voice.onset += changed.duration - note.duration
        voice.notes[voice.last] = changed
        for index in range(voice.last + 1, len(voice.notes)):
            voice.notes[index] = replace(voice.notes[index], onset=voice.onset)

    def _tuplet(self, token: Token) -> None:
        p = int(token.parts["p"])
        odd = 3 if self.voice.meter.is_compound else 2
        usual = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}.get(p, odd)
        q = int(token.parts["q"]) if token.parts["q"] else usual
        r = int(token.parts["r"]) if token.parts["r"] else p
        if q == 0 or r == 0:
            raise self._error(f"the tuplet {token.text!r} has no length", token)
        if self.voice.tuplet is not None:
            self.notices.append(f"line {self.line}: a tuplet is cut short by another")
        self.voice.tuplet, self.voice.tuplet_left = (p, q), r

    # --- bars -----------------------------------------------------------------------------------------------------------

    def _bar(self, text: str) -> None:
        hit = re.search(r"\d.*", text)
        mark = text[: hit.start()] if hit else text
        self._end_bar(mark)
        voice = self.voice
        voice.opens = mark
        voice.ending = hit.group() if hit else voice.ending

    def _end_bar(self, mark: str) -> None:
        voice = self.voice
        if voice.layer_end is not None:
            voice.onset, voice.layer_end, voice.layer = voice.layer_end, None, 0
        voice.accidentals = {}
        if voice.broken:
            raise self._error("a > or < waits for a note, and the bar ends")
        if any(not note.is_grace for note in voice.notes):
            assert voice.unit is not None
            bar = Bar(tuple(voice.notes), voice.meter, voice.key, voice.unit, voice.opens, mark, voice.ending)
            voice.bars.append(bar)
            voice.notes, voice.ending, voice.last = [], "", None
            voice.bar_start = voice.onset

    def _rest_bars(self, token: Token) -> None:
        written = token.parts["bars"] or "1"
        count = int(written) if len(written) <= MAX_DIGITS else 0
        length = self.voice.meter.length
        if length is None or not 1 <= count <= MAX_REST_BARS:
            raise self._error(f"{token.text!r} needs a metre and 1 to {MAX_REST_BARS} bars", token)
        assert self.voice.unit is not None
        for index in range(count):
            self._append((), (), length / self.voice.unit, is_tied=False)
            if index < count - 1:
                self._end_bar("|")
                self.voice.opens = "|"

    def finish(self) -> Tune:
        for voice in self.voices.values():
            self.voice = voice
            self._flush()
            self._end_bar("")
            if voice.tied:
                self.notices.append("a tie leads to no note")
        bars = {name: tuple(voice.bars) for name, voice in self.voices.items() if voice.bars}
        if not bars:
            raise AbcError("there is no music: no note and no rest was found.")
        first = next(iter(bars.values()))[0]
        return Tune(tuple(self.fields), bars, first.key, first.meter, first.unit, tuple(self.notices))


def _unit(value: str) -> Fraction:
    hit = re.fullmatch(r"(\d{1,2})(?:/(\d{1,4}))?", value.strip())
    if hit is None or int(hit[1]) == 0 or (hit[2] and int(hit[2]) == 0):
        raise MeterError(f"L:{value[:20]} is no note length; want a fraction such as 1/8.")
    return Fraction(int(hit[1]), int(hit[2] or 1))
