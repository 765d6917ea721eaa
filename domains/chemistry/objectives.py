"""Several properties in one reward, after PaccMann^RL (MIT): each is brought to [0, 1], then summed by weight and divided by the weights.

The published sums are selectable by name; they are kept as the part `published` beside the normalised score.

    protein   1 * affinity + 0.5 * tox                                                   (lr 5e-6, batch 128, T 1.4)
    ic50      w_p * P + w_q * QED + w_s * (1 - (SC - 1) / 4) + w_e * [-8 < ESOL < -2] + w_t * tox
              with P = 1 / (1 + exp(x)), x = log10 micromolar IC50, taken as 10 when x >= 2 (default weights 1, 0, 0, 0, 0.5)
    normalised   affinity, tox, QED and SA in equal parts unless weights are given

PaccMann drops invalid molecules before the loss; a rollout here scores 0 instead. Its predictors are not shipped: affinity, SC score
and Tox21 are callables of your own, `module:function` of a SMILES. Without one, `tox` is 1 for a molecule without structural alert.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from factory.domains.chemistry.molecules import canonical
from factory.domains.chemistry.properties import alerts, esol, qed, sa_score
from factory.domains.chemistry.screening import check_directions
from factory.errors import PluginError

RECIPES: Mapping[str, Mapping[str, float]] = {
    "protein": {"affinity": 1.0, "tox": 0.5},
    "ic50": {"affinity": 1.0, "qed": 0.0, "synthesis": 0.0, "esol": 0.0, "tox": 0.5},
    "normalised": {"affinity": 1.0, "tox": 1.0, "qed": 1.0, "synthesis": 1.0},
}
"""Recipe -> objective -> weight."""
IC50_THRESHOLD = 2.0
IC50_ABOVE = 10.0
TOX_LIMIT = 0.5
ESOL_RANGE = (-8.0, -2.0)
ORACLES = ("affinity", "sc_score", "tox21")


def affinity_of_ic50(log_ic50: float) -> float:
    """PaccMann's score of a predicted log10 micromolar IC50: 1 / (1 + exp(x)), x = 10 from the threshold on. In (0, 1)."""
    x = IC50_ABOVE if log_ic50 >= IC50_THRESHOLD else log_ic50
    return 1.0 / (1.0 + math.exp(max(-700.0, min(700.0, x))))


def tox21_score(probabilities: Any, *, raw: bool = False) -> float:
    """1 when no assay's probability is above 0.5, else 0; raw: 1 - mean."""
    values = [float(value) for value in probabilities]
    if not values or any(not 0.0 <= value <= 1.0 for value in values):
        raise ValueError("Tox21 probabilities must lie in [0, 1]")
    return 1.0 - sum(values) / len(values) if raw else float(all(value <= TOX_LIMIT for value in values))


@lru_cache(maxsize=64)
def oracle(path: str) -> Callable[[str], Any]:
    """The callable `module:function` of the user. Raises PluginError when there is none."""
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as err:
        raise PluginError(f"the oracle {path!r} cannot be loaded: {err}. Write module:function of an importable module.") from err
    if not callable(found):
        raise PluginError(f"the oracle {path!r} is no function. Name a function, as module:function.")
    return found


def spec_of(reference: Any) -> tuple[str, dict[str, float], dict[str, str], float]:
    """(recipe, weights, oracles, target) of a sample's reference; its `contains` (a SMILES to keep) is read by the verifier.

    Raises:
        ValueError: unknown recipe or objective, no positive weight, a hazard sought, or an affinity with weight and no oracle.
    """
    if not isinstance(reference, Mapping):
        raise ValueError("the reference of a design must be a mapping with `recipe`, `weights` or `oracles`")
    recipe = str(reference.get("recipe", "normalised"))
    if recipe not in RECIPES:
        raise ValueError(f"the recipe {recipe!r} is not one of {', '.join(RECIPES)}")
    weights = {**RECIPES[recipe], **dict(reference.get("weights") or {})}
    oracles = {str(name): str(path) for name, path in dict(reference.get("oracles") or {}).items()}
    if "affinity" in weights and weights["affinity"] and "affinity" not in oracles:
        raise ValueError("the affinity has a weight but no oracle: set pack.oracles.affinity=module:function, or its weight to 0")
    check_directions(weights)
    known = {"affinity", "tox", "qed", "synthesis", "esol"}
    unknown = [name for name in [*weights, *oracles] if name not in known | set(ORACLES)]
    if unknown or not sum(weights.values()) > 0:
        raise ValueError(f"unknown objectives {', '.join(unknown)}" if unknown else "no objective has a weight above 0")
    target = float(reference.get("target", 1.0))
    if not 0.0 < target <= 1.0:
        raise ValueError(f"the target is {target}; want a score in (0, 1]")
    return recipe, {name: float(weight) for name, weight in weights.items()}, oracles, target


def objectives_of(mol: Any, recipe: str, weights: Mapping[str, float], oracles: Mapping[str, str]) -> dict[str, float]:
    """Each objective with a weight, in [0, 1]; higher is better for all.

    Raises ValueError when an oracle gives something else, PluginError when it cannot be loaded.
    """
    smiles = canonical(mol)
    makers: dict[str, Callable[[], float]] = {
        "affinity": lambda: _affinity(smiles, recipe, oracles),
        "tox": lambda: tox21_score(oracle(oracles["tox21"])(smiles)) if "tox21" in oracles else float(alerts(mol) == 0),
        "qed": lambda: qed(mol),
        "synthesis": lambda: (
            1.0 - (float(oracle(oracles["sc_score"])(smiles)) - 1.0) / 4.0 if "sc_score" in oracles else 1.0 - (sa_score(mol) - 1.0) / 9.0
        ),
        "esol": lambda: float(ESOL_RANGE[0] < esol(mol) < ESOL_RANGE[1]),
    }  # fmt: skip
    found = {name: makers[name]() for name, weight in weights.items() if weight > 0}
    for name, value in found.items():
        if not math.isfinite(value):
            raise ValueError(f"the objective '{name}' is {value}")
    return {name: min(1.0, max(0.0, value)) for name, value in found.items()}


def _affinity(smiles: str, recipe: str, oracles: Mapping[str, str]) -> float:
    value = float(oracle(oracles["affinity"])(smiles))
    return affinity_of_ic50(value) if recipe == "ic50" else value


def combined(values: Mapping[str, float], weights: Mapping[str, float]) -> tuple[float, float]:
    """(normalised score in [0, 1], published sum)."""
    total = sum(weights[name] * value for name, value in values.items())
    return total / sum(weights[name] for name in values), total
