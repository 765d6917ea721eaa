"""Synthesis routes, checked step by step: each step by a template, each leaf in stock or small, the last product the target."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from factory.domains.chemistry.molecules import MoleculeFault, canonical_smiles, read_molecule
from factory.domains.chemistry.reactions import explain, split_reaction

MAX_STEPS = 12
SMALL_LEAF = 4
"""Heavy atoms up to which a starting material counts as available without a stock list."""
_BULLET = re.compile(r"^(?:step\s*)?\d{1,2}\s*[.):]\s*|^[-*•]\s+", re.IGNORECASE)


@dataclass(frozen=True)
class RouteReport:
    """What a check found. `num_right` of `num_steps` steps hold; `fault` is empty for a whole route."""

    num_steps: int
    num_right: int
    fault: str
    leaves: tuple[str, ...] = ()


def read_route(text: str) -> list[tuple[tuple[str, ...], str]]:
    """Steps (reactants, product) from lines or `;`-separated `A.B>>C` (reagents between the `>` are passed over), in any order.

    Raises:
        ValueError: no step, too many, a step without one product.
    """
    lines = [_BULLET.sub("", line.strip()) for line in re.split(r"[\n;]", text) if line.strip()]
    if not 1 <= len(lines) <= MAX_STEPS:
        raise ValueError(f"{len(lines)} steps; a route has 1 to {MAX_STEPS}")
    steps = []
    for line in lines:
        if len(line.split()) != 1:
            raise ValueError(f"a step is more than one word: {line[:60]!r}")
        reaction = split_reaction(line)
        if len(reaction.products) != 1 or not reaction.reactants:
            raise ValueError(f"a step needs reactants and one product: {line[:60]!r}")
        steps.append((reaction.reactants, reaction.products[0]))
    return steps


def check_route(text: str, target: str, stock: Collection[str] = (), max_steps: int = MAX_STEPS) -> RouteReport:
    """Check a route against its target.

    Args:
        stock: SMILES of what can be bought; without one, leaves of up to four heavy atoms are available and larger ones
            must be no larger than 70 % of the target.

    Raises:
        ValueError: the text is no route (`read_route`), or the target is no molecule.
    """
    steps = read_route(text)
    goal = canonical_smiles(target)
    try:
        known = [(tuple(canonical_smiles(one) for one in reactants), canonical_smiles(product)) for reactants, product in steps]
    except MoleculeFault as err:
        return RouteReport(len(steps), 0, str(err))
    right = 0
    fault = ""
    for reactants, product in known:
        if product in reactants:
            fault = fault or "a step whose product is a reactant"
        elif explain(reactants, product) is None:
            fault = fault or f"no template makes {product} from {'.'.join(reactants)}"
        else:
            right += 1
    made = {product for _, product in known}
    used = {reactant for reactants, _ in known for reactant in reactants}
    leaves = tuple(sorted(used - made))
    if not fault:
        fault = _whole_fault(known, goal, made, used, leaves, {canonical_smiles(one) for one in stock}, max_steps)
    return RouteReport(len(steps), right, fault, leaves)


def _whole_fault(
    known: list[tuple[tuple[str, ...], str]],
    goal: str,
    made: set[str],
    used: set[str],
    leaves: tuple[str, ...],
    stock: set[str],
    max_steps: int,
) -> str:
    if len(known) > max_steps:
        return f"{len(known)} steps, at most {max_steps}"
    if len(made) != len(known):
        return "one product is made twice"
    if goal not in made:
        return "the target is not made"
    if made - used != {goal}:
        return "a product is made and not used"
    if _has_cycle(known):
        return "the steps go round in a circle"
    for leaf in leaves:
        size, whole = read_molecule(leaf).GetNumHeavyAtoms(), read_molecule(goal).GetNumHeavyAtoms()
        if stock and leaf not in stock and size > SMALL_LEAF:
            return f"{leaf} is not in stock"
        if not stock and size > max(SMALL_LEAF, 0.7 * whole):
            return f"{leaf} is nearly the target"
    return ""


def _has_cycle(known: list[tuple[tuple[str, ...], str]]) -> bool:
    ready, rest = set(), list(known)
    made = {product for _, product in known}
    while rest:
        done = [step for step in rest if all(one not in made or one in ready for one in step[0])]
        if not done:
            return True
        ready |= {product for _, product in done}
        rest = [step for step in rest if step not in done]
    return False
