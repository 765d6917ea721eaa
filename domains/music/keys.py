"""Keys, modes, key signatures and scales, spelled by letters; and the `K:` field of ABC.

Signatures come from the circle of fifths: a tonic's place on it plus the mode's shift (F lydian has no sharp more than C major).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from factory.domains.music.pitch import LETTERS, SHARP_ORDER, Pitch, PitchError, accidental, from_step

MODES: Mapping[str, int] = MappingProxyType(
    {
        "major": 0,
        "minor": -3,
        "ionian": 0,
        "dorian": -2,
        "phrygian": -4,
        "lydian": 1,
        "mixolydian": -1,
        "aeolian": -3,
        "locrian": -5,
    }
)
"""Mode -> fifths that its signature lies from that of the major key on the same tonic."""
PATTERNS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "major": (0, 2, 4, 5, 7, 9, 11),
        "minor": (0, 2, 3, 5, 7, 8, 10),
        "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
        "melodic minor": (0, 2, 3, 5, 7, 9, 11),
        "dorian": (0, 2, 3, 5, 7, 9, 10),
        "phrygian": (0, 1, 3, 5, 7, 8, 10),
        "lydian": (0, 2, 4, 6, 7, 9, 11),
        "mixolydian": (0, 2, 4, 5, 7, 9, 10),
        "locrian": (0, 1, 3, 5, 6, 8, 10),
    }
)
"""Scale -> semitones of its seven degrees above the tonic. The melodic minor here is its rising form; it falls as the natural minor."""
_ALIASES = {"ionian": "major", "aeolian": "minor", "natural minor": "minor"}
_MODE_WORDS = {"maj": "major", "m": "minor", "min": "minor", "ion": "ionian", "dor": "dorian", "phr": "phrygian", "lyd": "lydian",
               "mix": "mixolydian", "aeo": "aeolian", "loc": "locrian"}  # fmt: skip
_TONIC = re.compile(r"([A-G])([#b]?)([A-Za-z]*)")
_CLEFS = frozenset({"treble", "bass", "alto", "tenor", "perc", "clef"})
_EXTRA = re.compile(r"(\^\^|\^|__|_|=)([A-Ga-g])(?![A-Za-z])")
_SIGNS = {"^^": 2, "^": 1, "=": 0, "_": -1, "__": -2}


@dataclass(frozen=True, slots=True)
class Key:
    """A tonic and a mode. `tonic` is spelled without octave, `Bb`; an empty tonic means no key (`K:none`)."""

    tonic: str
    mode: str
    extra: tuple[tuple[str, int], ...] = ()
    """Accidentals that `K:` adds to the signature: (letter, alter)."""

    @property
    def fifths(self) -> int:
        """Sharps of the signature (flats negative), without `extra`."""
        return 0 if not self.tonic else fifths_of(self.tonic) + MODES[self.mode]

    @property
    def signature(self) -> dict[str, int]:
        """Letter -> alteration of the letters that the signature alters. Beyond seven, letters get a second sharp or flat."""
        return {**signature_of(self.fifths), **dict(self.extra)}

    @property
    def name(self) -> str:
        """`F# minor`; `none` without a tonic."""
        return f"{self.tonic} {self.mode}" if self.tonic else "none"

    def to_abc(self) -> str:
        """The value of a `K:` field."""
        if not self.tonic:
            return "none" + "".join(f" {sign}{letter.lower()}" for letter, sign in self._extra_signs())
        short = {"major": "", "minor": "m"}.get(self.mode, self.mode[:3])
        return f"{self.tonic}{short}" + "".join(f" {sign}{letter.lower()}" for letter, sign in self._extra_signs())

    def _extra_signs(self) -> list[tuple[str, str]]:
        signs = {alter: sign for sign, alter in _SIGNS.items()}
        return [(letter, signs[alter]) for letter, alter in self.extra]


NO_KEY = Key("", "major")


def fifths_of(tonic: str) -> int:
    """Place on the circle of fifths of the major key on this tonic: C 0, G 1, F -1, F# 6."""
    return SHARP_ORDER.index(tonic[0]) - 1 + 7 * (tonic.count("#") - tonic.count("b"))


