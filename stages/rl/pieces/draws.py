"""Weighted draws of rollouts, and what a step looks like after some were left out and others repeated.

Every draw takes its random numbers from the step (`ctx.rng`), so all processes and a resumed run draw the same.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from factory.stages.rl.rollouts import Group, Rollout, copied


def normalised(weights: Sequence[float]) -> list[float]:
    """The weights divided by their sum; zeros when all are 0."""
    total = sum(weights)
    return [weight / total if total else 0.0 for weight in weights]


def draw(rng: random.Random, weights: Sequence[float], num: int, *, with_replacement: bool) -> list[int]:
    """`num` places with probability proportional to their weights; a weight of 0 is never drawn.

    Without replacement the places are drawn one after the other from those left, so fewer than `num` come back when
    fewer have a weight. In the order drawn.
    """
    if with_replacement:
        return rng.choices(range(len(weights)), weights=weights, k=num) if sum(weights) > 0 else []
    left = {place: weight for place, weight in enumerate(weights) if weight > 0}
    found: list[int] = []
    while left and len(found) < num:
        place = rng.choices(list(left), weights=list(left.values()))[0]
        found.append(place)
        del left[place]
    return found


def magnitude(rollout: Rollout, *, summed: bool = False) -> float:
    """|A| of a rollout. With credit token by token: the mean of |A_t| over the tokens that train.

    `summed`: times the number of tokens that train, which is what a sum over masked token advantages gives.
    """
    if rollout.token_advantages:
        trained = [abs(a) for a, bit in zip(rollout.token_advantages, rollout.trained(), strict=True) if bit]
        total = sum(trained)
        return total if summed else total / max(len(trained), 1)
    return abs(rollout.advantage) * (rollout.length if summed else 1)


def live_rollouts(groups: Sequence[Group]) -> list[tuple[int, Rollout]]:
    """All rollouts that count, in order, with the place of their group in `groups`."""
    return [(place, rollout) for place, group in enumerate(groups) for rollout in group.live()]


def with_only(groups: Sequence[Group], chosen: Sequence[tuple[int, Rollout]]) -> list[Group]:
    """The groups with only the chosen rollouts; one that is chosen again is a copy; a group left empty goes."""
    members: dict[int, list[Rollout]] = {}
    for place, rollout in chosen:
        own = members.setdefault(place, [])
        own.append(copied(rollout) if any(rollout is other for other in own) else rollout)
    return [replace(group, rollouts=members[place]) for place, group in enumerate(groups) if place in members]
