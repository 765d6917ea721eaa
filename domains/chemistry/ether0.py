"""The reward functions of ether0 (FutureHouse, Apache-2.0) after their published rules: mended, and as released by `original=True`.

Mended faults: (1) the largest-fragment helper of the original ignores fragments whose SMILES has at most three characters, so a
true product CCO, CO or O scores 0; here heavy atoms decide. (2) The original hands text straight to RDKit, which reads
"CCO the answer" as ethanol; here prose, wildcards and giant input are refused first.
Each function returns (score, why); `why` is a name of `Why`, kept beside the reward.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rdkit import Chem

from factory.domains.chemistry import reactions, reasonable
from factory.domains.chemistry.formulas import FormulaFault, formula_of, read_formula
from factory.domains.chemistry.groups import ALIASES, groups_of
from factory.domains.chemistry.molecules import MAX_CHARS, MoleculeFault, canonical, fragments, quiet, read_molecule, tanimoto
from factory.domains.chemistry.properties import esol

SIMILAR = 0.7
SOLUBILITY_TOLERANCE = 0.49
"""0.5 - 0.01, so that repeating the input fails."""
MAX_HEAVY_CHANGE = 0.2
SMALL_REACTANT = 4
"""Heavy atoms up to which a reactant counts as purchasable."""


class Why(StrEnum):
    """Why an answer earned what it did; ether0's failure reasons."""

    valid = "right"
    wrong = "wrong answer"
    invalid_molecule = "invalid molecule"
    invalid_truth = "invalid ground truth"
    several_molecules = "wrong number of molecules"
    wrong_formula = "wrong formula"
    wrong_groups = "missing functional group"
    wrong_start = "does not start with the given part"
    not_similar = "not similar enough"
    constraint = "constraint not met"
    counter_ion = "failed counter-ion check"
    ring = "failed ring check"
    environment = "failed environment check"
    wrong_property = "property off target"
    bad_reaction = "no valid reaction"
    not_purchasable = "a reactant is not purchasable"
    wrong_product = "wrong product"


@dataclass(frozen=True)
class Setting:
    """How a function judges."""

    original: bool = False
    soft: bool = False
    """Part marks for likeness, as in ether0's training."""
    seen: reasonable.Seen | None = None
    stock: frozenset[str] = frozenset()
    """Canonical SMILES that can be bought."""


Result = tuple[float, Why]


def _molecule(text: str, setting: Setting) -> Any:
    if not setting.original:
        return read_molecule(text)
    # As released: RDKit takes what follows a blank as a name. Length is still bounded.
    with quiet():
        mol = Chem.MolFromSmiles(text) if 0 < len(text) <= MAX_CHARS else None
    return mol if mol is not None else read_molecule("")


def _largest(mol: Any, setting: Setting) -> str:
    """SMILES of the part that counts. The original drops those of at most three characters, and returns an empty text when none is left."""
    if not setting.original:
        return canonical(fragments(mol)[0])
    parts = [part for part in canonical(mol).split(".") if len(part) > 3]
    return max(parts, key=len, default="")


def _truth(text: str) -> Any:
    try:
        return read_molecule(text)
    except MoleculeFault as err:
        raise ValueError(f"the ground truth is no molecule: {err}") from err


def _reasonable(mol: Any, setting: Setting) -> Why | None:
    found = reasonable.fault(mol, setting.seen)
    return {"counter-ion": Why.counter_ion, "ring": Why.ring, "environment": Why.environment}[found] if found else None


def normalised_name(text: str) -> str:
    """ether0's IUPAC normalisation: case, `^{n}`, braces, `$ ~ ^`, brackets around a whole name, spaces as hyphens."""
    text = re.sub(r"\^\{([^{}]*)\}", r"^(\1)", text.strip().casefold())
    text = re.sub(r"[$~^]", "", re.sub(r"\{([^{}]*)\}", r"\1", text))
    while text.startswith(("(", "[")) and text.endswith((")", "]")) and _wraps(text):
        text = text[1:-1]
    return re.sub(r"\s+", "-", text.strip())


def _wraps(text: str) -> bool:
    depth = 0
    for index, char in enumerate(text):
        depth += (char in "([") - (char in ")]")
        if depth == 0:
            return index == len(text) - 1
    return False


def _dashless(text: str) -> str:
    return "".join(char for char in text if unicodedata.category(char) != "Pd" and char != "\u2212")


