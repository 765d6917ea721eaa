"""Which mixtures to run before a model of them can be fitted: each set alone, each left out, all of them, then pairs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np

from factory.datamix.quadratic import design, num_coefficients
from factory.datamix.simplex import rounded

Weights = dict[str, float]
SAME = 1e-3
"""Weights closer than this are the same mixture: they are written with four digits."""


def seed_mixtures(names: Sequence[str]) -> dict[str, Weights]:
    """Title -> equal weights of some sets (MoDoMoDo, guides B9.6): alone, left out, all; each mixture once."""
    groups = [(f"{name} alone", [name]) for name in names]
    groups += [(f"without {name}", [other for other in names if other != name]) for name in names]
    groups += [("all", list(names))]
    return _different(names, groups)


def pair_mixtures(names: Sequence[str]) -> dict[str, Weights]:
    """Title -> two sets, half each. With the sets alone they fix every coefficient of the quadratic (Scheffe's {K, 2} lattice)."""
    return _different(names, [(f"{one} and {other}", [one, other]) for one, other in combinations(names, 2)])


def _different(names: Sequence[str], groups: Iterable[tuple[str, Sequence[str]]]) -> dict[str, Weights]:
    found: dict[str, Weights] = {}
    for title, members in groups:
        mixture = {name: 1.0 / len(members) if name in members else 0.0 for name in names}
        if members and not any(is_same(mixture, other) for other in found.values()):
            found[title] = mixture
    return found


def is_same(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """True when no weight differs by more than `SAME`; sets that are not named weigh 0."""
    return all(abs(one.get(name, 0.0) - other.get(name, 0.0)) <= SAME for name in {*one, *other})


def num_different(mixtures: Iterable[Mapping[str, float]]) -> int:
    """How many different mixtures there are."""
    found: list[Mapping[str, float]] = []
    for mixture in mixtures:
        if not any(is_same(mixture, other) for other in found):
            found.append(mixture)
    return len(found)


def num_needed(num_sets: int, ridge: float) -> int:
    """Different mixtures that a fit asks for: one per coefficient; with a ridge the seed mixtures do."""
    seeds = len(seed_mixtures([str(i) for i in range(num_sets)]))
    return num_coefficients(num_sets) if ridge == 0 else min(num_coefficients(num_sets), seeds)


def missing(names: Sequence[str], observed: Sequence[Mapping[str, float]], ridge: float) -> dict[str, Weights]:
    """Seed mixtures that were not run; without a ridge, then those pairs that fix what all of these leave open.

    (From four sets on, the seed mixtures are too symmetric to tell every pair apart; with all pairs nothing is open.)
    """
    found = {title: w for title, w in seed_mixtures(names).items() if not any(is_same(w, other) for other in observed)}
    if ridge > 0:
        return found
    rank = _rank(names, [*observed, *found.values()])
    for title, weights in pair_mixtures(names).items():
        more = _rank(names, [*observed, *found.values(), weights])
        if more > rank:
            found[title], rank = weights, more
    return found


def _rank(names: Sequence[str], mixtures: Sequence[Mapping[str, float]]) -> int:
    """How many coefficients the mixtures fix."""
    return int(np.linalg.matrix_rank(design(np.array([[one.get(name, 0.0) for name in names] for one in mixtures]))))


def as_set(key: str, weights: Mapping[str, float]) -> str:
    """The mixture as a ready `--set`, quoted for a shell."""
    parts = rounded(np.array(list(weights.values())))
    shown = ", ".join(f"{json.dumps(name, ensure_ascii=False)}: {part:g}" for name, part in zip(weights, parts, strict=True))
    return "--set " + shlex.quote(f"{key}={{{shown}}}")
