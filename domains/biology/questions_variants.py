"""Questions about variants of a coding sequence: their effect, and their HGVS names."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from factory.domains.biology.codes import amino_acid, codons
from factory.domains.biology.questions import BASES, Question, all_codons, bases, random_cds
from factory.domains.biology.variants import EFFECTS, difference, effect, name_c, name_p, spliced

TERSE_EFFECTS: Mapping[str, str] = {name: name.replace(" ", "-") for name in EFFECTS}
"""One word each, for the embedded model."""


def draw_variant(rng: random.Random, kind: str, residues: int) -> tuple[str, str]:
    """(reference, variant) of a small coding sequence with this effect; both are drawn anew until the effect is right."""
    while True:
        cds = random_cds(rng, residues)
        if kind == "splice site":
            reference, variant = _splice(rng, cds)
        else:
            reference, variant = cds, _changed(rng, cds, kind)
        if reference != variant and effect(reference, variant) == kind:
            return reference, variant


def _changed(rng: random.Random, cds: str, kind: str) -> str:
    if kind == "frameshift":
        at = rng.randrange(3, len(cds) - 3)
        if rng.random() < 0.5:
            return cds[:at] + cds[at + 1 :]
        return cds[:at] + rng.choice(BASES) + cds[at:]
    if kind == "in-frame":
        at = 3 * rng.randrange(1, len(cds) // 3 - 1)
        if rng.random() < 0.5 and len(cds) > 9:
            return cds[:at] + cds[at + 3 :]
        return cds[:at] + rng.choice(all_codons()) + cds[at:]
    first, last = {"start lost": (0, 3), "stop lost": (len(cds) - 3, len(cds))}.get(kind, (3, len(cds)))
    at = rng.randrange(first, last)
    return cds[:at] + rng.choice([base for base in BASES if base != cds[at]]) + cds[at + 1 :]


def _splice(rng: random.Random, cds: str) -> tuple[str, str]:
    """An intron GT...AG between two codons, one of whose four end bases is changed."""
    at = 3 * rng.randrange(1, len(cds) // 3)
    intron = f"gt{bases(rng, 3, 6).lower()}ag"
    place = rng.choice((0, 1, len(intron) - 2, len(intron) - 1))
    other = rng.choice([base for base in "acgt" if base != intron[place]])
    return cds[:at] + intron + cds[at:], cds[:at] + intron[:place] + other + intron[place + 1 :] + cds[at:]


def steps_of(reference: str, variant: str) -> str:
    """The working: the changed codon and what it codes for, before and after; for indels their size."""
    change = difference(reference, variant)
    assert change is not None
    kind = effect(reference, variant)
    if kind == "splice site":
        return f"intron {change.removed}>{change.inserted}"
    gained = len(spliced(variant)) - len(spliced(reference))
    if gained:
        return f"{'ins' if gained > 0 else 'del'} {abs(gained)}"
    place = (change.start - 1) // 3
    before, after = codons(reference)[place], codons(variant)[place]
    return f"{place + 1} {before} {amino_acid(before)} {after} {amino_acid(after)}"


def _effect(rng: random.Random, terse: bool) -> Question:
    kind = rng.choice(EFFECTS)
    reference, variant = draw_variant(rng, kind, rng.randint(3, 4) if terse else rng.randint(6, 14))
    change = name_c(reference, variant)
    meta = {"reference_sequence": reference, "variant_sequence": variant, "code": 1}
    if terse:
        answer = TERSE_EFFECTS[kind]
        text = f"effect {_at_codon(reference, variant)}"
        meta["labels"] = sorted(TERSE_EFFECTS.values())
    else:
        answer = kind
        text = (
            f"Coding sequence from start to stop codon (introns in lower case): {reference}\nVariant: {change}\n"
            f"Which effect does it have? One of: {', '.join(EFFECTS)}."
        )
        meta["labels"] = sorted(EFFECTS)
    return Question("effect", text, text, answer, answer, steps_of(reference, variant), meta)


def _at_codon(reference: str, variant: str) -> str:
    """A substitution as the number of its codon and the codon before and after (`2 GGT>GTT`); other changes by their HGVS name.

    It holds all that decides the effect, and not the rest of the sequence, which stays in the sample's meta.
    """
    change = difference(reference, variant)
    assert change is not None
    if len(change.removed) == len(change.inserted) == 1 and reference == spliced(reference):
        place = (change.start - 1) // 3
        return f"{place + 1} {codons(reference)[place]}>{codons(variant)[place]}"
    return name_c(reference, variant).removeprefix("c.")


def _hgvs_c(rng: random.Random, terse: bool) -> Question:
    kind = rng.choice([name for name in EFFECTS if name != "splice site" or not terse])
    reference, variant = draw_variant(rng, kind, rng.randint(3, 4) if terse else rng.randint(6, 14))
    name = name_c(reference, variant)
    change = difference(reference, variant)
    assert change is not None
    text = f"name {reference} {variant}"
    if not terse:
        text = (
            f"Reference coding sequence: {reference}\nVariant coding sequence: {variant}\n"
            "Name the variant in HGVS notation on the coding sequence (c.), position 1 being the A of the start codon."
        )
    steps = f"{change.start} {change.removed or 'none'} {change.inserted or 'none'}"
    meta = {"reference_sequence": reference, "variant_sequence": variant}
    return Question("hgvs_c", f"name {reference} {variant}", text, name, name, steps, meta)


def _hgvs_p(rng: random.Random, terse: bool) -> Question:
    kinds = ("synonymous", "missense", "nonsense", "start lost", "frameshift", "in-frame")
    kind = rng.choice(kinds[:4] if terse else kinds)
    reference, variant = draw_variant(rng, kind, rng.randint(3, 4) if terse else rng.randint(6, 14))
    name = name_p(reference, variant)
    text = f"protein {_at_codon(reference, variant)}"
    if not terse:
        text = (
            f"Coding sequence from start to stop codon: {reference}\nVariant: {name_c(reference, variant)}\n"
            "Name the predicted protein change in HGVS notation, for example p.(Gly2Val), p.(Gly2=), p.(Gln3Ter) or p.(Gly8fs)."
        )
    meta = {"reference_sequence": reference, "variant_sequence": variant, "code": 1}
    return Question("hgvs_p", text, text, name, name, steps_of(reference, variant), meta)


MAKERS: dict[str, Callable[[random.Random, bool], Question]] = {"effect": _effect, "hgvs_c": _hgvs_c, "hgvs_p": _hgvs_p}
