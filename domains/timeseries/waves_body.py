"""Signals of muscle, heart and movement, drawn from the class and its features. Randomness comes from the generator alone.

Each function returns ([C, L] clean signal, noise to add or None for white noise).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from factory.domains.timeseries.families import ECG, EMG, HAR

UNIT_MS = {"short": (3.5, 5.5), "medium": (8.0, 10.0), "long": (14.0, 18.0)}
"""Length of a motor-unit potential: myopathy at most 6 ms, neuropathy at least 12 ms."""
UNIT_MV = {"small": (0.25, 0.4), "medium": (0.7, 1.0), "large": (1.5, 1.9)}
UNITS = {"sparse": (2, 3), "dense": (8, 11)}
"""Potentials in 100 ms."""


def emg(rng: np.random.Generator, features: Mapping[str, str]) -> tuple[np.ndarray, None]:
    """A train of biphasic motor-unit potentials in mV: derivative-of-Gaussian wavelets at jittered even gaps."""
    time = np.arange(EMG.length) / EMG.rate * 1000.0
    count = int(rng.integers(UNITS[features["firing"]][0], UNITS[features["firing"]][1] + 1))
    span = EMG.length / EMG.rate * 1000.0
    gap = span / count
    signal = np.zeros(EMG.length)
    for index in range(count):
        centre = (index + 0.5 + rng.uniform(-0.22, 0.22)) * gap
        sigma = rng.uniform(*UNIT_MS[features["duration"]]) / 6.0  # the wavelet is about 6 sigma long
        height = rng.uniform(*UNIT_MV[features["amplitude"]])
        scaled = (time - centre) / sigma
        signal += height * math.exp(0.5) * -scaled * np.exp(-0.5 * scaled**2)
    return signal[None], None


_WAVES = (("p", -0.17, 0.028, 0.16), ("q", -0.03, 0.010, -0.12), ("r", 0.0, 0.013, 1.0), ("s", 0.035, 0.011, -0.22),
          ("t", 0.27, 0.05, 0.28))  # fmt: skip
"""PQRST: name, place in s against R, width in s, height in mV."""


def _beat(time: np.ndarray, at: float, *, has_p: bool, is_wide: bool = False) -> np.ndarray:
    if is_wide:  # a ventricular ectopic: no P, broad and tall, T turned over
        return 1.15 * np.exp(-0.5 * ((time - at) / 0.045) ** 2) - 0.4 * np.exp(-0.5 * ((time - at - 0.28) / 0.06) ** 2)
    waves = [wave for wave in _WAVES if has_p or wave[0] != "p"]
    return sum(height * np.exp(-0.5 * ((time - at - place) / width) ** 2) for _, place, width, height in waves)


def ecg(rng: np.random.Generator, features: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Beats of PQRST Gaussians; regular, irregular without P and with fibrillation waves, or with one early broad beat."""
    time = np.arange(ECG.length) / ECG.rate
    end = ECG.length / ECG.rate
    rhythm, has_p = features.get("rhythm", "regular"), features.get("pwave", "present") == "present"
    gap = rng.uniform(0.75, 1.0)
    beats = [rng.uniform(0.1, gap)]
    while beats[-1] < end:
        factor = rng.choice((0.6, 0.75, 1.25, 1.5)) if rhythm == "irregular" else 1.0
        beats.append(beats[-1] + gap * factor * rng.uniform(0.98, 1.02))
    early = int(rng.integers(1, max(2, len(beats) - 3))) if rhythm == "early" else -1
    signal = np.zeros(ECG.length)
    for index, at in enumerate(beats):
        if index == early + 1 and early >= 0:
            signal += _beat(time, beats[early] + 0.55 * gap, has_p=False, is_wide=True)
            continue  # the beat after it falls out (compensatory pause)
        signal += _beat(time, at, has_p=has_p)
    if not has_p:
        signal += 0.035 * np.sin(2 * np.pi * rng.uniform(5.0, 7.0) * time + rng.uniform(0, 6.28))
    if features["artefact"] == "high":
        drift = 0.3 * np.sin(2 * np.pi * rng.uniform(0.3, 0.7) * time + rng.uniform(0, 6.28))
        muscle = np.convolve(rng.standard_normal(ECG.length), (0.5, 1.0, 0.5), "same") * 0.22
        signal = 0.4 * signal + drift + muscle
    return signal[None], None


POSTURES = {"upright": (1.0, 0.0, 0.0), "tilted": (0.75, 0.55, 0.25), "flat": (0.0, 0.15, 1.0)}
"""Share of gravity on x, y, z."""


def har(rng: np.random.Generator, features: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Gravity by posture and, when moving, two harmonics of the step; hard impacts are narrow and tall, alternate steps differ."""
    time = np.arange(HAR.length) / HAR.rate
    gravity = np.array(POSTURES[features.get("posture", "upright")]) + rng.uniform(-0.05, 0.05, 3)
    signal = np.repeat(gravity[:, None], HAR.length, axis=1)
    noise = rng.standard_normal(signal.shape)
    if features["motion"] == "still":
        return signal + 0.012 * noise, 0.3 * noise
    is_hard = features.get("impact") == "hard"
    step = rng.uniform(1.0, 1.25) if features.get("cadence") == "slow" else rng.uniform(1.9, 2.2)
    phase = 2 * np.pi * step * time + rng.uniform(0, 6.28)
    uneven = 1.0 + 0.25 * np.sign(np.sin(phase / 2)) * (is_hard or features.get("cadence") == "slow")  # stairs limp a little
    if is_hard:
        wave = np.exp(6.0 * (np.cos(phase) - 1.0))
        signal[0] += 1.25 * wave * uneven - 0.25
    else:
        signal[0] += 0.38 * uneven * np.cos(phase) + 0.08 * np.cos(2 * phase)
    signal[1] += 0.2 * np.sin(phase / 2)
    signal[2] += 0.2 * np.sin(phase + 1.0)
    return signal, noise
