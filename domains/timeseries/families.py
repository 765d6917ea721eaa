"""The six families of signals (after TimerBed, arXiv 2411.06018): classes, the features that decide them, and axes.

A class is one row of features; within a family no two classes share a row. The features are what the worked reasoning names
and what `feature` questions ask. Nothing here is medicine: the rows are a teaching device that borrows the domains' words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Family:
    """One kind of signal."""

    name: str
    title: str
    """What is shown, for sentences."""
    rate: float
    """Values a second (CTU: an hour)."""
    length: int
    """Time steps."""
    low: float
    high: float
    """Ends of the value axis."""
    unit: str
    channels: tuple[str, ...]
    view: str
    """How it is drawn when `pack.view` is `auto`."""
    features: Mapping[str, tuple[str, ...]]
    """Feature -> its values."""
    classes: Mapping[str, Mapping[str, str]]
    """Class -> the features that decide it, in the order in which one looks at them."""
    advice: Mapping[str, str]
    """Class -> what one would do next, for the `<extension>` of TimeMaster's form."""


def _family(**fields) -> Family:  # type: ignore[no-untyped-def]
    for key in ("features", "classes", "advice"):
        fields[key] = MappingProxyType(fields[key])
    return Family(**fields)


EMG = _family(
    name="emg", title="surface potential of the tibialis anterior muscle over 100 ms", rate=4000.0, length=400, low=-2.0, high=2.0,
    unit="mV", channels=(), view="line",
    features={"duration": ("short", "medium", "long"), "amplitude": ("small", "medium", "large"), "firing": ("sparse", "dense")},
    classes={
        "healthy": {"duration": "medium", "amplitude": "medium", "firing": "dense"},
        "myopathy": {"duration": "short", "amplitude": "small", "firing": "dense"},
        "neuropathy": {"duration": "long", "amplitude": "large", "firing": "sparse"},
    },
    advice={
        "healthy": "record the opposite muscle at the same effort and keep this trace as a baseline for later comparison",
        "myopathy": "measure muscle strength, sample a proximal muscle, and compare unit size at rising contraction levels",
        "neuropathy": "test nerve conduction along the leg, map neighbouring muscles, and repeat the recording after some weeks",
    },
)  # fmt: skip
ECG = _family(
    name="ecg", title="single-lead electrocardiogram over 5 s", rate=100.0, length=500, low=-0.6, high=1.4, unit="mV", channels=(),
    view="line",
    features={"artefact": ("low", "high"), "rhythm": ("regular", "irregular", "early"), "pwave": ("present", "absent")},
    classes={
        "normal": {"artefact": "low", "rhythm": "regular", "pwave": "present"},
        "af": {"artefact": "low", "rhythm": "irregular", "pwave": "absent"},
        "other": {"artefact": "low", "rhythm": "early", "pwave": "present"},
        "noisy": {"artefact": "high"},
    },
    advice={
        "normal": "keep the strip as reference, note the heart rate, and record again only when symptoms appear",
        "af": "measure the ventricular rate, record a longer strip, and review stroke risk with the cardiology team",
        "other": "count early beats over a day of recording and check whether they appear during exercise or rest",
        "noisy": "clean the skin, replace the electrodes, ask for stillness, and record the strip once more",
    },
)  # fmt: skip
HAR = _family(
    name="har", title="acceleration at the waist on three axes over 2.56 s", rate=50.0, length=128, low=-1.0, high=2.4, unit="g",
    channels=("x", "y", "z"), view="line",
    features={"motion": ("still", "moving"), "impact": ("soft", "hard"), "cadence": ("slow", "fast"),
              "posture": ("upright", "tilted", "flat")},
    classes={
        "walking": {"motion": "moving", "impact": "soft", "cadence": "fast"},
        "upstairs": {"motion": "moving", "impact": "soft", "cadence": "slow"},
        "downstairs": {"motion": "moving", "impact": "hard"},
        "sitting": {"motion": "still", "posture": "tilted"},
        "standing": {"motion": "still", "posture": "upright"},
        "laying": {"motion": "still", "posture": "flat"},
    },
    advice={
        "walking": "count the steps, estimate speed from the cadence, and log the walk in the daily activity summary",
        "upstairs": "add the climbed floors to the energy estimate and compare cadence with earlier climbs",
        "downstairs": "watch the impact peaks for joint load and warn about fall risk on long descents",
        "sitting": "start a timer for sedentary time and suggest a short walk after one hour",
        "standing": "log quiet standing, track sway over minutes, and pause the step counter",
        "laying": "mark the interval as rest, check turning events, and begin the sleep analysis if it lasts",
    },
)  # fmt: skip
CTU = _family(
    name="ctu", title="electric power of one computer over 24 h", rate=30.0, length=720, low=0.0, high=1.1, unit="of 300 W", channels=(),
    view="line",
    features={"top": ("flat", "taper"), "onset": ("early", "late")},
    classes={"desktop": {"top": "flat"}, "laptop": {"top": "taper"}},
    advice={
        "desktop": "switch the machine off at a socket timer overnight and measure how much standby power that saves",
        "laptop": "charge during cheap hours, limit the battery to eighty percent, and unplug the adapter afterwards",
    },
)  # fmt: skip
TEE = _family(
    name="tee", title="radio power of one lightning event", rate=1.0, length=319, low=-0.15, high=1.15, unit="normalised", channels=(),
    view="line",
    features={"events": ("one", "two", "many"), "rise": ("sharp", "slow"), "fall": ("sharp", "slow")},
    classes={
        "impulsive": {"events": "one", "rise": "sharp", "fall": "sharp"},
        "stroke": {"events": "one", "rise": "sharp", "fall": "slow"},
        "ramp": {"events": "one", "rise": "slow", "fall": "sharp"},
        "gradual": {"events": "one", "rise": "slow", "fall": "slow"},
        "pair": {"events": "two", "rise": "sharp", "fall": "sharp"},
        "burst": {"events": "many", "rise": "sharp", "fall": "sharp"},
        "repeated": {"events": "many", "rise": "sharp", "fall": "slow"},
    },
    advice={
        "impulsive": "match the spike with ground sensors and report its time to the locating network",
        "stroke": "locate the return stroke, estimate its current, and notify the grid operator of the strike",
        "ramp": "look for a leader before the cut-off and compare the slope with neighbouring stations",
        "gradual": "track the discharge inside the cloud and follow the height of the source over minutes",
        "pair": "measure the gap between both pulses and derive the height of the compact discharge",
        "burst": "count the pulses, test for an initial breakdown train, and store the raw samples",
        "repeated": "count the later strokes, measure the intervals, and estimate the charge they carry together",
    },
)  # fmt: skip
RCW = _family(
    name="rcw", title="underwater sound over 1 s, 0 to 250 Hz", rate=500.0, length=500, low=-4.0, high=4.0, unit="standard deviations",
    channels=(), view="spectrogram",
    features={"sweep": ("up", "none"), "hum": ("present", "absent")},
    classes={"call": {"sweep": "up"}, "background": {"sweep": "none"}},
    advice={
        "call": "slow nearby ships, listen for an answering animal, and add the detection to the migration map",
        "background": "keep listening, subtract the ship hum from the record, and lower the detector threshold slightly",
    },
)  # fmt: skip

FAMILIES: Mapping[str, Family] = MappingProxyType({family.name: family for family in (EMG, ECG, HAR, CTU, TEE, RCW)})


def asked(family: Family, label: str) -> tuple[str, ...]:
    """The features that decide this class, in order."""
    return tuple(family.classes[label])
