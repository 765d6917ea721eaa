"""Which pairs are only measured, and what is said of them. Pairs of one prompt stay together, on one side."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

from factory.contracts import Pair, Sample
from factory.errors import DataError

Z95 = 1.959963984540054
"""Two-sided 95 % point of the standard normal distribution."""


def sample_key(sample: Sample) -> str:
    """Digest of the prompt and its images. Rows without an id of their own still belong together when they ask the same."""
    parts = [f"{message.role}\0{message.content}" for message in sample.messages] + [item.sha256() for item in sample.media]
    return hashlib.sha256("\1".join(parts).encode("utf-8", errors="surrogatepass")).hexdigest()


def split_pairs(pairs: Sequence[Pair], share: float) -> tuple[list[Pair], list[Pair]]:
    """(pairs to train on, pairs to measure), each in the order given.

    `share` of the samples (rounded, at least one) is held out: those whose digests come first. Hence the choice does not depend
    on the order of the pairs or on a seed.

    Args:
        share: in [0, 1); 0 holds nothing out.

    Raises:
        DataError: all pairs are of one sample, so that nothing can be held out.
    """
    if share == 0:
        return list(pairs), []
    keys = [sample_key(pair.sample) for pair in pairs]
    ranked = sorted(set(keys))
    if len(ranked) < 2:
        raise DataError("all pairs have the same prompt, so none can be held out. Give more samples, or set holdout=0.")
    held = set(ranked[: min(len(ranked) - 1, max(1, round(share * len(ranked))))])
    train = [pair for pair, key in zip(pairs, keys, strict=True) if key not in held]
    return train, [pair for pair, key in zip(pairs, keys, strict=True) if key in held]


def wilson(successes: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """95 % interval of a share; (nan, nan) without trials. Source: Wilson 1927, JASA 22(158), p. 209."""
    if trials == 0:
        return math.nan, math.nan
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def held_out_figures(
    scores: Sequence[tuple[float, float]], *, better_is: int, signs: Sequence[tuple[float, float]] = ()
) -> dict[str, Any]:
    """What the scorer makes of the pairs that it was not trained on.

    Args:
        scores: (chosen, rejected) of each pair.
        better_is: +1 when the better response should score higher, -1 when lower. A tie counts as wrong.
        signs: for a cost model, +1 unsafe and -1 safe of each response.

    Returns:
        `pairs`, `accuracy` with `accuracy_low` and `accuracy_high` (Wilson, 95 %; pairs of one sample are taken for
        independent), `margin`; with signs also `label_accuracy` over all responses, with its interval.
    """
    margins = [better_is * (chosen - rejected) for chosen, rejected in scores]
    figures: dict[str, Any] = {"pairs": len(scores), **_share("accuracy", [margin > 0 for margin in margins])}
    figures["margin"] = math.fsum(margins) / max(1, len(margins))
    if signs:
        flat = [(c, s) for costs, labels in zip(scores, signs, strict=True) for c, s in zip(costs, labels, strict=True)]
        figures |= _share("label_accuracy", [c * s > 0 for c, s in flat])
    return figures


def _share(name: str, hits: Sequence[bool]) -> dict[str, float]:
    low, high = wilson(sum(hits), len(hits))
    return {name: sum(hits) / max(1, len(hits)), f"{name}_low": low, f"{name}_high": high}
