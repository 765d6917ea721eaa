"""Cuts into micro-batches: nothing is lost or reordered, padding shrinks, and no cheaper cut of the same number of parts is missed."""

from hypothesis import given
from hypothesis import strategies as st

from factory.stages.rl.padding import cut

LENGTHS = st.lists(st.integers(1, 400), max_size=40)


def positions(parts, lengths):
    return sum(len(part) * max(lengths[i] for i in part) for part in parts)


@given(LENGTHS, st.integers(0, 12), st.integers(1, 500))
def test_all_rows_stay_in_order_and_every_cut_pays(lengths, most_rows, start_cost):
    parts = cut(lengths, most_rows, start_cost)
    assert [i for part in parts for i in part] == list(range(len(lengths)))
    assert all(parts) and all(len(part) <= (most_rows or len(lengths)) for part in parts)
    needed = cut(lengths, most_rows, 10**9)
    assert positions(parts, lengths) + start_cost * (len(parts) - len(needed)) <= positions(needed, lengths)


@given(LENGTHS.filter(lambda lengths: len(lengths) > 1))
def test_the_first_cut_is_the_best_of_all(lengths):
    lengths = sorted(lengths, reverse=True)
    saved = max((len(lengths) - n) * (lengths[0] - lengths[n]) for n in range(1, len(lengths)))
    assert (len(cut(lengths, 0, saved + 1)) == 1) and (saved == 0 or len(cut(lengths, 0, saved)) > 1)


def test_a_long_tail_is_cut_off():
    # One batch: 10 x 100 = 1000 positions. Cut after the long one: 100 + 9 x 10 = 190.
    assert cut([100, *[10] * 9], 0, 512) == [[0], list(range(1, 10))]
    assert cut([100, *[10] * 9], 0, 811) == [list(range(10))]
    assert cut([], 0) == [] and cut([5, 5, 5], 2) == [[0, 1], [2]]
