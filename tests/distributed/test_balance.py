"""Rows of a global batch are dealt to the processes by length: nearly equal work for each, little padding, none lost or doubled."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import Lesson, Message, Sample
from factory.stages.batches import deal
from factory.stages.pair_batches import PairBatches
from factory.stages.pairs import Pair
from factory.stages.rl.loop import RlLoop
from factory.stages.rl.rollouts import Rollout
from factory.stages.sft.train import deal_lessons

LENGTHS = st.lists(st.integers(1, 2000), min_size=1, max_size=40)


def dealt(lengths, world, size, **settings):
    """Per rank: its micro-batches of (place, length), fillers left out."""
    items = list(enumerate(lengths))
    shares = [deal(items, rank, world, size, **settings) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1, "every rank runs equally many"
    return [[part for part, is_filler in share if not is_filler] for share in shares]


def padding(shares):
    """Places without a token."""
    return sum(len(part) * max(n for _, n in part) - sum(n for _, n in part) for share in shares for part in share)


@given(LENGTHS, st.integers(1, 5), st.integers(0, 7))
def test_every_item_is_dealt_once_and_shares_differ_by_less_than_the_longest(lengths, world, size):
    shares = dealt(lengths, world, size, length=lambda item: item[1])
    assert sorted(item for share in shares for part in share for item in part) == list(enumerate(lengths))
    work = [sum(n for part in share for _, n in part) for share in shares]
    assert max(work) - min(work) <= max(lengths)
    if world == 1 and size and len(lengths) % size == 0:
        assert padding(shares) <= padding(dealt(lengths, world, size))


@given(LENGTHS)
def test_one_process_with_one_micro_batch_keeps_the_order(lengths):
    [[part]] = dealt(lengths, 1, 0, length=lambda item: item[1])
    assert part == list(enumerate(lengths))


UNEVEN = [900, 10, 20, 800, 30, 40, 700, 50]


def test_the_gain_on_rows_of_very_unlike_length():
    in_turn = dealt(UNEVEN, 2, 2, length=lambda item: item[1])
    as_drawn = dealt(UNEVEN, 2, 2)
    work = [[sum(n for part in share for _, n in part) for share in shares] for shares in (in_turn, as_drawn)]
    # By length: 900+50+40+10 and 800+700+30+20. As drawn: 900+20+30+700 and 10+800+40+50.
    assert work == [[1000, 1550], [1650, 900]]
    # Parts of two rows: (900,50)(40,10) and (800,700)(30,20), against (900,20)(30,700) and (10,800)(40,50).
    assert (padding(in_turn), padding(as_drawn)) == (850 + 30 + 100 + 10, 880 + 670 + 790 + 10)


def learner(rank, world=2, size=2):
    return SimpleNamespace(rank=rank, world_size=world, optim=SimpleNamespace(micro_batch_size=size))


def sample(place, text="?"):
    return Sample(f"s{place}", "t", (Message("user", text),), "x")


@pytest.mark.parametrize("kind", ["lessons", "pairs", "rollouts"])
def test_stages_deal_by_length(kind):
    """Each stage's own dealing gives the two ranks the rows of 900, 50, 40, 10 and of 800, 700, 30, 20."""
    found = []
    for rank in (0, 1):
        if kind == "lessons":
            lessons = [Lesson(sample(i), "y" * n) for i, n in enumerate(UNEVEN)]
            parts = [part for part, _ in deal_lessons(range(len(UNEVEN)), lessons, learner(rank))]
        elif kind == "pairs":
            batches = PairBatches.__new__(PairBatches)
            batches.pairs = [Pair(sample(i), "y" * n, "n") for i, n in enumerate(UNEVEN)]
            batches._learner = learner(rank, size=4)
            parts = [part for part, _ in batches.deal(range(len(UNEVEN)))]
        else:
            live = [
                (sample(i), Rollout(place=i, index=0, ids=[1] * n, logprobs=[0.0] * n, finished=True, version=0))
                for i, n in enumerate(UNEVEN)
            ]
            loop = SimpleNamespace(learner=learner(rank), collector=SimpleNamespace(prompt=lambda _: None))
            rows = RlLoop._share(loop, live)
            parts = [[row.rollout.place for row in rows[start : start + 2]] for start in (0, 2)]
        found.append([[UNEVEN[place] for place in part] for part in parts])
    assert found == [[[900, 50], [40, 10]], [[800, 700], [30, 20]]]
