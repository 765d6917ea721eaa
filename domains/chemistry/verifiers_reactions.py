"""Verifiers for reactions, routes, conditions, equations, and the ether0 functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from factory.contracts import Sample, Status, Verdict
from factory.domains.chemistry import ether0, reasonable
from factory.domains.chemistry.equality import identity
from factory.domains.chemistry.equations import EquationFault, balance, read_equation
from factory.domains.chemistry.molecules import MoleculeFault, canonical, canonical_smiles, is_molecule, read_molecule
from factory.domains.chemistry.reactions import MAX_REACTANTS, explain
from factory.domains.chemistry.reading import mapping, truth
from factory.domains.chemistry.routes import check_route
from factory.domains.chemistry.screening import screen_of
from factory.rewards.reader import AnswerReader, graded, judged, unparsable
from factory.rewards.sets import overlap, read_items

MAX_ROUTE_CHARS = 8_000
NEAR = 0.4
"""Most that a route earns whose steps hold in part, or hold and miss the target."""


@dataclass(frozen=True)
class RetroAnswer(AnswerReader):
    """1 when the reactants `A.B` make the product: they are the known set, or a template run forward on them gives it.

    Reference: {"product": SMILES, "reactants": [SMILES] or absent, "template": name or absent}. The product among the
    reactants earns 0.
    """

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is faulty."""
        asked = mapping(sample, "product")
        product = canonical(truth(asked["product"], sample))
        known = asked.get("reactants") or []
        known = sorted(
            canonical(truth(one, sample)) for text in ([known] if isinstance(known, str) else known) for one in text.split(".")
        )
        want = ".".join(known) or f"reactants of {product}"
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            return answer
        try:
            whole = read_molecule(answer.replace(";", "."))
            got = sorted(canonical_smiles(one) for one in canonical(whole).split("."))
        except MoleculeFault as err:
            return unparsable(str(err), want)
        entry = screen_of(sample.meta).hit(whole)
        if entry:
            return Verdict(0.0, Status.wrong, f"refused by the screening list ({entry})")
        shown = f"got {'.'.join(got)}, want {want}"
        if product in got:
            return Verdict(0.0, Status.wrong, f"the product is among its reactants; {shown}")
        if got == known:
            return Verdict(1.0, Status.ok, f"the known reactants: {shown}", {"exact": 1.0})
        if len(got) > MAX_REACTANTS:
            return Verdict(0.0, Status.wrong, f"{len(got)} reactants, at most {MAX_REACTANTS}")
        names = [str(asked["template"])] if asked.get("template") else ()
        name = explain(got, product, names)
        return Verdict(
            float(name is not None),
            Status.ok if name else Status.wrong,
            f"{name or 'no template makes it'}: {shown}",
            {"exact": 0.0},
        )


@dataclass(frozen=True)
class RouteAnswer(AnswerReader):
    """A synthesis plan, step by step (`routes.py`). Reference: {"target": SMILES, "stock": [SMILES], "max_steps": n}.

    A whole route earns 1; otherwise 0.4 of the share of steps that hold, so that right chemistry that misses the target
    earns less than the gate.
    """

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is faulty."""
        asked = mapping(sample, "target")
        target = canonical(truth(asked["target"], sample))
        for one in asked.get("stock") or ():
            truth(one, sample)
        answer = self.answer(completion, f"a route to {target}", MAX_ROUTE_CHARS)
        if isinstance(answer, Verdict):
            return answer
        try:
            report = check_route(answer, target, asked.get("stock") or (), int(asked.get("max_steps", 12)))
        except ValueError as err:
            return unparsable(str(err), f"a route to {target}")
        parts = {"steps": float(report.num_steps), "right_steps": float(report.num_right)}
        if not report.fault:
            if screen_of(sample.meta).hit_in([target, *report.leaves]):
                return Verdict(0.0, Status.wrong, "refused by the screening list", parts)
            return Verdict(1.0, Status.ok, f"{report.num_steps} steps lead to {target}", parts)
        # Right steps of a route that never names the target pay nothing: else any right reaction would do.
        score = NEAR * report.num_right / report.num_steps if target in answer else 0.0
        return Verdict(score, Status.wrong, f"{report.fault}; {report.num_right} of {report.num_steps} steps hold", parts)


@dataclass(frozen=True)
class ConditionsAnswer(AnswerReader):
    """F1 of the named reagents, catalysts and solvents with the reference's; SMILES are compared as molecules, names as text.

    Reference: a list of SMILES or names, or one text that lists them.
    """

    threshold: float = 1.0

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference names nothing."""
        reference = sample.reference
        try:
            items = _items(reference) if isinstance(reference, str) else [str(one) for one in reference]
        except (TypeError, ValueError) as err:
            raise ValueError(f"sample {sample.id}: the reference is no list of conditions: {err}") from err
        wanted = {key for one in items for key in _keys(one)}
        if not wanted:
            raise ValueError(f"sample {sample.id}: the reference names no condition")
        want = ", ".join(items)
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            return answer
        try:
            got = {key for one in _items(answer) for key in _keys(one)}
        except ValueError as err:
            return unparsable(str(err), want)
        if not got:
            return unparsable("no condition", want)
        parts = {"precision": overlap(got, wanted, "precision"), "recall": overlap(got, wanted, "recall")}
        return graded(overlap(got, wanted, "f1"), self.threshold, f"got {answer[:120]!r}, want {want[:120]!r}", parts)