def str_eval(answer: str, info: Any, setting: Setting) -> Result:
    """Equal after the normalisation of names."""
    is_right = bool(normalised_name(answer)) and normalised_name(answer) == normalised_name(str(info))
    return float(is_right), Why.valid if is_right else Why.wrong


def rxn_eval(answer: str, info: Any, setting: Setting) -> Result:
    """As `str_eval`, and once more with all dashes removed."""
    got, want = normalised_name(answer), normalised_name(str(info))
    is_right = bool(_dashless(got)) and (got == want or _dashless(got) == _dashless(want))
    return float(is_right), Why.valid if is_right else Why.wrong


def valid_mol_eval(answer: str, info: Any, setting: Setting) -> Result:
    """The answer, or the given start and the answer, is a reasonable molecule that begins with the given start."""
    start, failed = str(info or ""), Why.invalid_molecule
    for text in (answer, start + answer):
        if not text.strip().startswith(start):
            failed = Why.wrong_start
            continue
        if text.strip() == start and start and not setting.original:
            failed = Why.wrong_start  # nothing was completed
            continue
        try:
            mol = _molecule(text, setting)
        except MoleculeFault:
            failed = Why.invalid_molecule
            continue
        fault = _reasonable(mol, setting)
        if fault is None:
            return 1.0, Why.valid
        failed = fault
    return 0.0, failed


def product_eval(answer: str, info: Any, setting: Setting) -> Result:
    """The largest fragments are the same molecule. Soft: their Tanimoto likeness."""
    truth = _largest(_truth(str(info)), setting)
    mol = _molecule(answer, setting)
    got = _largest(mol, setting)
    if got and got == truth:
        return 1.0, Why.valid
    if setting.soft and got and truth:
        return tanimoto(read_molecule(got), read_molecule(truth)), Why.wrong
    return 0.0, Why.wrong


def formula_eval(answer: str, info: Any, setting: Setting) -> Result:
    """The same formula as the target, reasonable, and at least 0.7 alike. Soft: 0.5 when only the likeness lacks."""
    truth = _truth(str(info))
    mol = _molecule(answer, setting)
    if _formula(mol) != _formula(truth):
        return 0.0, Why.wrong_formula
    fault = _reasonable(mol, setting)
    if fault is not None:
        return 0.0, fault
    if tanimoto(mol, truth) >= SIMILAR:
        return 1.0, Why.valid
    return (0.5 if setting.soft else 0.0), Why.not_similar


def _formula(mol: Any) -> Any:
    try:
        return formula_of(mol)
    except FormulaFault:
        return None


def functional_group_eval(answer: str, info: Any, setting: Setting) -> Result:
    """Info is (formula, [groups]): the formula, reasonable, and all groups. Soft: 0.5 when only the groups lack."""
    formula, groups = _listed(info, 2)
    wanted = {ALIASES.get(name, name.replace(" ", "_")) for name in (str(group).casefold() for group in groups)}
    try:
        truth = read_formula(str(formula))
    except FormulaFault as err:
        raise ValueError(f"the ground truth is no formula: {err}") from err
    mol = _molecule(answer, setting)
    if _formula(mol) != truth:
        return 0.0, Why.wrong_formula
    fault = _reasonable(mol, setting)
    if fault is not None:
        return 0.0, fault
    if wanted <= groups_of(mol):
        return 1.0, Why.valid
    return (0.5 if setting.soft else 0.0), Why.wrong_groups


def sol_eval(answer: str, info: Any, setting: Setting) -> Result:
    """Info is (constraint, value, target): one molecule that keeps the constraint, is reasonable, and has |logS - target| <= 0.49.

    `scaffold`: contains the value; `groups`: has any of them; `tanimoto`: at least 0.7 alike and heavy atoms within 20 %.
    """
    kind, value, target = _listed(info, 3)
    mol = _molecule(answer, setting)
    if "." in canonical(mol):
        return 0.0, Why.several_molecules
    if kind == "scaffold":
        holds = mol.HasSubstructMatch(_truth(str(value)))
    elif kind == "groups":
        holds = bool({ALIASES.get(str(name).casefold(), str(name).casefold()) for name in value} & groups_of(mol))
    elif kind == "tanimoto":
        start = _truth(str(value))
        change = abs(mol.GetNumHeavyAtoms() - start.GetNumHeavyAtoms()) / start.GetNumHeavyAtoms()
        holds = tanimoto(mol, start) >= SIMILAR and change <= MAX_HEAVY_CHANGE
    else:
        raise ValueError(f"the constraint {kind!r} is not one of scaffold, groups, tanimoto")
    if not holds:
        return 0.0, Why.constraint
    fault = _reasonable(mol, setting)
    if fault is not None:
        return 0.0, fault
    is_right = abs(esol(mol) - float(target)) <= SOLUBILITY_TOLERANCE
    return float(is_right), Why.valid if is_right else Why.wrong_property


