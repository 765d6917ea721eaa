"""Verifiers whose answer is a molecule or a formula. Every answered molecule also passes the screening list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rdkit import Chem

from factory.contracts import Sample, Status, Verdict
from factory.domains.chemistry import reasonable
from factory.domains.chemistry.equality import DEFAULT_LEVEL, LEVELS, identity
from factory.domains.chemistry.formulas import FormulaFault, formula_of, hill, read_formula
from factory.domains.chemistry.groups import count_group, count_smarts, group_named, without_group
from factory.domains.chemistry.molecules import MoleculeFault, canonical, fragments, quiet, tanimoto
from factory.domains.chemistry.objectives import combined, objectives_of, spec_of
from factory.domains.chemistry.properties import count_of, generic_scaffold, property_name, property_of, scaffold
from factory.domains.chemistry.reading import MoleculeReader, mapping, truth
from factory.domains.chemistry.screening import check_directions, refused
from factory.rewards.reader import AnswerReader, graded, judged, one_of, unparsable

MAX_EXTRA_ATOMS = 5
"""Heavy atoms beside the main fragment (a counter-ion) that the rule `largest` allows."""


def _wrong(reason: str, parts: Mapping[str, float] | None = None) -> Verdict:
    return Verdict(0.0, Status.wrong, reason, dict(parts or {}))


@dataclass(frozen=True)
class MoleculeEquals(MoleculeReader):
    """1 when the answer is the reference molecule, at a named level of equality (`meta["level"]`, else `level`).

    `rule` (`meta["rule"]`): `exact` compares everything; `largest` compares the fragments with most heavy atoms and allows one
    small fragment beside it (ether0's product, with heavy atoms in place of the length of the text).
    """

    level: str = DEFAULT_LEVEL
    rule: str = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "level", self.level, LEVELS)
        one_of(self.name, "rule", self.rule, ("exact", "largest"))

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is no molecule, or the sample asks for an unknown level or rule."""
        level, rule = str(sample.meta.get("level", self.level)), str(sample.meta.get("rule", self.rule))
        if level not in LEVELS or rule not in ("exact", "largest"):
            raise ValueError(f"sample {sample.id}: level {level!r} or rule {rule!r} is unknown; levels are {', '.join(LEVELS)}")
        want = self._part(truth(sample.reference, sample), rule)
        mol = self.molecule(completion, canonical(want))
        if isinstance(mol, Verdict):
            return mol
        told = refused(mol, sample)
        if told:
            return _wrong(told)
        if rule == "largest":
            parts = fragments(mol)
            if len(parts) > reasonable.MAX_FRAGMENTS or any(p.GetNumHeavyAtoms() > MAX_EXTRA_ATOMS for p in parts[1:]):
                return _wrong(f"{len(parts)} fragments; one molecule is wanted, and at most a counter-ion")
        got = self._part(mol, rule)
        likeness = tanimoto(got, want)
        is_right = identity(canonical(got), level) == identity(canonical(want), level)
        verdict = judged(is_right, canonical(mol), canonical(want))
        return Verdict(verdict.score, verdict.status, f"{verdict.reason} ({level})", {"tanimoto": likeness})

    @staticmethod
    def _part(mol: Any, rule: str) -> Any:
        return fragments(mol)[0] if rule == "largest" else mol


@dataclass(frozen=True)
class FormulaAnswer(AnswerReader):
    """1 when the answer has the reference's elements, counts and charge, in any order. The reference is a formula."""

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is no formula."""
        try:
            want = read_formula(str(sample.reference))
        except FormulaFault as err:
            raise ValueError(f"sample {sample.id}: the reference is no formula: {err}") from err
        answer = self.answer(completion, hill(*want))
        if isinstance(answer, Verdict):
            return answer
        try:
            got = read_formula(answer)
        except FormulaFault as err:
            return unparsable(str(err), hill(*want))
        return judged(got == want, hill(*got), hill(*want))


@dataclass(frozen=True)
class EditAnswer(MoleculeReader):
    """A group added, removed or exchanged. Reference: {"start": SMILES, "add": group or absent, "remove": group or absent}.

    `rule`: `counts` is the published rule of ChemCoTBench and TOMG-Bench (counts change by exactly one as asked, valid molecule);
    it also pays for an unrelated molecule. `kept` (default) further wants the rest of the start to be there still, or the very
    molecule of `meta["gold"]` (references of the benchmarks do not all keep the rest).
    """

    rule: str = "kept"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "rule", self.rule, ("counts", "kept"))

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference names no start, no group or an unknown one."""
        asked = mapping(sample, "start")
        start = truth(asked["start"], sample)
        add, remove = self._group(asked, "add", sample), self._group(asked, "remove", sample)
        if not add and not remove:
            raise ValueError(f"sample {sample.id}: the reference asks for neither `add` nor `remove`")
        want = " and ".join(f"{deed} {name}" for deed, name in (("remove", remove), ("add", add)) if name)
        mol = self.molecule(completion, want)
        if isinstance(mol, Verdict):
            return mol
        told = refused(mol, sample)
        if told:
            return _wrong(told)
        changes = {name: count_group(mol, name) - count_group(start, name) for name in (add, remove) if name}
        parts = {f"change_{name}": float(change) for name, change in changes.items()}
        parts["tanimoto"] = tanimoto(mol, start)
        for name, change in changes.items():
            if change != (1 if name == add else -1):
                return _wrong(f"{name} changes by {change:+d}; want to {want}", parts)
        if self.rule == "kept" and not _is_gold(mol, sample):
            fault = _kept_fault(start, mol, add, remove)
            if fault:
                return _wrong(f"{fault}; want to {want} and keep the rest", parts)
        return Verdict(1.0, Status.ok, f"{canonical(mol)}: did {want}", parts)

    @staticmethod
    def _group(asked: Mapping[str, Any], key: str, sample: Sample) -> str:
        if not asked.get(key):
            return ""
        try:
            return group_named(asked[key]).name
        except KeyError as err:
            raise ValueError(f"sample {sample.id}: {err.args[0]}") from err


def _is_gold(mol: Any, sample: Sample) -> bool:
    gold = sample.meta.get("gold")
    return gold is not None and canonical(mol) == canonical(truth(gold, sample))


SLACK = 4
"""Heavy atoms by which an added or removed group may differ from its usual fragment (an amide may carry more than C(=O)N)."""


def _kept_fault(start: Any, mol: Any, add: str, remove: str) -> str:
    """Why an edit does not keep the rest of its start; empty when it does. Stereo is not compared."""
    with quiet():
        if len(Chem.GetMolFrags(mol)) > len(Chem.GetMolFrags(start)):
            return "more fragments than the start has"
        if add and not remove:
            grown = mol.GetNumHeavyAtoms() - start.GetNumHeavyAtoms()
            if grown > group_named(add).size + SLACK:
                return f"{grown} heavy atoms more, too many for one {add}"
            return "" if mol.HasSubstructMatch(start) else "the start is not part of the answer"
        cores = [Chem.MolFromSmiles(text) for text in sorted(_cores(canonical(start), remove))]
        if not add:
            if cores:
                is_core = any(canonical(core, is_isomeric=False) == canonical(mol, is_isomeric=False) for core in cores)
                return "" if is_core else f"the answer is not the start less one {remove}"
            lost = start.GetNumHeavyAtoms() - mol.GetNumHeavyAtoms()
            if not 0 < lost <= group_named(remove).size + SLACK:
                return f"{lost} heavy atoms less, not those of one {remove}"
            return "" if start.HasSubstructMatch(mol) else "the answer is not part of the start"
        grown = mol.GetNumHeavyAtoms() - start.GetNumHeavyAtoms()
        if abs(grown) > group_named(add).size + group_named(remove).size + SLACK:
            return f"{grown:+d} heavy atoms, too many for one exchange"
        if not cores:  # no rule cuts this group: most of the start must be alike
            return "" if tanimoto(mol, start) >= 0.4 else "the answer is little like the start"
        return (
            "" if any(mol.HasSubstructMatch(core) for core in cores) else "the start without the group is not part of the answer"
        )


def _cores(smiles: str, name: str) -> frozenset[str]:
    try:
        return without_group(smiles, name)
    except ValueError:
        return frozenset()


@dataclass(frozen=True)
class ComposeAnswer(MoleculeReader):
    """1 when a molecule meets every constraint of its reference, a mapping of any of:

    `formula` (text), `groups` (name -> count), `atoms` (element -> count), `counts` (rings, donors ... -> count),
    `bonds` (single/double/triple/rotatable/aromatic -> count, zeros not asked), `contains` (SMILES), `avoid` (SMILES).
    Counts are exact, so that one molecule with everything in it does not win. Reasonable fragments only.
    """

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference holds no constraint, or an unknown or faulty one."""
        asked = {key: value for key, value in mapping(sample).items() if value}
        unknown = set(asked) - {"formula", "groups", "atoms", "counts", "bonds", "contains", "avoid"}
        if not asked or unknown:
            raise ValueError(f"sample {sample.id}: " + (f"unknown constraints {sorted(unknown)}" if unknown else "no constraint"))
        mol = self.molecule(completion, str(asked))
        if isinstance(mol, Verdict):
            return mol
        told = refused(mol, sample)
        if told:
            return _wrong(told)
        faults, total = [], 0
        for what, is_met in self._checks(mol, asked, sample):
            total += 1
            if not is_met:
                faults.append(what)
        odd = reasonable.fault(mol, reasonable.seen_of(sample.meta))
        parts = {"met": (total - len(faults)) / total, "reasonable": float(odd is None)}
        if faults or odd:
            return _wrong(f"{canonical(mol)}: {'; '.join(faults) or f'not reasonable ({odd})'}", parts)
        return Verdict(1.0, Status.ok, f"{canonical(mol)} meets all {total} constraints", parts)

    def _checks(self, mol: Any, asked: Mapping[str, Any], sample: Sample) -> list[tuple[str, bool]]:
        found: list[tuple[str, bool]] = []
        try:
            atoms, charge = formula_of(mol)
            if "formula" in asked:
                found.append(
                    (
                        f"formula {hill(atoms, charge)}, want {asked['formula']}",
                        (atoms, charge) == read_formula(str(asked["formula"])),
                    )
                )
            for element, number in dict(asked.get("atoms") or {}).items():
                found.append((f"{atoms.get(element, 0)} {element}, want {number}", atoms.get(element, 0) == int(number)))
            for name, number in dict(asked.get("groups") or {}).items():
                got = count_group(mol, name)
                found.append((f"{got} {name}, want {number}", got == int(number)))
            for name, number in dict(asked.get("counts") or {}).items():
                got = count_of(mol, name)
                found.append((f"{got} {name}, want {number}", got == int(number)))
            for kind, number in dict(asked.get("bonds") or {}).items():
                got = count_smarts(mol, BONDS[str(kind)])
                found.append((f"{got} {kind} bonds, want {number}", int(number) == 0 or got == int(number)))
        except (KeyError, TypeError, ValueError) as err:
            raise ValueError(f"sample {sample.id}: a constraint is faulty: {err}") from err
        for key, should in (("contains", True), ("avoid", False)):
            if key in asked:
                part = truth(asked[key], sample)
                found.append((f"{key} {asked[key]} is not kept", mol.HasSubstructMatch(part) == should))
        return found


BONDS = {
    "single": "*-*", "double": "*=*", "triple": "*#*", "aromatic": "*:*", "rotatable": "[!$(*#*)&!D1]-&!@[!$(*#*)&!D1]",
}  # fmt: skip
"""TOMG-Bench's kinds of bonds."""


@dataclass(frozen=True)
class PropertyGoal(MoleculeReader):
    """A property moved as asked. Reference: {"start": SMILES, "property": name, "direction": "up" or "down", ...} with

    `delta`: change that earns the full score (less earns its share; 0 makes any gain right, the published success rule);
    `similarity`: least Tanimoto likeness to the start; `scaffold`: `exact`, `generic` (soft) or absent. A repeated start earns 0.
    Hazards cannot be raised (`screening.HAZARDS`).
    """

    delta: float = 0.5
    similarity: float = 0.3

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is faulty, ConfigError when it asks for a hazard or an unknown property."""
        asked = mapping(sample, "start", "property", "direction")
        start, name, direction = truth(asked["start"], sample), property_name(asked["property"]), str(asked["direction"])
        if direction not in ("up", "down"):
            raise ValueError(f"sample {sample.id}: direction is {direction!r}; want up or down")
        check_directions({}, seek=[name] if direction == "up" else [])
        delta = float(asked.get("delta", self.delta))
        want = f"{name} {direction} by {delta:g}"
        mol = self.molecule(completion, want, max_fragments=1)
        if isinstance(mol, Verdict):
            return mol
        told = refused(mol, sample)
        if told:
            return _wrong(told)
        change = property_of(mol, name) - property_of(start, name)
        gain = change if direction == "up" else -change
        likeness = tanimoto(mol, start)
        parts = {"change": change, "tanimoto": likeness, "scaffold": float(scaffold(mol) == scaffold(start))}
        if canonical(mol) == canonical(start):
            return _wrong(f"the start itself; want {want}", parts)
        bound = float(asked.get("similarity", self.similarity))
        if likeness < bound:
            return _wrong(f"likeness {likeness:.2f}, at least {bound:g} is wanted", parts)
        keep = asked.get("scaffold")
        frame = {"exact": scaffold, "generic": generic_scaffold}.get(str(keep)) if keep else None
        if keep and frame is None:
            raise ValueError(f"sample {sample.id}: scaffold is {keep!r}; want exact or generic")
        if frame is not None and frame(mol) != frame(start):
            return _wrong("the scaffold is not kept", parts)
        reason = f"{canonical(mol)}: {name} {change:+.3f}, want {want}"
        if gain <= 0:
            return _wrong(reason, parts)
        return graded(1.0 if delta <= 0 else gain / delta, 1.0, reason, parts)


@dataclass(frozen=True)
class ObjectivesAnswer(MoleculeReader):
    """Several properties at once, after PaccMann^RL; see `objectives.py` for the reference. Score = sum / target, at most 1.

    `contains` (SMILES) ties a sample to its own molecules: without it, one good molecule answers every sample.
    """

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is faulty, PluginError when an oracle cannot be loaded."""
        recipe, weights, oracles, target = spec_of(sample.reference)
        want = f"{recipe} score of {target:g}"
        mol = self.molecule(completion, want, max_fragments=1)
        if isinstance(mol, Verdict):
            return mol
        told = refused(mol, sample)
        if told:
            return _wrong(told)
        if sample.reference.get("contains") and not mol.HasSubstructMatch(truth(sample.reference["contains"], sample)):
            return _wrong(f"{canonical(mol)} does not contain {sample.reference['contains']}")
        odd = reasonable.fault(mol, reasonable.seen_of(sample.meta))
        if odd:
            return _wrong(f"not reasonable ({odd})")
        values = objectives_of(mol, recipe, weights, oracles)
        score, published = combined(values, weights)
        return graded(score / target, 1.0, f"{canonical(mol)}: {score:.3f}, want {want}", {**values, "published": published})


@dataclass(frozen=True)
class Validity(MoleculeReader):
    """1 when the answer is a molecule, whatever it is: a figure for evals, never a reward (any molecule would earn it)."""

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """`wrong` never occurs: a text is a molecule or unparsable."""
        mol = self.molecule(completion, "a molecule")
        return mol if isinstance(mol, Verdict) else Verdict(1.0, Status.ok, f"{canonical(mol)} is a molecule")


@dataclass(frozen=True)
class Likeness(MoleculeReader):
    """Tanimoto likeness to the reference molecule, or to the start of an edit; `kind` is morgan, maccs or rdk. For evals."""

    kind: str = "morgan"

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the sample has no molecule to compare with."""
        text = sample.reference
        if isinstance(text, Mapping):
            text = text.get("start") or sample.meta.get("gold")
        want = truth(text, sample)
        mol = self.molecule(completion, canonical(want))
        if isinstance(mol, Verdict):
            return mol
        likeness = tanimoto(mol, want, self.kind)
        return graded(likeness, 1.0, f"{canonical(mol)}: {self.kind} likeness {likeness:.3f} to {canonical(want)}")


__all__ = [
    "ComposeAnswer", "EditAnswer", "FormulaAnswer", "Likeness", "MoleculeEquals", "MoleculeFault", "ObjectivesAnswer", "PropertyGoal",
    "Validity",
]  # fmt: skip
