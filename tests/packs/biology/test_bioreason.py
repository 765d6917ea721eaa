"""BioReason's rewards: golden rows for the published behaviour with its faults, and for the mended one (guide 3.3 and 12)."""

import pytest

from factory.domains.biology import bioreason as rules
from factory.domains.biology.pack import PACK

LINES = "<think>\nBRAF is always on.\nSo is ERK.\n</think>\n\nAnswer: melanoma"
ONE_LINE = "<think>\nBRAF is always on.\n</think>\nAnswer: melanoma\n"
SAME_LINE = "<think>BRAF is always on.</think> melanoma"


@pytest.mark.parametrize(
    ("rule", "text", "value"),
    [
        (rules.xml_count, LINES, 0.25),
        (rules.xml_count, SAME_LINE, 0.0),
        (rules.xml_count, "<think>\nx</think>", 0.125),
        (rules.xml_count, LINES + LINES, 0.0),
        (rules.soft_format_published, SAME_LINE, 0.5),
        (rules.soft_format_published, LINES, 0.0),  # fault: no DOTALL
        (rules.soft_format, LINES, 0.5),
        (rules.soft_format, "well, " + LINES, 0.0),
        (rules.strict_format_published, ONE_LINE, 0.5),
        (rules.strict_format_published, ONE_LINE.rstrip("\n"), 0.0),  # fault: wants a last line break
        (rules.strict_format_published, LINES + "\n", 0.0),  # fault: no DOTALL
        (rules.strict_format, LINES, 0.5),
        (rules.strict_format, ONE_LINE, 0.5),
        (rules.strict_format, "<think>\nx\n</think>\n", 0.0),
        (rules.short_answer_published, "<think>\nx\n</think>\nAnswer: a b c", 0.5),
        (rules.short_answer_published, "<think>\nx\n</think>\nAnswer: a b c d", 0.0),  # fault: `Answer:` is a word
        (rules.short_answer_published, "<think>\nx\n</think>", 0.5),  # fault: nothing is short
        (rules.short_answer, "<think>\nx\n</think>\nAnswer: a b c d", 0.5),
        (rules.short_answer, "<think>\nx\n</think>\nAnswer: a b c d e", 0.0),
        (rules.short_answer, "<think>\nx\n</think>", 0.0),
        (rules.short_answer, "a b c", 0.0),
    ],
)
def test_form_rewards(rule, text, value):
    assert rule(text) == value


def test_published_correctness_spreads_one_gold_over_the_batch():
    """Three rollouts with golds melanoma, glioma, cushing syndrome: the code looks for m, e, l of the first gold."""
    texts = ["Answer: mumps", "Answer: eczema", "Answer: leprosy"]
    assert rules.correctness_published(texts, ["melanoma", "glioma", "cushing syndrome"]) == [2.0, 2.0, 2.0]
    right = ["Answer: melanoma", "Answer: glioma", "Answer: cushing syndrome"]
    # "Answer: glioma" is paid for the e of "Answer"; "Answer: cushing syndrome" has no l.
    assert rules.correctness_published(right, ["melanoma", "glioma", "cushing syndrome"]) == [2.0, 2.0, 0.0]
    assert rules.correctness_published(["a", "b", "c"], ["ab"]) == [2.0, 2.0]  # a short gold leaves rollouts without a reward


def test_mended_correctness_gives_each_rollout_its_own_gold(ask):
    correctness = PACK.verifiers()["correctness"]
    golds = ["melanoma", "glioma", "cushing syndrome"]
    text = "<think>\nx\n</think>\n\nAnswer: {}"
    for gold in golds:
        for said in golds:
            score = correctness(text.format(said), ask("variant_disease", gold)).score
            assert rules.MAXIMA["correctness"] * score == (2.0 if said == gold else 0.0)


def test_a_list_of_forty_diseases_never_earns_two(ask):
    labels = [f"disease {number}" for number in range(39)] + ["melanoma"]
    listed = f"<think>\nx\n</think>\n\nAnswer: {', '.join(labels)}"
    assert PACK.verifiers()["correctness"](listed, ask("variant_disease", "melanoma", labels=labels)).score == 0.0
    # The published rule on a batch of one looks for the letter m, and pays.
    assert PACK.verifiers()["correctness_published"](listed, ask("variant_disease", "melanoma")).score == 1.0


def test_the_recipe_s_weights_are_the_published_maxima():
    from factory.config.compose import compose

    for recipe, suffix in (("bioreason-kegg", ""), ("bioreason-kegg-published", "_published")):
        weights = compose("biology", recipe=recipe).config.mixture["variant_disease"]
        counted = {name: weight for name, weight in weights.items() if weight}
        assert counted == {name if name == "xml_count" else name + suffix: value for name, value in rules.MAXIMA.items()}
        assert sum(counted.values()) == 3.75
