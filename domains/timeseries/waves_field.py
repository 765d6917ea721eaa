"""Signals of electric power, lightning and whales, drawn from the class and its features.

Each function returns ([C, L] clean signal, noise to add or None for white noise).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from factory.domains.timeseries.families import CTU, RCW, TEE


def ctu(rng: np.random.Generator, features: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """A day of on and off: plateaus of a desktop, or a laptop's charging bursts that taper off. The first one is early or late."""
    hours = np.arange(CTU.length) / CTU.rate
    signal = np.full(CTU.length, 0.05)
    at = rng.uniform(1.0, 5.0) if features["onset"] == "early" else rng.uniform(10.0, 13.0)
    while at < 22.0:
        long = rng.uniform(2.5, 5.0)
        height = rng.uniform(0.55, 0.95)
        inside = (hours >= at) & (hours < at + long)
        if features["top"] == "flat":
            signal[inside] = height
        else:
            signal[inside] = 0.05 + (height - 0.05) * np.exp(-(hours[inside] - at) / (0.3 * long))
        at += long + rng.uniform(1.0, 3.5)
    jitter = rng.standard_normal((1, CTU.length)) * (0.3 + (signal > 0.1))
    return signal[None], jitter


PULSES = {"one": (1, 1), "two": (2, 2), "many": (4, 5)}


def tee(rng: np.random.Generator, features: Mapping[str, str]) -> tuple[np.ndarray, None]:
    """Pulses with a sharp or slow rise and a sharp or slow fall; one, two, or a train."""
    time = np.arange(TEE.length, dtype=np.float64)
    low, high = PULSES[features["events"]]
    count = int(rng.integers(low, high + 1))
    room = TEE.length / count
    rise = 2.0 if features["rise"] == "sharp" else rng.uniform(60.0, 90.0) / count**0.5
    fall = 3.0 if features["fall"] == "sharp" else rng.uniform(45.0, 70.0) / count
    signal = np.zeros(TEE.length)
    for index in range(count):
        if count == 1:
            at = rng.uniform(0.35, 0.6) * TEE.length
        else:
            at = (index + rng.uniform(0.2, 0.4)) * room
        height = rng.uniform(0.75, 1.0)
        pulse = np.where(time < at, np.exp(-(((at - time) / rise) ** 2)), np.exp(-(time - at) / fall))
        signal = np.maximum(signal, height * pulse)
    return signal[None], None


def rcw(rng: np.random.Generator, features: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """An up-sweep from 50 to 200 Hz or silence, in coloured noise; a ship's hum below 40 Hz may lie under it."""
    time = np.arange(RCW.length) / RCW.rate
    signal = np.zeros(RCW.length)
    if features["sweep"] == "up":
        start, long = rng.uniform(0.1, 0.35), rng.uniform(0.4, 0.6)
        first, last = rng.uniform(50.0, 80.0), rng.uniform(150.0, 200.0)
        inside = np.clip((time - start) / long, 0.0, 1.0)
        phase = 2 * np.pi * long * (first * inside + 0.5 * (last - first) * inside**2)
        window = np.where((time >= start) & (time < start + long), np.sin(np.pi * inside) ** 0.5, 0.0)
        signal += 1.6 * window * np.sin(phase)
    hum = np.zeros(RCW.length)
    if features["hum"] == "present":
        hum = 1.1 * np.sin(2 * np.pi * rng.uniform(20.0, 32.0) * time + rng.uniform(0, 6.28))
    spectrum = np.fft.rfft(rng.standard_normal(RCW.length)) / np.sqrt(1.0 + np.fft.rfftfreq(RCW.length, 1 / RCW.rate) / 40.0)
    noise = np.fft.irfft(spectrum, RCW.length)
    noise /= noise.std()
    return (signal + hum)[None], noise[None]
