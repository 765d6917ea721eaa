"""A judge in the mixture: capped, behind a rule, never the gate, never what decides whether an answer is right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import Status, Verdict
from factory.errors import ConfigError
from factory.rewards.mixture import Mixture

TASKS = {"open": {"verifiers": {"exact": 0.7, "helpful": 0.3}, "gate": None}, "plain": {"verifiers": {"exact": 1.0}}}
CAPS = {"helpful": 0.3}


def verdict(score, status=None):
    return Verdict(score, status or (Status.ok if score == 1 else Status.wrong), "so")


FAILED = Verdict(0.0, Status.error, "unparsable judge output")


def test_weighted_sum_with_a_judge_by_hand():
    # 0.7 * 1 + 0.3 * 0.5 = 0.85
    reward = Mixture(TASKS, judges=CAPS).combine("open", {"exact": verdict(1), "helpful": verdict(0.5)})
    assert reward.value == pytest.approx(0.85) and not reward.masked


@pytest.mark.parametrize("judged", [verdict(1), verdict(0.5), FAILED])
def test_where_the_rule_gives_nothing_the_judge_neither_pays_nor_masks(judged):
    reward = Mixture(TASKS, judges=CAPS).combine("open", {"exact": verdict(0), "helpful": judged})
    assert (reward.value, reward.masked, reward.parts["helpful"]) == (0.0, False, 0.0)
    assert "not counted" in reward.reasons["helpful"]


def test_a_failed_judge_masks_where_it_counts():
    reward = Mixture(TASKS, judges=CAPS).combine("open", {"exact": verdict(1), "helpful": FAILED})
    assert reward.masked and "helpful" not in reward.parts


def test_judges_are_asked_only_when_they_can_count():
    mixture = Mixture(TASKS, judges=CAPS)
    assert mixture.judges_to_ask("open", {"exact": verdict(1)}) == ("helpful",)
    assert mixture.judges_to_ask("open", {"exact": verdict(0)}) == ()
    assert mixture.judges_to_ask("open", {"exact": FAILED}) == ()
    assert mixture.judges_to_ask("plain", {"exact": verdict(1)}) == ()


def test_the_heaviest_rule_and_never_a_judge_says_what_is_right():
    tasks = {"t": {"verifiers": {"helpful": 0.6, "exact": 0.3, "format": 0.1}}}
    mixture = Mixture(tasks, judges={"helpful": 0.6})
    assert mixture.main_verifier("t") == mixture.of("t").judge_gate == "exact"


def test_a_weightless_rule_can_be_the_gate_of_an_open_task():
    tasks = {"open": {"verifiers": {"helpful": 1.0}, "gate": "format"}}
    mixture = Mixture(tasks, known=["format"], judges={"helpful": 1.0})
    assert mixture.combine("open", {"format": verdict(1), "helpful": verdict(0.4)}).value == pytest.approx(0.4)
    assert mixture.combine("open", {"format": verdict(0), "helpful": verdict(1)}).value == 0.0


@pytest.mark.parametrize("tasks, caps, told", [
    ({"t": {"verifiers": {"exact": 0.6, "helpful": 0.4}}}, CAPS, "weight_cap allows 30%"),
    ({"t": {"verifiers": {"helpful": 1.0}}}, {"helpful": 1.0}, "alone"),
    ({"t": {"verifiers": {"exact": 1.0}, "gate": "helpful"}}, CAPS, "must be a rule"),
    ({"t": {"verifiers": {"exact": 0.5, "helpful": 0.25, "kind": 0.25}}}, {"helpful": 0.3, "kind": 0.3}, "together"),
])  # fmt: skip
def test_what_a_judge_may_not(tasks, caps, told):
    with pytest.raises(ConfigError, match=told):
        Mixture(tasks, known=["exact"], judges=caps)


def test_an_override_cannot_pass_the_cap_either():
    with pytest.raises(ConfigError, match=r"mixture\.plain\.helpful.*50%"):
        Mixture(TASKS, {"plain": {"helpful": 1.0}}, judges=CAPS)
    assert Mixture(TASKS, {"plain": {"helpful": 0.4}}, judges=CAPS).of("plain").judges == {"helpful"}


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.3))
def test_a_judge_moves_the_reward_by_at_most_its_cap(rule, judged, share):
    tasks = {"t": {"verifiers": {"exact": 1 - share, "helpful": share}}}
    mixture = Mixture(tasks, judges=CAPS)
    least, most = (mixture.combine("t", {"exact": verdict(rule), "helpful": verdict(x)}).value for x in (0.0, 1.0))
    here = mixture.combine("t", {"exact": verdict(rule), "helpful": verdict(judged)}).value
    assert least - 1e-9 <= here <= most + 1e-9 and most - least <= 0.3 + 1e-9
    if rule == 0:
        assert most == 0