def _items(text: str) -> list[str]:
    """The items of a list as written. A SMILES that begins with `[` is no JSON list. Raises ValueError."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return read_items(f", {text}")
    return read_items(text)


def _keys(item: str) -> list[str]:
    """What an item names: each fragment of a SMILES, or the normalised text."""
    text = item.strip()
    if is_molecule(text):
        return [identity(part) for part in canonical_smiles(text).split(".")]
    plain = "".join(char for char in text.casefold() if char.isalnum())
    return [f"name:{plain}"] if plain else []


@dataclass(frozen=True)
class EquationAnswer(AnswerReader):
    """1 when the equation is balanced, in smallest whole numbers, and has exactly the asked species on each side.

    Reference: the unbalanced equation (`Fe + O2 -> Fe2O3`) or a balanced one; the right coefficients are computed.
    """

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is no equation that can be balanced."""
        try:
            asked = read_equation(str(sample.reference))
            want = balance([name for _, name in asked.left], [name for _, name in asked.right])
        except EquationFault as err:
            raise ValueError(f"sample {sample.id}: the reference cannot be balanced: {err}") from err
        answer = self.answer(completion, str(want))
        if isinstance(answer, Verdict):
            return answer
        try:
            got = read_equation(answer)
        except EquationFault as err:
            return unparsable(str(err), str(want))
        if got.species != want.species:
            return Verdict(0.0, Status.wrong, f"other species: got {str(got)[:80]!r}, want {str(want)[:80]!r}")
        parts = {"imbalance": float(sum(abs(value) for value in got.imbalance().values()))}
        verdict = judged(got.coefficient_map() == want.coefficient_map(), str(got), str(want))
        return Verdict(verdict.score, verdict.status, verdict.reason, parts)


@dataclass(frozen=True)
class Ether0Answer(AnswerReader):
    """The ether0 function that the reference names: {"function": name, "info": answer info, "stock": [SMILES] or absent}.

    `original=True` judges as released, faults included, for comparison with published numbers.
    """

    original: bool = False
    soft: bool = False

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises ValueError when the reference is faulty."""
        asked = mapping(sample, "function", "info")
        function = str(asked["function"])
        if function not in ether0.FUNCTIONS:
            raise ValueError(
                f"sample {sample.id}: there is no ether0 function {function!r}; known: {', '.join(ether0.FUNCTIONS)}"
            )
        want = f"{function} {str(asked['info'])[:60]}"
        answer = self.answer(completion, want)
        if isinstance(answer, Verdict):
            return answer
        setting = ether0.Setting(
            self.original, self.soft, reasonable.seen_of(sample.meta),
            frozenset(canonical(truth(one, sample)) for one in asked.get("stock") or ()),
        )  # fmt: skip
        if function in ether0.MAKES_MOLECULES | {"rxn_forward"}:
            entry = screen_of(sample.meta).hit_in([*answer.replace(">", ".").split("."), answer])
            if entry:
                return Verdict(0.0, Status.wrong, f"refused by the screening list ({entry})")
        score, why = ether0.run(function, answer, asked["info"], setting)
        parts: dict[str, float] = {}
        if score == 1.0 and function in ether0.OPEN_ENDED and is_molecule(answer):
            parts["good"] = float(not reasonable.reos_hits(read_molecule(answer)))
        if why is ether0.Why.invalid_molecule:
            return unparsable(f"{why.value} {answer[:60]!r}", want)
        return Verdict(
            score, Status.ok if score == 1.0 else Status.wrong, f"{why.value}: got {answer[:80]!r}, want {want!r}", parts
        )


def gold_of(reference: Mapping[str, object]) -> str | None:
    """An answer that an ether0 function pays in full, where the reference itself holds one."""
    function, info = str(reference["function"]), reference["info"]
    return (
        str(info)
        if function in ("str_eval", "rxn_eval", "product_eval", "caption_eval", "formula_eval", "should_not_answer")
        else None
    )
