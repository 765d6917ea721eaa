"""A second reading of ABC tunes with none of the pack's code: verovio for bars, letters and repeat signs, symusic for what sounds.

verovio's ABC reader knows neither `::` nor an accidental's life to the end of its bar, and symusic has no bars, so each gets the text
that it can read (ornaments, annotations, grace notes and repeats taken out), and a note is verovio's letter with symusic's sound.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from xml.etree import ElementTree

FIELD = re.compile(r"[A-Za-z]:(?![|:])")
MEI = "{http://www.music-encoding.org/ns/mei}"
NATURAL = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}


@dataclass(frozen=True)
class Sounded:
    """One note or the top of a chord."""

    letter: str
    octave: int
    midi: int

    @property
    def name(self) -> str:
        alter = self.midi - 12 * (self.octave + 1) - NATURAL[self.letter]
        return self.letter.upper() + ("#" * alter if alter >= 0 else "-" * -alter) + str(self.octave)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing on the process's standard output: the libraries below write their warnings there."""
    kept = [os.dup(1), os.dup(2)]
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for handle in (*kept, sink):
            os.close(handle)


def bare(abc: str) -> str:
    """The tune without annotations, ornaments, tempo fields and grace notes."""
    abc = re.sub(r'"[^"]*"', "", abc)
    abc = re.sub(r"![^!|\s]{1,40}!|\+[^+|\s]*\+|\{[^}]*\}|\[[QVTPN]:[^\]]*\]", "", abc)
    lines = []
    for line in abc.split("\n"):
        lines.append(line if FIELD.match(line) else re.sub(r"(?<!\[)[.~TuvHLMOPSJR](?![^\[]*\])|[*$y]", "", line))
    return "\n".join(lines)


def unrepeated(abc: str) -> str:
    """Every bar line a plain one, endings without numbers."""
    lines = []
    for line in abc.split("\n"):
        if not FIELD.match(line):
            line = re.sub(r":*\[?\|+\]?:*(?:\d(?:[,-]\d)*)?|::+", " | ", line)
            line = re.sub(r"\[\d(?:[,-]\d)*", " ", line)
        lines.append(line)
    return "\n".join(lines)


@cache
def _toolkit():
    import verovio

    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    toolkit.setOptions({"inputFrom": "abc"})
    return toolkit


def measures(abc: str) -> list[ElementTree.Element]:
    """verovio's measures, each with the attribute `ending` where an alternative ending begins in it."""
    text = re.sub(r":\|*:", ":| |:", abc)
    with quiet():
        _toolkit().loadData("X:1\nT:x\n" + text)
        root = ElementTree.fromstring(_toolkit().getMEI())
    found = []
    for node in root.iter():
        if node.tag == f"{MEI}ending":
            first = next(node.iter(f"{MEI}measure"), None)
            if first is not None:
                first.set("ending", node.get("n", "?"))
        if node.tag == f"{MEI}measure":
            found.append(node)
    return found


def staff_notes(measure: ElementTree.Element) -> list[list[tuple[str, int]]]:
    """(letter, octave) of each note or chord of a measure, grace notes left out."""
    found: list[list[tuple[str, int]]] = []

    def walk(node: ElementTree.Element) -> None:
        for child in node:
            if child.tag == f"{MEI}graceGrp" or child.get("grace"):
                continue
            if child.tag == f"{MEI}chord":
                found.append([(n.get("pname"), int(n.get("oct"))) for n in child.iter(f"{MEI}note")])
            elif child.tag == f"{MEI}note":
                found.append([(child.get("pname"), int(child.get("oct")))])
            else:
                walk(child)

    walk(measure)
    return found


def sounds(abc: str) -> list[int]:
    """MIDI keys in order of sounding, from symusic."""
    import symusic

    with quiet():
        score = symusic.Score.from_abc("X:1\n" + unrepeated(bare(abc)) + "\n")
    return [note.pitch for track in score.tracks for note in sorted(track.notes, key=lambda n: (n.time, n.pitch))]


def bars_of(abc: str) -> list[list[Sounded]] | None:
    """The tune as bars of sounded notes (chords: their top note); None when the two libraries disagree on how many notes there are."""
    bars = [staff_notes(measure) for measure in measures(bare(abc))]
    keys = sounds(abc)
    if sum(len(chord) for bar in bars for chord in bar) != len(keys):
        return None
    place, found = 0, []
    for bar in bars:
        row = []
        for chord in bar:
            low_to_high = sorted(chord, key=lambda n: (n[1], "cdefgab".index(n[0])))
            midi = sorted(keys[place : place + len(chord)])
            place += len(chord)
            row.append(Sounded(*low_to_high[-1], midi[-1]))
        found.append(row)
    return found
