"""Length of the reasoning: a score by word count, with a window per difficulty (Patho-R1: easy short, hard long)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from factory.errors import ConfigError

Windows = Mapping[str, tuple[int, int]]
"""difficulty -> (fewest, most) words that score 1."""

DEFAULT_WINDOWS: Windows = {"easy": (5, 60), "medium": (12, 120), "hard": (20, 240)}


def check_windows(windows: Windows) -> None:
    """Raises ConfigError unless every window is 1 <= fewest <= most."""
    if not windows:
        raise ConfigError("reasoning length needs at least one window, such as {'medium': (12, 120)}.")
    for difficulty, (low, high) in windows.items():
        if not 1 <= low <= high:
            raise ConfigError(f"reasoning window '{difficulty}' is ({low}, {high}); want 1 <= fewest <= most words.")


def window_score(num_words: int, low: int, high: int) -> float:
    """1 inside [low, high]; falls in a straight line to 0 at no words, and to 0 at twice `high`."""
    if num_words < low:
        return num_words / low
    return 1.0 if num_words <= high else max(0.0, 2.0 - num_words / high)


def distinct_share(words: Sequence[str], n: int = 4) -> float:
    """Distinct n-grams over all n-grams, in (0, 1]; 1 for fewer than n words. Low for padded or looping text."""
    num = len(words) - n + 1
    return len({tuple(words[i : i + n]) for i in range(num)}) / num if num > 0 else 1.0
