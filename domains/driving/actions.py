"""Meta-actions of AlphaDrive (arXiv 2503.07608): what to do with speed and with path in the next three seconds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import MappingProxyType

SPEEDS = ("KEEP", "ACCELERATE", "DECELERATE", "STOP")
PATHS = ("STRAIGHT", "LEFT_TURN", "RIGHT_TURN", "LEFT_CHANGE", "RIGHT_CHANGE")
AXES = MappingProxyType({"speed": SPEEDS, "path": PATHS})
HORIZON_S = 3.0
"""Seconds that a meta-action covers."""
WEIGHTS: Mapping[str, float] = MappingProxyType(
    {
        "ACCELERATE": 0.9, "DECELERATE": 1.0, "STOP": 1.0, "KEEP": 0.8,
        "LEFT_TURN": 1.0, "RIGHT_TURN": 1.0, "LEFT_CHANGE": 1.0, "RIGHT_CHANGE": 1.0, "STRAIGHT": 0.8,
    }
)  # fmt: skip
"""Action -> weight of the released code; the paper does not print its own."""
MAX_WORDS = 2
"""Most actions of one axis in an answer: a clip may hold two in turn ("ACCELERATE, STOP"). More is listing, not planning."""

_OTHERS = {
    "KEEP": ("keep speed", "maintain", "maintain speed", "constant speed"),
    "ACCELERATE": ("speed up", "acceleration", "accelerating"),
    "DECELERATE": ("slow down", "slow", "deceleration", "decelerating", "brake"),
    "STOP": ("stopped", "full stop", "stopping"),
    "STRAIGHT": ("go straight", "keep lane", "straight ahead"),
    "LEFT_TURN": ("turn left",),
    "RIGHT_TURN": ("turn right",),
    "LEFT_CHANGE": ("change left", "left lane change", "change lane left", "lane change left", "change to the left lane"),
    "RIGHT_CHANGE": ("change right", "right lane change", "change lane right", "lane change right", "change to the right lane"),
}
_AXIS = {word: axis for axis, words in AXES.items() for word in words}
_SPLIT = re.compile(r"[,;|+\n]|\s(?:and|then)\s", re.IGNORECASE)


def _key(text: str) -> str:
    return " ".join(re.sub(r"[_\-]+", " ", text.casefold()).split()).strip(" .!\"'*`")


_BY_KEY = {_key(writing): word for word in _AXIS for writing in (word, *_OTHERS[word])}


@dataclass(frozen=True, slots=True)
class Plan:
    """The actions named on each axis."""

    speed: frozenset[str] = frozenset()
    path: frozenset[str] = frozenset()

    def on(self, axis: str) -> frozenset[str]:
        """The actions of `speed` or `path`."""
        return self.speed if axis == "speed" else self.path


def shown(word: str, style: str) -> str:
    """An action as the style writes it: `DECELERATE`, or `decelerate` for the embedded model (whose capitals are a token each)."""
    return word if style == "full" else word.lower()


def read_plan(text: str) -> Plan:
    """The actions that a text lists between commas, semicolons, line breaks, `and` or `then`, in any case, in full.

    Raises ValueError for an unknown word and for more than two different actions on one axis.
    """
    found: dict[str, set[str]] = {axis: set() for axis in AXES}
    for item in _SPLIT.split(text):
        key = _key(item)
        if not key:
            continue
        word = _BY_KEY.get(key)
        if word is None:
            raise ValueError(f"{item.strip()[:40]!r} is no meta-action")
        found[_AXIS[word]].add(word)
    for axis, words in found.items():
        if len(words) > MAX_WORDS:
            raise ValueError(f"{len(words)} {axis} actions, more than {MAX_WORDS}: a list, not a plan")
    return Plan(frozenset(found["speed"]), frozenset(found["path"]))


def read_plan_as_released(text: str) -> Plan:
    """As the released code reads: split on ", ", exact upper case, other words are passed over. Kept for comparison only."""
    words = text.strip().split(", ")
    return Plan(frozenset(w for w in words if w in SPEEDS), frozenset(w for w in words if w in PATHS))


def write_plan(speed: str, path: str, style: str = "full") -> str:
    """`DECELERATE, STRAIGHT`, or terse `decelerate , straight`."""
    return f"{shown(speed, style)}{', ' if style == 'full' else ' , '}{shown(path, style)}"


def f1(got: AbstractSet[str], want: AbstractSet[str]) -> float:
    """2 |got & want| / (|got| + |want|); 0 when either is empty."""
    return 2 * len(got & want) / (len(got) + len(want)) if got and want else 0.0
