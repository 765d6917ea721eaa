"""The words of questions, captions and worked reasoning, in two styles: a few words (`terse`), or sentences (`full`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from factory.domains.timeseries.families import Family

NOUNS: Mapping[str, str] = {
    "duration": "the duration of the potentials", "amplitude": "the amplitude of the potentials", "firing": "the firing of the units",
    "artefact": "the level of artefact", "rhythm": "the rhythm of the beats", "pwave": "the P wave", "motion": "the body",
    "impact": "the impact of the steps", "cadence": "the cadence of the steps", "posture": "the posture that gravity shows",
    "top": "the top of each load", "onset": "the first load of the day", "events": "the number of pulses",
    "rise": "the rise of the pulses", "fall": "the fall of the pulses", "sweep": "the sweep of the frequency",
    "hum": "the hum of a ship", "pattern": "the pattern", "end": "the end of the series",
    "at": "the place of the pulses, in time steps,",
}  # fmt: skip
"""Feature -> its name inside a sentence."""
ANOMALY_SENTENCES: Mapping[str, str] = {
    "spike": "The wave is regular but for one bump that stands out", "flat": "The wave is regular but stands still",
    "noise": "The wave is regular but breaks into noise", "shift": "The wave is regular but is lifted or lowered as a whole",
}  # fmt: skip
CHANGE_SENTENCES: Mapping[str, str] = {
    "mean": "The level of the wave is another", "swing": "The swing of the wave is another", "pace": "The pace of the wave is another",
}  # fmt: skip


def is_terse(style: str) -> bool:
    """Whether the style is a few words."""
    return style == "terse"


def statement(name: str, value: str, style: str) -> str:
    """`rhythm irregular`, or `The rhythm of the beats is irregular.`"""
    if is_terse(style):
        return f"{name} {value}"
    noun = NOUNS.get(name, f"the {name}")
    return f"{noun[0].upper()}{noun[1:]} is {value}."


def joined(parts: Sequence[str], style: str) -> str:
    """Statements one after another."""
    return (" ; " if is_terse(style) else " ").join(parts)


def choice_of(words: Sequence[str]) -> str:
    """`a, b or c`."""
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def classify_question(title: str, name: str, classes: Sequence[str], style: str) -> str:
    """Which class a series has."""
    if is_terse(style):
        return f"{name} : {' or '.join(classes)} ?"
    return f"This is {title}. Which class does it belong to: {choice_of(classes)}?"


def feature_question(family: Family, feature: str, values: Sequence[str], style: str) -> str:
    """Which value one feature has."""
    if is_terse(style):
        return f"{feature} : {' or '.join(values)} ?"
    return f"This is the {family.title}. Is {NOUNS[feature]} {choice_of(values)}?"


PUZZLE_QUESTIONS: Mapping[str, tuple[str, str]] = {
    "anomaly": ("anomaly : where ?", "In one stretch this series breaks its pattern. Give the stretch as [start, end] in time steps, of {length} in all."),
    "change": ("change : where ?", "From one time step on this series behaves otherwise. Give that time step, of {length} in all."),
    "forecast": ("next : {words} ?", "Where will this series go in the next {horizon} time steps, compared with its last ones: {choice}?"),
    "compare": ("{what} : {words} ?", "Of these two series, which has the {more}: {choice}?"),
    "count": ("pulses : how many ?", "How many pulses does this series have? Give the number."),
}  # fmt: skip
"""Kind -> (terse, full); fields in braces are filled in."""
MORE: Mapping[str, str] = {"mean": "higher mean", "swing": "larger swing", "pace": "faster pace"}


def puzzle_question(kind: str, style: str, *, length: int, what: str = "", words: Sequence[str] = (), horizon: int = 8) -> str:
    """The question of a puzzle."""
    text = PUZZLE_QUESTIONS[kind][0 if is_terse(style) else 1]
    more = MORE.get(what, what)
    return text.format(length=length, what=what, words=" or ".join(words), choice=choice_of(words) if words else "", more=more,
                       horizon=horizon)  # fmt: skip


def compared(what: str, colour: str, style: str) -> str:
    """`swing red`, or `The series with the larger swing is the red one.`"""
    return f"{what} {colour}" if is_terse(style) else f"The series with the {MORE[what]} is the {colour} one."


def interval_text(interval: Sequence[float]) -> str:
    """`[16, 24]`."""
    return f"[{interval[0]:g}, {interval[1]:g}]"
