"""Keep prompts that need their images: RAP's D score.

Source: Truth in the Few, RAP (guides B9.3). Only D is shipped: the attention rule and the replacement module have no published
rule to follow (guides B16).
"""

from __future__ import annotations


def rap_d(pass_rate: float, blind_pass_rate: float) -> float:
    """`D = (#right with - #right without) / M`, in [-1, 1], as a difference of rates.

    For M rollouts each way this is RAP's formula; as rates it also holds when a failed verifier masked some of either sort.
    """
    return pass_rate - blind_pass_rate


def needs_images(gain: float | None, at_least: float = 0.5) -> bool:
    """True for a known D of at least 0.5 (RAP's threshold; 1e-9 below it counts, since rates are rounded)."""
    return gain is not None and gain >= at_least - 1e-9
