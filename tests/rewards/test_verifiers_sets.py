"""Options, sets and ordered lists: golden vectors of guides/techniques.md B15, and permutation laws."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.contracts import Sample, Status
from factory.errors import ConfigError
from factory.rewards.option_sets import OptionSet, read_letters, set_score
from factory.rewards.rankings import Ranking, mm_r5, ndcg, ranks_of
from factory.rewards.sets import LabelSet, overlap, read_items, token_f1, words
from factory.rewards.verifiers import OptionLetter

OPTIONS = ["normal gland", "adenocarcinoma", "lymphoid tissue", "necrosis"]


def tagged(answer: str) -> str:
    """An answer in the commonest shape."""
    return f"<think>a</think><answer>{answer}</answer>"


PETS = {"A": "cat", "B": "dog", "C": "a bird", "D": "fish"}


def sample(reference, **meta) -> Sample:
    return Sample("s", "t", (), reference, meta=meta)


def test_soft_multi_choice_vectors_of_b15():
    # AB / ABC / AD against gold ABC: 2/3, 3/3, and 0 because D is wrong.
    gold = frozenset("ABC")
    assert [set_score(frozenset(named), gold, "soft") for named in ("AB", "ABC", "AD")] == pytest.approx([2 / 3, 1.0, 0.0])


@pytest.mark.parametrize(
    "text",
    ["A, C", "AC", "A and C", "(A), (C)", "A. cat; C. a bird", "A. cat\nC. a bird", "The answers are A and C", "a,c", "A. cat, C. a bird", "A/C",
     "{A,C}", "C, A"],
)  # fmt: skip
def test_all_shapes_of_several_letters(text):
    assert read_letters(text, PETS) == {"A", "C"}


@pytest.mark.parametrize("text", ["", "AA", "A, E", "all of them", "A, C, A", "none", "A. dog", "maybe A or so", "?"])
def test_what_names_no_set_of_options(text):
    with pytest.raises(ValueError):
        read_letters(text, PETS)


def test_naming_every_option_never_wins():
    for rule, most in (("exact", 0.0), ("soft", 0.0), ("f1", 2 / 3), ("jaccard", 0.5)):
        verdict = OptionSet(rule=rule)(tagged("A, B, C, D"), sample("AC", options=PETS))
        assert verdict.score == pytest.approx(most) and verdict.status is Status.wrong


@given(st.permutations(range(4)), st.sets(st.integers(0, 3), min_size=1), st.sets(st.integers(0, 3), min_size=1))
@settings(max_examples=100, deadline=None)
def test_shuffling_the_options_with_their_letters_changes_nothing(order, gold, named):
    """The score depends on which texts are named, not on the letters they stand under."""
    texts = list(PETS.values())
    shuffled = [texts[i] for i in order]
    letters = lambda chosen, options: ", ".join(sorted("ABCD"[options.index(texts[i])] for i in chosen))  # noqa: E731
    for rule in ("exact", "soft", "f1", "jaccard"):
        scores = [
            OptionSet(rule=rule)(tagged(letters(named, options)), sample(letters(gold, options), options=options)).score
            for options in (texts, shuffled)
        ]
        assert scores[0] == scores[1]


@pytest.mark.parametrize("seed", range(6))
def test_a_single_letter_follows_its_text_through_a_shuffle(seed):
    order = random.Random(seed).sample(OPTIONS, 4)
    gold = "ABCD"[order.index("adenocarcinoma")]
    for answer in (
        gold,
        gold.lower() + ")",
        f"({gold})",
        f"{gold}. adenocarcinoma",
        "adenocarcinoma",
        f"Option {gold}",
        f"The answer is {gold}.",
    ):
        assert OptionLetter()(tagged(answer), sample(gold, options=order)).score == 1.0
    mapped = dict(reversed(list(zip("ABCD", order, strict=True))))
    assert OptionLetter()(tagged(gold), sample("adenocarcinoma", options=mapped)).score == 1.0


def test_a_letter_in_the_reasoning_only_is_no_answer():
    for mode in ("strict", "lenient"):
        assert OptionLetter(mode=mode)("<think>it must be B</think>", sample("B", options=OPTIONS)).status is Status.unparsable
        assert (
            OptionLetter(mode=mode)("<think><answer>B</answer></think>", sample("B", options=OPTIONS)).status is Status.unparsable
        )


@pytest.mark.parametrize(
    ("text", "items"),
    [("a, b and c", ["a", "b", "c"]), ('["a", "b, c", 3]', ["a", "b, c", "3"]), ("- a\n- b", ["a", "b"]), ("1. a\n2) b", ["a", "b"]),
     ("a; b | c", ["a", "b", "c"]), ("[a, b]", ["a", "b"]), ("", []), ("a,,b", ["a", "b"])],
)  # fmt: skip
def test_lists_are_read_as_people_write_them(text, items):
    assert read_items(text) == items


def test_label_sets_by_hand():
    # got {x, z}, want {x, y}: precision 1/2, recall 1/2, F1 1/2, Jaccard 1/3.
    score = lambda rule, **kw: LabelSet(rule=rule, **kw)(tagged("x, z"), sample(["x", "y"])).score  # noqa: E731
    assert [score("f1"), score("jaccard"), score("precision"), score("exact")] == pytest.approx([0.5, 1 / 3, 0.5, 0.0])
    assert score("recall", max_extra=1) == 0.5 and score("recall", max_extra=0) == 0.0
    with pytest.raises(ConfigError, match="pays for listing every label"):
        LabelSet(rule="recall")


def test_a_list_of_forty_labels_is_at_most_partly_right():
    # guides/domains.md 12, biology: a 40-disease list earns 2 * 1 / (40 + 1) by F1, never the full reward.
    listed = ", ".join(["melanoma", *(f"disease {i}" for i in range(39))])
    assert LabelSet()(tagged(listed), sample("melanoma")).score == pytest.approx(2 / 41)


SETS = st.frozensets(st.sampled_from("abcdef"), min_size=1)


@given(SETS, SETS)
def test_overlap_laws(a, b):
    for rule in ("f1", "jaccard", "exact"):
        assert overlap(a, b, rule) == overlap(b, a, rule)
        assert 0.0 <= overlap(a, b, rule) <= 1.0 and (overlap(a, b, rule) == 1.0) == (a == b)
    assert overlap(a, b, "precision") == overlap(b, a, "recall")
    p, r = overlap(a, b, "precision"), overlap(a, b, "recall")
    assert overlap(a, b, "f1") == pytest.approx(2 * p * r / (p + r) if p + r else 0.0)
    assert overlap(a, b, "jaccard") <= overlap(a, b, "f1") + 1e-12


def test_token_f1_keeps_its_order_of_results():
    # MedEvalKit unpacked (f1, precision, recall) as (precision, recall, f1): 2 of 2 words right of 4 wanted.
    f1, precision, recall = token_f1(words("ductal carcinoma"), words("invasive ductal carcinoma grade"))
    assert (f1, precision, recall) == pytest.approx((2 / 3, 1.0, 0.5))
    assert token_f1([], words("x")) == (0.0, 0.0, 0.0)
    assert token_f1(words("a a a"), words("a b"), is_bag=True)[1] == pytest.approx(1 / 3)


def test_ranking_vectors_of_b15():
    # Hits at ranks 2 and 3 of 2: (1/log2 3 + 1/log2 4) / (1 + 1/log2 3); at 1 and 3: (1 + 1/27) / (1 + 1/8).
    assert ndcg([2, 3], 2) == pytest.approx(0.693426, abs=1e-6)
    assert mm_r5([1, 3], 2) == pytest.approx(0.921811, abs=1e-6)
    score = lambda rule, text: Ranking(rule=rule)(tagged(text), sample(["a", "b"])).score  # noqa: E731
    assert score("ndcg", "z, a, b") == pytest.approx(0.693426, abs=1e-6)
    assert score("mm_r5", "b, z, a") == pytest.approx(0.921811, abs=1e-6)


def test_repeating_an_item_does_not_pay_twice():
    assert ranks_of(["a", "a", "b"], frozenset("ab")) == [1, 3]
    assert Ranking()(tagged("a, a, a, a"), sample(["a", "b"])).score == pytest.approx(1 / (1 + 1 / math.log2(3)))


@given(st.permutations("abcde"))
def test_pairs_count_inversions(order):
    inversions = sum(order[i] > order[j] for i in range(5) for j in range(i + 1, 5))
    verdict = Ranking(rule="pairs")(tagged(", ".join(order)), sample(list("abcde")))
    assert verdict.score == pytest.approx(1 - inversions / 10)


@given(st.sets(st.integers(1, 30), min_size=1, max_size=6), st.integers(6, 9))
def test_ranking_rewards_are_bounded_and_rise_when_a_hit_moves_up(hits, num_relevant):
    ranks = sorted(hits)
    for rule in (ndcg, mm_r5):
        assert 0.0 < rule(ranks, num_relevant) <= 1.0
        if ranks[0] > 1:
            assert rule([ranks[0] - 1, *ranks[1:]], num_relevant) > rule(ranks, num_relevant)
