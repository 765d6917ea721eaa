"""Signed pathways in KEGG-like notation, and the teaching table of diseases.

`A* -> B -| C => D`: `*` marks the altered gene, `->` activates, `-|` inhibits, `=>` expresses (acts as activation).
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ARROWS: Mapping[str, int] = {"->": 1, "=>": 1, "-|": -1, "=|": -1}
"""Arrow -> sign of its action."""
_TOKEN = re.compile(r"(->|=>|-\||=\||//|[;\n])|([A-Za-z0-9][\w.+/@-]*?(?=\*|\s|;|->|=>|-\||=\||$))(\*?)")

SOURCES = ("A", "B", "D", "E", "F", "G")
"""Genes of the teaching networks that may be altered or stand between."""
TARGETS = ("K", "L", "M", "N", "P", "R")
"""Genes at the end, whose activity decides the disease."""
DISEASES: Mapping[str, tuple[str, str]] = {
    "K": ("aldan", "brevik"), "L": ("corven", "delmar"), "M": ("estrin", "farrow"),
    "N": ("galvin", "hadley"), "P": ("ingram", "jorvik"), "R": ("kelso", "lorne"),
}  # fmt: skip
"""Gene at the end -> the disease of too much and of too little activity. Invented names: this is a teaching table, not medicine."""
LABELS = tuple(sorted(name for pair in DISEASES.values() for name in pair))
DIRECTIONS: Mapping[int, str] = {1: "up", -1: "down"}
ALTERED: Mapping[int, str] = {1: "gain", -1: "loss"}


@dataclass(frozen=True, slots=True)
class Edge:
    """One arrow between two genes."""

    source: str
    arrow: str
    target: str

    def __str__(self) -> str:
        return f"{self.source} {self.arrow} {self.target}"


@dataclass(frozen=True, slots=True)
class Network:
    """A network with one altered gene."""

    edges: tuple[Edge, ...]
    altered: str
    sign: int
    """1: gain of function, -1: loss."""

    def path(self, target: str) -> list[Edge]:
        """The arrows from the altered gene to `target`, fewest first found. Raises ValueError when none leads there."""
        reached: dict[str, list[Edge]] = {self.altered: []}
        queue = [self.altered]
        for gene in queue:
            for edge in self.edges:
                if edge.source == gene and edge.target not in reached:
                    reached[edge.target] = [*reached[gene], edge]
                    queue.append(edge.target)
        if target not in reached:
            raise ValueError(f"nothing leads from {self.altered} to {target}")
        return reached[target]

    def activities(self, target: str) -> list[tuple[str, int]]:
        """(gene, 1 up or -1 down) from the altered gene to `target`."""
        found = [(self.altered, self.sign)]
        for edge in self.path(target):
            found.append((edge.target, found[-1][1] * ARROWS[edge.arrow]))
        return found


def draw(rng: random.Random, length: int, num_others: int) -> tuple[Network, str]:
    """A chain of `length` arrows from an altered gene to a target, with other arrows that lead to other targets.

    Returns:
        (network, target). Each gene of the chain has one arrow to it, so that its activity is certain.
    """
    genes = rng.sample(SOURCES, length)
    targets = rng.sample(TARGETS, 1 + num_others)
    chain = [*genes, targets[0]]
    edges = [Edge(a, rng.choice(("->", "-|")), b) for a, b in itertools.pairwise(chain)]
    spare = [gene for gene in SOURCES if gene not in genes]
    edges += [Edge(rng.choice(spare), rng.choice(("->", "-|")), target) for target in targets[1:]]
    return Network(tuple(edges), genes[0], rng.choice((1, -1))), targets[0]


def disease(target: str, activity: int) -> str:
    """The disease of the teaching table. Raises KeyError for a gene that is no target."""
    return DISEASES[target][0 if activity > 0 else 1]


def read_network(text: str) -> tuple[list[Edge], list[str]]:
    """The arrows of a network definition, and the genes marked as altered.

    Chains (`A -> B -| C`), several lines or `;`, and KEGG's `//` between parts are read; `(A,B)` groups are not expanded.

    Raises:
        ValueError: an arrow without a gene on both sides, or no arrow at all.
    """
    edges: list[Edge] = []
    altered: list[str] = []
    last: str | None = None
    arrow: str | None = None
    for hit in _TOKEN.finditer(text):
        mark, gene, star = hit.groups()
        if gene:
            if arrow and last:
                edges.append(Edge(last, arrow, gene))
            elif arrow:
                raise ValueError(f"'{arrow}' has no gene before it in {text[:80]!r}")
            last, arrow = gene, None
            if star and gene not in altered:
                altered.append(gene)
        elif mark in ARROWS:
            if arrow or last is None:
                raise ValueError(f"'{mark}' has no gene before it in {text[:80]!r}")
            arrow = mark
        else:
            if arrow:
                raise ValueError(f"'{arrow}' has no gene after it in {text[:80]!r}")
            last = None
    if arrow or not edges:
        raise ValueError(f"'{arrow}' has no gene after it in {text[:80]!r}" if arrow else f"no arrow in {text[:80]!r}")
    return edges, altered


def write_network(network: Network, *, marked: bool = True) -> str:
    """The network as one line, chains joined: `A* -> B -| C ; D -> K`."""
    parts: list[str] = []
    for index, edge in enumerate(network.edges):
        source = f"{edge.source}*" if marked and edge.source == network.altered else edge.source
        if index and network.edges[index - 1].target == edge.source:
            parts[-1] += f" {edge.arrow} {edge.target}"
        else:
            parts.append(f"{source} {edge.arrow} {edge.target}")
    return " ; ".join(parts)


def table_lines(targets: Sequence[str] = TARGETS) -> list[str]:
    """The teaching table as text."""
    return [f"{gene} up : {DISEASES[gene][0]} ; {gene} down : {DISEASES[gene][1]}" for gene in targets]