def rxn_forward(answer: str, info: Any, setting: Setting) -> Result:
    """`reactants>reagents>[product]` whose forward model makes the target. The forward model is the pack's templates. Soft: likeness."""
    target = canonical(_truth(str(info)))
    if answer.count(">") > 2 or "." not in answer or len(answer) > 4 * MAX_CHARS or len(answer.split()) != 1:
        return 0.0, Why.bad_reaction
    parts = ([*answer.split(">"), "", ""])[:3]
    sides = [[canonical(read_molecule(text)) for text in part.split(".") if text] for part in parts]
    if sides[2] and target not in sides[2]:
        return 0.0, Why.wrong_product
    if target in sides[0] or target in sides[1] or not sides[0]:
        return 0.0, Why.bad_reaction
    for text in sides[0]:
        if text not in setting.stock and read_molecule(text).GetNumHeavyAtoms() > SMALL_REACTANT and setting.stock:
            return 0.0, Why.not_purchasable
    made = {product for name in reactions.TEMPLATES for product in reactions.products_of(tuple(sides[0]), name)}
    if target in made:
        return 1.0, Why.valid
    if setting.soft and made:
        return max(tanimoto(read_molecule(product), read_molecule(target)) for product in made), Why.wrong_product
    return 0.0, Why.wrong_product


def should_answer(answer: str, info: Any, setting: Setting) -> Result:
    """A valid molecule was given."""
    _molecule(answer, setting)
    return 1.0, Why.valid


def should_not_answer(answer: str, info: Any, setting: Setting) -> Result:
    """The refusal is the gold text."""
    is_right = bool(answer.strip()) and answer.strip() == str(info).strip()
    return float(is_right), Why.valid if is_right else Why.wrong


FUNCTIONS: Mapping[str, Callable[[str, Any, Setting], Result]] = {
    "str_eval": str_eval, "rxn_eval": rxn_eval, "valid_mol_eval": valid_mol_eval, "product_eval": product_eval,
    "caption_eval": product_eval, "formula_eval": formula_eval, "functional_group_eval": functional_group_eval,
    "sol_eval": sol_eval, "rxn_forward": rxn_forward, "should_answer": should_answer, "should_not_answer": should_not_answer,
}  # fmt: skip
OPEN_ENDED = frozenset({"valid_mol_eval", "formula_eval", "functional_group_eval", "sol_eval"})
"""Functions with many right answers, for which ether0 adds its bonus for a good molecule to a reward of exactly 1."""
MAKES_MOLECULES = OPEN_ENDED | {"product_eval", "caption_eval", "should_answer"}


def run(function: str, answer: str, info: Any, setting: Setting) -> Result:
    """Score one answer. Raises ValueError when the ground truth is faulty, KeyError for an unknown function."""
    try:
        return FUNCTIONS[function](answer, info, setting)
    except MoleculeFault:
        return 0.0, Why.invalid_molecule


def _listed(info: Any, length: int) -> list[Any]:
    """The parts of a compound answer info, from a list or the text of one (JSON or Python)."""
    if isinstance(info, str):
        try:
            info = json.loads(info)
        except ValueError:
            import ast

            try:
                info = ast.literal_eval(info[:4000])
            except (ValueError, SyntaxError, MemoryError, RecursionError) as err:
                raise ValueError(f"the answer info {info[:80]!r} is no list of {length}") from err
    if not isinstance(info, list | tuple) or len(info) != length:
        raise ValueError(f"the answer info {info!r:.80} is no list of {length}")
    return list(info)


def split_solution(solution: str) -> tuple[str, str, str]:
    """(function, answer info, problem type) of a row's `solution`: "function!:!answer_info!:!problem_type". Raises ValueError."""
    parts = solution.split("!:!")
    if len(parts) != 3 or parts[0] not in FUNCTIONS:
        raise ValueError(f"no ether0 solution (function!:!answer_info!:!problem_type): {solution[:80]!r}")
    return parts[0], parts[1], parts[2]