def signature_of(fifths: int) -> dict[str, int]:
    """Letter -> alteration for so many sharps, or flats when negative."""
    found: dict[str, int] = {}
    order, sign = (SHARP_ORDER, 1) if fifths >= 0 else (SHARP_ORDER[::-1], -1)
    for index in range(abs(fifths)):
        letter = order[index % 7]
        found[letter] = found.get(letter, 0) + sign
    return found


def tonic_of(fifths: int, mode: str) -> str:
    """The tonic whose key in this mode has that signature: (2, major) D, (2, minor) B."""
    place = fifths - MODES[mode]
    letter = SHARP_ORDER[(place + 1) % 7]
    return letter + accidental((place + 1) // 7)


def major_keys() -> tuple[Key, ...]:
    """The fifteen major keys with up to seven accidentals, from seven flats to seven sharps."""
    return tuple(Key(tonic_of(fifths, "major"), "major") for fifths in range(-7, 8))


def minor_keys() -> tuple[Key, ...]:
    """The fifteen minor keys with up to seven accidentals."""
    return tuple(Key(tonic_of(fifths, "minor"), "minor") for fifths in range(-7, 8))


def relative(key: Key) -> Key:
    """The minor key of a major key's signature and the other way round. Raises PitchError for other modes."""
    if key.mode not in ("major", "minor"):
        raise PitchError(f"{key.name} has no relative key; only major and minor keys do.")
    other = "minor" if key.mode == "major" else "major"
    return Key(tonic_of(key.fifths, other), other)


def scale(tonic: Pitch, kind: str) -> list[Pitch]:
    """The seven degrees and the octave of a rising scale from `tonic`, one letter each.

    Raises:
        PitchError: unknown scale.
    """
    pattern = PATTERNS.get(_ALIASES.get(kind, kind))
    if pattern is None:
        raise PitchError(f"there is no scale {kind!r} here; known are {', '.join(PATTERNS)}.")
    degrees = []
    for index, semitones in enumerate((*pattern, 12)):
        plain = from_step(tonic.step + index)
        degrees.append(from_step(plain.step, tonic.midi + semitones - plain.midi))
    return degrees


def degree_of(pitch: Pitch, key: Key) -> int | None:
    """The degree 1-7 of a pitch in a major, minor or modal key; None when it is not in the scale."""
    if not key.tonic or pitch.alter != key.signature.get(pitch.letter, 0):
        return None
    return (LETTERS.index(pitch.letter) - LETTERS.index(key.tonic[0])) % 7 + 1


def names_clef_only(text: str) -> bool:
    """Whether a `K:` field changes clef or staff options and leaves the key: `treble`, `clef=bass`, `octave=-1`."""
    words = text.split()
    return bool(words) and (words[0].casefold() in _CLEFS or ("=" in words[0] and not _EXTRA.match(words[0])))


def parse_key_field(text: str) -> Key:
    """The value of an ABC `K:` field: `G`, `Ador`, `F#m`, `Bb mix`, `D ^c =f`, `none`, `HP`, `treble`; clefs and options are passed over.

    Only the first three letters of a mode count, in any case (ABC standard 2.1, 4.4). `exp` keeps the listed accidentals only.
    Of the bagpipe keys `HP` shows no signature and `Hp` shows F# C# (both play them; ABC standard 3.1.14).

    Raises:
        PitchError: a text that names no key.
    """
    words = text.split()
    extra = tuple((hit[2].upper(), _SIGNS[hit[1]]) for hit in _EXTRA.finditer(text))
    if (
        not words
        or words[0].casefold() in ("none", "exp")
        or "=" in words[0]
        or words[0].casefold() in _CLEFS
        or _EXTRA.match(words[0])
    ):
        return Key("", "major", extra)
    if words[0] in ("HP", "Hp"):
        return Key("", "major", (("F", 1), ("C", 1)))
    hit = _TONIC.fullmatch(words[0])
    if hit is None:
        raise PitchError(f"K:{text[:30]} names no key; want a tonic and a mode, such as G, Ador or F#m, or none.")
    word = hit[3]
    if not word and len(words) > 1 and words[1].isalpha() and words[1].casefold() not in _CLEFS:
        word = words[1]
    if word.casefold()[:3] == "exp":
        return Key("", "major", extra)
    mode = _MODE_WORDS.get(word.casefold()[:3], "") if word else "major"
    if not mode:
        raise PitchError(f"K:{text[:30]}: {word!r} is no mode; known are {', '.join(sorted(MODES))}.")
    return Key(hit[1] + hit[2], mode, extra)
