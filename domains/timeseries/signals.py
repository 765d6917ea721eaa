"""One signal of a family: draw the class (or take it), its features, the clean signal and the noise."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from factory.domains.timeseries.families import Family
from factory.domains.timeseries.series import Series, add_noise
from factory.domains.timeseries.waves_body import ecg, emg, har
from factory.domains.timeseries.waves_field import ctu, rcw, tee

SNR = {"easy": (22.0, 28.0), "medium": (15.0, 20.0), "hard": (8.0, 12.0)}
"""Signal over noise in decibels: the difficulty of a signal."""
_DRAW: Mapping[str, Callable] = {"emg": emg, "ecg": ecg, "har": har, "ctu": ctu, "tee": tee, "rcw": rcw}


@dataclass(frozen=True, eq=False)
class Signal:
    """A drawn signal and what is true of it."""

    family: Family
    label: str
    """Its class."""
    features: Mapping[str, str]
    """All features that can be told: those of the class, and those that vary within every class."""
    difficulty: str
    snr: float
    series: Series


def free_features(family: Family) -> tuple[str, ...]:
    """Features that decide no class, so that they are drawn by lot."""
    return tuple(name for name in family.features if not any(name in row for row in family.classes.values()))


def draw_signal(rng: random.Random, family: Family, difficulty: str, label: str | None = None) -> Signal:
    """One signal with a class by lot, unless `label` fixes it."""
    label = label or rng.choice(list(family.classes))
    features = dict(family.classes[label])
    features |= {name: rng.choice(family.features[name]) for name in free_features(family)}
    return _made(rng, family, label, features, difficulty)


def draw_with_feature(rng: random.Random, family: Family, difficulty: str, feature: str) -> Signal:
    """One signal of which `feature` can be told, each value equally likely."""
    if feature in free_features(family):
        return draw_signal(rng, family, difficulty)
    wanted = rng.choice([v for v in family.features[feature] if any(row.get(feature) == v for row in family.classes.values())])
    fitting = [label for label, row in family.classes.items() if row.get(feature) == wanted]
    return draw_signal(rng, family, difficulty, rng.choice(fitting))


def _made(rng: random.Random, family: Family, label: str, features: dict[str, str], difficulty: str) -> Signal:
    snr = rng.uniform(*SNR[difficulty])
    source = np.random.default_rng(rng.getrandbits(64))
    clean, noise = _DRAW[family.name](source, features)
    if family.name == "rcw":
        # Background has no signal of its own, so here the noise is fixed and the sweep carries the ratio.
        values = clean * 10.0 ** ((snr - 15.0) / 40.0) + noise
    else:
        values = add_noise(source, clean, snr, noise)
    return Signal(family, label, features, difficulty, snr, Series(values, family.low, family.high, family.channels))
