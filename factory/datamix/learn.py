"""From runs to a fitted model, and from the model to the next mixture; refuses to guess from too few runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from factory.datamix.quadratic import Quadratic, fit
from factory.datamix.runs import MixtureRun, differences
from factory.datamix.seeds import as_set, missing, num_different, num_needed
from factory.datamix.simplex import distance, maximise, rounded
from factory.errors import DataError


@dataclass(frozen=True)
class Learned:
    """A model with the runs it was made from."""

    runs: tuple[MixtureRun, ...]
    weights_NK: NDArray[np.float64]
    model: Quadratic
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Proposal:
    """The mixture to run next."""

    weights: dict[str, float]
    predicted: float
    best_measured: float
    distance: float
    """Share of the data in which it differs from the nearest mixture that was run."""
    setting: str
    """Ready to paste after `factory build`."""
    notes: tuple[str, ...]


def learn(runs: Sequence[MixtureRun], *, ridge: float = 0.0) -> Learned:
    """Fit the model.

    Raises:
        DataError: fewer than two sets, different metrics, too few different mixtures, or collinear ones.
    """
    names = tuple(sorted({name for run in runs for name in run.weights}))
    metrics = sorted({run.metric for run in runs})
    if len(names) < 2:
        raise DataError(f"the runs have {len(names)} set of data ({', '.join(names)}); a mixture needs two or more.")
    if len(metrics) > 1:
        raise DataError(f"the runs were scored by different figures: {', '.join(metrics)}. Name one task with --task.")
    mixtures, needed = [run.weights for run in runs], num_needed(len(names), ridge)
    if num_different(mixtures) < needed:
        raise DataError(_too_few(runs, names, needed, ridge))
    weights = np.array([[mixture.get(name, 0.0) for name in names] for mixture in mixtures])
    try:
        model = fit(names, weights, np.array([run.score for run in runs]), ridge=ridge)
    except DataError as err:
        raise DataError("\n".join([str(err), *_to_run(runs, names, ridge)])) from err
    return Learned(tuple(runs), weights, model, tuple(_doubts(runs, model)))


def _too_few(runs: Sequence[MixtureRun], names: Sequence[str], needed: int, ridge: float) -> str:
    mixtures = [run.weights for run in runs]
    have, with_ridge = num_different(mixtures), num_needed(len(names), 1.0)
    lines = [
        f"{len(runs)} runs of {have} different mixtures are too few: {len(names)} sets ({', '.join(names)}) want {needed}, "
        "and a fit that is not fixed by its runs would be a guess."
    ]
    if ridge == 0 and with_ridge < needed:
        lines.append(f"With --ridge above 0, {with_ridge} will do.")
    return "\n".join([*lines, *_to_run(runs, names, ridge)])


def _to_run(runs: Sequence[MixtureRun], names: Sequence[str], ridge: float) -> list[str]:
    """The mixtures that would settle the fit, ready to paste."""
    asked = missing(names, [run.weights for run in runs], ridge)
    return ["Run these as well:", *(f"  {title:<24} {as_set(runs[0].key, weights)}" for title, weights in asked.items())]


def _doubts(runs: Sequence[MixtureRun], model: Quadratic) -> list[str]:
    notes = []
    other = differences(runs)
    if other:
        more = f" and {len(other) - 5} more" if len(other) > 5 else ""
        notes.append(f"the runs differ in more than the mixture: {', '.join(other[:5])}{more}")
    if model.loo_rmse is None:
        notes.append(
            "some run cannot be left out (as many coefficients as mixtures), so the error is unknown: run one more mixture"
        )
    elif model.loo_rmse >= model.loo_rmse_mean:
        notes.append("left-out runs are predicted no better than by their mean: the model has learned nothing about mixtures")
    if model.condition > 1e4:
        notes.append(f"nearly collinear mixtures (condition {model.condition:.1e}): coefficients are unsure; add --ridge 0.01")
    return notes


def propose(learned: Learned, *, within: float, seed: int) -> Proposal:
    """The mixture of the highest predicted score within reach of the runs."""
    best, value = maximise(learned.model, learned.weights_NK, within=within, seed=seed)
    weights = dict(zip(learned.model.names, rounded(best), strict=True))
    measured = max(run.score for run in learned.runs)
    gain, error = value - measured, learned.model.loo_rmse
    notes = list(learned.notes)
    if error is not None and gain <= error:
        notes.append(f"the predicted gain of {gain:.4f} over the best run is within the leave-one-out error of {error:.4f}")
    apart = distance(best, learned.weights_NK)
    return Proposal(weights, value, measured, apart, as_set(learned.runs[0].key, weights), tuple(notes))
