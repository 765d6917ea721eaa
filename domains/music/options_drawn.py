"""An option as a score of its own, for the templates in which SSMR-Bench shows options as images."""

from __future__ import annotations

from factory.domains.music.abc_writer import header, plain_notes
from factory.domains.music.asks import Ask
from factory.domains.music.keys import Key
from factory.domains.music.meter import FREE, parse_meter
from factory.domains.music.pitch import Pitch, from_step, parse_pitch


def option_score(ask: Ask, text: str) -> str:
    """ABC of one option: bars with their metre, a scale, the note alone, or for a missing chord note the whole chord."""
    if ask.kind == "bars":
        tune = ask.tune()
        return f"{header(tune.key, parse_meter(str(ask.params['meter'])), tune.unit)}\n{text} |]"
    if ask.kind == "missing":
        pitches = [pitch for note in ask.tune().notes() for pitch in note.pitches]
        text = plain_notes(sorted([*pitches, _near(parse_pitch(text, octave=4), pitches[0])]))
    return f"{header(Key('C', 'major'), FREE, ask.tune().unit) if ask.score else 'L:1/4' + chr(10) + 'M:none' + chr(10) + 'K:C'}\n{text}"


def _near(pitch: Pitch, other: Pitch) -> Pitch:
    """The pitch's class in the octave that brings it nearest to the other, within a tile."""
    places = [pitch.step + 7 * shift for shift in (-1, 0, 1)]
    inside = [place for place in places if 28 <= place <= 40] or places
    return from_step(min(inside, key=lambda place: abs(place - other.step)), pitch.alter)
