"""Signed networks: reading and writing the notation, and what follows downstream."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.domains.biology import pathways
from factory.domains.biology.pathways import Edge, Network


def test_the_guide_s_network():
    """A gains function, activates B, B inhibits C: C is decreased."""
    edges, altered = pathways.read_network("A* -> B -| C")
    assert altered == ["A"]
    network = Network(tuple(edges), "A", 1)
    assert network.activities("C") == [("A", 1), ("B", 1), ("C", -1)]
    assert Network(tuple(edges), "A", -1).activities("C")[-1] == ("C", 1)


def test_kegg_like_notation_with_real_gene_names():
    edges, altered = pathways.read_network("KIT* -> GRB2 -> SOS => RAS // BCR-ABL* -| TP53")
    assert altered == ["KIT", "BCR-ABL"]
    assert edges == [
        Edge("KIT", "->", "GRB2"),
        Edge("GRB2", "->", "SOS"),
        Edge("SOS", "=>", "RAS"),
        Edge("BCR-ABL", "-|", "TP53"),
    ]
    assert pathways.read_network("A->B-|C")[0] == [Edge("A", "->", "B"), Edge("B", "-|", "C")]


@pytest.mark.parametrize(("text", "reason"), [("-> B", "no gene before"), ("A ->", "no gene after"), ("A B", "no arrow"),
                                              ("A -> ; B -> C", "no gene after"), ("", "no arrow")])  # fmt: skip
def test_broken_networks_say_where(text, reason):
    with pytest.raises(ValueError, match=reason):
        pathways.read_network(text)


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(0, 2))
def test_written_networks_read_back(seed, length, others):
    network, target = pathways.draw(random.Random(seed), length, others)
    edges, altered = pathways.read_network(pathways.write_network(network))
    assert (tuple(edges), altered) == (network.edges, [network.altered])
    sign = network.sign
    for edge in network.path(target):
        sign *= pathways.ARROWS[edge.arrow]
    assert network.activities(target)[-1] == (target, sign)
    assert pathways.disease(target, sign) in pathways.LABELS


def test_an_unreached_gene_is_an_error():
    with pytest.raises(ValueError, match="nothing leads"):
        Network((Edge("A", "->", "B"),), "A", 1).path("C")


def test_the_teaching_table_is_sorted_and_without_twins():
    assert list(pathways.LABELS) == sorted(set(pathways.LABELS))
    assert len(pathways.LABELS) == 2 * len(pathways.TARGETS)
    assert not set(pathways.SOURCES) & set(pathways.TARGETS)
