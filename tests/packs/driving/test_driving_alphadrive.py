"""AlphaDrive's rewards, right and faulty, by the guide's vectors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import Message, Sample
from factory.domains.driving.actions import PATHS, SPEEDS
from factory.domains.driving.alphadrive import diversity, keeps_format, paper_columns, released_columns


def said(plan):
    return f"<think>because</think><answer>{plan}</answer>"


def test_released_vector():
    # Gold and answer ACCELERATE, STOP: F1 1 x (.9 + 1) / 2 = .95, +.4 the first time = 1.35, -.4 the second = 0.55.
    rows = released_columns([said("ACCELERATE, STOP")] * 2, ["ACCELERATE, STOP"] * 2, group_size=2)
    assert [row["speed"] for row in rows] == pytest.approx([1.35, 0.55])


def test_the_empty_answer_earns_nothing_here_and_four_tenths_there():
    gold = ["DECELERATE, STRAIGHT"]
    [ours] = released_columns([said("")], gold, group_size=1)
    [theirs] = released_columns([said("")], gold, group_size=1, as_released=True)
    assert (ours["speed"], ours["path"]) == (0.0, 0.0)
    assert (theirs["speed"], theirs["path"]) == pytest.approx((0.4, 0.4))
    [row] = paper_columns([said("")], gold[0])
    assert (row["speed"], row["path"]) == (0.0, 0.0)


def test_the_released_counter_runs_over_the_batch():
    golds = ["KEEP, STRAIGHT"] * 4
    batch = [said("KEEP, STRAIGHT")] * 4
    ours = released_columns(batch, golds, group_size=2)
    theirs = released_columns(batch, golds, group_size=2, as_released=True)
    assert [row["speed"] for row in ours] == pytest.approx([1.2, 0.4, 1.2, 0.4])  # .8 +- .4, anew in each group
    assert [row["speed"] for row in theirs] == pytest.approx([1.2, 0.4, 0.4, 0.4])


def test_paper_vectors():
    # KEEP seen 3 of 4 times: 1 x .8 x (1 - min(.2, .75)) = 0.64.
    assert diversity(3, 4) == pytest.approx(0.8)
    rows = paper_columns([said("KEEP, STRAIGHT")] * 3 + [said("STOP, STRAIGHT")], "KEEP, STRAIGHT")
    assert [row["speed"] for row in rows] == pytest.approx([0.64, 0.64, 0.64, 0.0])
    # B15: F1 .8, W 1, 2 of 8 and 1 of 8 the same: .64 and .70.
    assert (0.8 * diversity(2, 8), 0.8 * diversity(1, 8)) == pytest.approx((0.64, 0.70))


answers = st.lists(
    st.builds(lambda s, p: said(f"{s}, {p}"), st.sampled_from(SPEEDS), st.sampled_from(PATHS)), min_size=1, max_size=8
)


@given(answers, st.randoms())
def test_in_the_paper_variant_the_order_does_not_matter(group, rng):
    gold = "DECELERATE, LEFT_TURN"
    order = rng.sample(range(len(group)), len(group))
    first = paper_columns(group, gold)
    again = paper_columns([group[index] for index in order], gold)
    assert again == [first[index] for index in order]
    assert all(0.0 <= row[axis] <= 1.0 for row in first for axis in ("speed", "path"))


def test_in_the_released_variant_the_order_matters():
    batch = [said("KEEP, STRAIGHT"), said("KEEP, LEFT_TURN")]
    golds = ["KEEP, STRAIGHT"] * 2
    there, back = released_columns(batch, golds, group_size=2), released_columns(batch[::-1], golds, group_size=2)
    assert there[0]["speed"] != back[1]["speed"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("<think>a\nb</think>\n<answer>KEEP</answer>", 1.0),
        ("<think>a</think><answer>KEEP</answer> done", 0.0),
        ("<answer>KEEP</answer>", 0.0),
        ("", 0.0),
    ],
)
def test_format(text, kept):
    assert keeps_format(text) == kept


def sample(reference, task="plan"):
    return Sample("s", task, (Message("user", "plan ?"),), reference)


@pytest.mark.parametrize(
    ("verifier", "answer", "reference", "score"),
    [
        ("plan_f1", "KEEP, STRAIGHT", "KEEP, STRAIGHT", 1.0),
        ("plan_paper", "KEEP, STRAIGHT", "KEEP, STRAIGHT", 0.8),
        ("plan_paper", "ACCELERATE, STOP, STRAIGHT", "ACCELERATE, STOP, STRAIGHT", (0.95 + 0.8) / 2),
        ("plan_released", "KEEP,STRAIGHT", "KEEP, STRAIGHT", 0.0),
        ("plan_released", "KEEP, STRAIGHT", "KEEP, STRAIGHT", 0.8),
        ("plan_exact", "STRAIGHT, KEEP", "KEEP, STRAIGHT", 1.0),
        ("plan_exact", "KEEP, ACCELERATE, STRAIGHT", "KEEP, STRAIGHT", 0.0),
        # Hedging pays two thirds in the published F1 and nothing in the pack's own verifier.
        ("plan_f1", "KEEP, ACCELERATE, STRAIGHT", "KEEP, STRAIGHT", (2 / 3 + 1) / 2),
        ("speed", "KEEP, ACCELERATE, STRAIGHT", "KEEP, STRAIGHT", 0.0),
        ("speed", "ACCELERATE, STRAIGHT", "ACCELERATE, STOP, STRAIGHT", 2 / 3),
    ],
)
def test_variants_by_name(pack, verifier, answer, reference, score):
    assert pack.verifiers()[verifier](said(answer), sample(reference)).score == pytest.approx(score)


@given(st.text(max_size=60))
def test_no_text_breaks_a_verifier(text):
    from factory.domains.driving.verifiers import AxisActions, PlanScore

    for verifier in (AxisActions(name="speed"), *(PlanScore(variant=v) for v in ("exact", "f1", "paper", "released"))):
        verdict = verifier(said(text), sample("KEEP, STRAIGHT"))
        assert 0.0 <= verdict.score <= 1.0 and not verdict.status.is_masked
