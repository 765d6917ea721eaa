"""Questions about sequences and pathways with their exact answers, in two styles: a few words, or sentences.

A question's `key` says what is asked apart from its wording; splits are drawn by it (see `generator`), so that no question of
one split occurs in another.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from factory.domains.biology import pathways
from factory.domains.biology.codes import amino_acid, codons, translate
from factory.domains.biology.sequences import (
    ENZYMES,
    as_dna,
    complement,
    cuts,
    fragments,
    gc_count,
    orfs,
    reverse_complement,
    transcribe,
    wallace,
)

BASES = "ACGT"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `answer` is the text of a right answer; `reference` is what verifiers compare with."""

    task: str
    key: str
    text: str
    reference: Any
    answer: str
    steps: str
    """The working that leads to the answer."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    dna_text: str = ""
    """The question with its sequences as DNA in place of what they mean, where the task has it."""


def bases(rng: random.Random, shortest: int, longest: int) -> str:
    """A random sequence; every length equally likely."""
    return "".join(rng.choices(BASES, k=rng.randint(shortest, longest)))


# --- strands ------------------------------------------------------------------------------------------------------------


def _transcribe(rng: random.Random, terse: bool) -> Question:
    dna = bases(rng, *((6, 6) if terse else (12, 40)))
    rna = transcribe(dna)
    text = f"transcribe {dna}" if terse else f"Transcribe this coding strand into mRNA, 5' to 3': {dna}"
    steps = dna if terse else "The mRNA reads like the coding strand, with U in place of T."
    return Question("transcribe", f"transcribe {dna}", text, rna, rna, steps, {"sequence": dna})


def _complement(rng: random.Random, terse: bool) -> Question:
    dna = bases(rng, *((6, 6) if terse else (12, 40)))
    other = complement(dna)
    text = f"complement {dna}" if terse else f"Write the complementary DNA strand base by base, 3' to 5': {dna}"
    steps = dna if terse else "A pairs with T and C with G; the direction is kept."
    return Question("complement", f"complement {dna}", text, other, other, steps, {"sequence": dna})


def _reverse_complement(rng: random.Random, terse: bool) -> Question:
    dna = bases(rng, *((5, 5) if terse else (12, 40)))
    other = reverse_complement(dna)
    text = f"reverse {dna}" if terse else f"Write the reverse complement of this DNA, 5' to 3': {dna}"
    steps = complement(dna) if terse else f"The complement is {complement(dna)}; read backwards it is {other}."
    return Question("reverse_complement", f"reverse {dna}", text, other, other, steps, {"sequence": dna})


def _translate(rng: random.Random, terse: bool) -> Question:
    frame, code = (rng.choice((1, 1, 2) if terse else (1, 2, 3)), rng.choice((1, 1, 1, 2)))
    read = 2 if terse else rng.randint(5, 14)
    dna = bases(rng, 3 * read + frame - 1, 3 * read + frame - 1)
    protein = translate(dna, frame, code)
    text = f"translate {code} {frame} {dna}"
    if not terse:
        text = (
            f"Translate this DNA in frame {frame} with NCBI genetic code {code}. Write one-letter amino acids and * for stop, "
            f"and read on after a stop: {dna}"
        )
    steps = " ".join(f"{codon}{amino_acid(codon, code)}" for codon in codons(dna, frame))
    meta = {"sequence": dna, "frame": frame, "code": code}
    return Question("translate", f"translate {code} {frame} {dna}", text, protein, protein, steps, meta)


# --- composition --------------------------------------------------------------------------------------------------------


def _gc(rng: random.Random, terse: bool) -> Question:
    dna = _composed(rng, 6 if terse else rng.randint(16, 40))
    count = gc_count(dna)
    text = f"gc {dna}" if terse else f"How many bases of this DNA are G or C? {dna}"
    return Question("gc", f"gc {dna}", text, count, str(count), _running(dna, lambda base: base in "GC"), {"sequence": dna})


def _melting(rng: random.Random, terse: bool) -> Question:
    dna = _composed(rng, 5 if terse else rng.randint(10, 13))
    degrees = wallace(dna)
    text = f"melt {dna}"
    if not terse:
        text = f"Give the melting temperature of this oligonucleotide by Wallace's rule, 2(A+T)+4(G+C), in degrees Celsius: {dna}"
    steps = _running(dna, lambda base: 4 if base in "GC" else 2)
    answer = str(degrees) if terse else f"{degrees} °C"
    return Question("melting", f"melt {dna}", text, {"value": degrees, "unit": "degC"}, answer, steps, {"sequence": dna})


def _composed(rng: random.Random, length: int) -> str:
    """A sequence whose number of G and C is drawn first, so that numbers in the middle are not the only frequent ones."""
    count = rng.randint(0, length)
    letters = [rng.choice("GC") for _ in range(count)] + [rng.choice("AT") for _ in range(length - count)]
    rng.shuffle(letters)
    return "".join(letters)


def _running(dna: str, weight: Callable[[str], int]) -> str:
    """Each base with the sum so far: `A0 C1 G2`."""
    total, shown = 0, []
    for base in dna:
        total += int(weight(base))
        shown.append(f"{base}{total}")
    return " ".join(shown)


# --- frames and sites ---------------------------------------------------------------------------------------------------


def random_cds(rng: random.Random, residues: int, code: int = 1) -> str:
    """A start codon, `residues - 1` codons without a stop, and a stop codon."""
    inner = [codon for codon in all_codons() if amino_acid(codon, code) != "*"]
    stops = [codon for codon in all_codons() if amino_acid(codon, code) == "*"]
    return "ATG" + "".join(rng.choices(inner, k=residues - 1)) + rng.choice(stops)


def all_codons() -> list[str]:
    """All 64, in alphabetical order."""
    return [a + b + c for a in BASES for b in BASES for c in BASES]


def _orf(rng: random.Random, terse: bool) -> Question:
    residues = rng.randint(2, 3) if terse else rng.randint(8, 16)
    flank = (0, 4) if terse else (10, 30)
    while True:
        dna = bases(rng, *flank) + random_cds(rng, residues) + bases(rng, *flank)
        found = orfs(dna)
        if found and (len(found) == 1 or found[0].length > found[1].length):
            break
    best = found[0]
    text = f"orf {dna}"
    if not terse:
        text = (
            "Find the longest open reading frame (ATG to stop) of this strand. Give its first and last base, counted from 1, "
            f"stop codon included, as start..end: {dna}"
        )
    answer = f"{best.start}..{best.end}"
    steps = " ".join(codons(dna[best.start - 1 : best.end]))
    meta = {"sequence": dna, "code": 1, "protein": best.protein}
    return Question("orf", f"orf {dna}", text, {"start": best.start, "end": best.end, "strand": "+"}, answer, steps, meta)


def _restriction(rng: random.Random, terse: bool) -> Question:
    name = rng.choice(list(ENZYMES))
    site = ENZYMES[name][0]
    size, num = ((3, 8), rng.randint(0, 1)) if terse else ((8, 30), rng.randint(0, 3))
    dna = bases(rng, *size) + "".join(site + bases(rng, *size) for _ in range(num))
    lengths, places = fragments(dna, name), cuts(dna, name)
    text = f"cut {name} {dna}"
    if not terse:
        text = f"Give the fragment lengths, in order, when {name} ({_marked(name)}) cuts this linear DNA: {dna}"
    steps = f"{_marked(name)} " + (" ".join(map(str, places)) if places else "none")
    meta = {"sequence": dna, "enzyme": name, "places": places}
    return Question("restriction", f"cut {name} {dna}", text, lengths, ", ".join(map(str, lengths)), steps, meta)


def _marked(name: str) -> str:
    site, offset = ENZYMES[name]
    return f"{site[:offset]}^{site[offset:]}"


# --- pathways -----------------------------------------------------------------------------------------------------------


def _network(rng: random.Random, terse: bool) -> tuple[pathways.Network, str, str]:
    network, target = pathways.draw(rng, rng.randint(1, 3) if terse else rng.randint(2, 4), rng.randint(0, 1) if terse else 2)
    # The arrows stand between the genes, so that each step can be read off the network.
    arrows = ["", *(f"{edge.arrow} " for edge in network.path(target))]
    steps = " ".join(
        f"{arrow}{gene} {pathways.DIRECTIONS[sign]}"
        for arrow, (gene, sign) in zip(arrows, network.activities(target), strict=True)
    )
    return network, target, steps


def _regulation(rng: random.Random, terse: bool) -> Question:
    network, target, steps = _network(rng, terse)
    answer = pathways.DIRECTIONS[network.activities(target)[-1][1]]
    shown, altered = pathways.write_network(network), pathways.ALTERED[network.sign]
    meta = {"labels": ["down", "up"] if terse else ["decreased", "increased"], **alleles(rng, network)}
    texts = []
    for said in _variant_said(network, meta, terse):
        texts.append(
            f"{shown} ; {said} ; {target} ?"
            if terse
            else f"Network: {shown}. {said} Is the activity of {target} increased or decreased?"
        )
    if not terse:
        answer = {"up": "increased", "down": "decreased"}[answer]
    return Question("regulation", f"regulation {shown} {altered} {target}", texts[0], answer, answer, steps, meta, texts[1])


def _pathway(rng: random.Random, terse: bool) -> Question:
    network, target, steps = _network(rng, terse)
    name = pathways.disease(target, network.activities(target)[-1][1])
    shown, altered = pathways.write_network(network), pathways.ALTERED[network.sign]
    meta = {"labels": list(pathways.LABELS), **alleles(rng, network)}
    table = "; ".join(pathways.table_lines([target]))
    texts = []
    for said in _variant_said(network, meta, terse):
        long = f"Network: {shown}. {said} Teaching table: {table}. Which disease does this variant contribute to?"
        texts.append(f"{shown} ; {said} ; disease of {target} ?" if terse else long)
    return Question("pathway", f"pathway {shown} {altered} {target}", texts[0], name, name, steps, meta, texts[1])


def _variant_said(network: pathways.Network, meta: Mapping[str, Any], terse: bool) -> tuple[str, str]:
    """What the variant does, in words, and as the gene's two alleles."""
    pair = f"{as_dna(meta['reference_sequence'])} {as_dna(meta['variant_sequence'])}"
    altered = pathways.ALTERED[network.sign]
    if terse:
        return f"{network.altered} {altered}", f"{network.altered} {pair}"
    return (
        f"The variant in gene {network.altered} causes a {altered} of function.",
        f"Reference and variant of gene {network.altered}: {pair}.",
    )


def alleles(rng: random.Random, network: pathways.Network) -> dict[str, str]:
    """`reference_sequence` and `variant_sequence` of the altered gene, as BioReason's rows carry them.

    The teaching rule: a missense change of the second codon to GAA (glutamate) is a gain of function, a stop there a loss.
    """
    cds = "ATG" + rng.choice([c for c in all_codons() if amino_acid(c) not in "*E"]) + random_cds(rng, 4)[3:]
    changed = cds[:3] + ("GAA" if network.sign > 0 else rng.choice(("TAA", "TAG", "TGA"))) + cds[6:]
    return {"reference_sequence": cds, "variant_sequence": changed}


MAKERS: dict[str, Callable[[random.Random, bool], Question]] = {
    "transcribe": _transcribe, "complement": _complement, "reverse_complement": _reverse_complement, "translate": _translate,
    "gc": _gc, "melting": _melting, "orf": _orf, "restriction": _restriction, "regulation": _regulation, "pathway": _pathway,
}  # fmt: skip
"""Task -> (random numbers, whether terse) -> question. Those about variants are in `questions_variants`."""
