"""Mixture-of-Rewards: routing, gate, weighted sum, masking; settings that contradict are refused."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import Status, Verdict
from factory.errors import ConfigError, RewardError
from factory.rewards.mixture import Mixture

TASKS = {
    "mcq": {"title": "choice", "verifiers": {"accuracy": 1.0, "format": 0.5}, "gate": None},
    "stain": {"verifiers": {"closed": 3, "length": 1}, "gate": "format"},
}


def ok(score: float, **parts: float) -> Verdict:
    return Verdict(score, Status.ok if score == 1 else Status.wrong, "because", parts)


TIMEOUT = Verdict(0.0, Status.timeout, "hung")
ERROR = Verdict(0.0, Status.error, "crashed")


def test_weighted_sum_by_hand():
    # (1.0*1 + 0.5*0) / 1.5 = 2/3
    reward = Mixture(TASKS).combine("mcq", {"accuracy": ok(1), "format": ok(0)})
    assert reward.value == pytest.approx(2 / 3)
    assert (reward.masked, reward.gated) == (False, False)
    assert reward.parts == {"accuracy": 1.0, "format": 0.0}
    assert reward.statuses == {"accuracy": "ok", "format": "wrong"}
    assert reward.reasons["accuracy"] == "because"


def test_each_task_has_its_own_verifiers_and_the_gate_is_one_of_them():
    mixture = Mixture(TASKS)
    assert mixture.verifiers_for("mcq") == ("accuracy", "format")
    assert mixture.verifiers_for("stain") == ("format", "closed", "length")


def test_a_closed_gate_zeroes_everything():
    reward = Mixture(TASKS).combine("stain", {"format": ok(0), "closed": ok(1), "length": ok(1)})
    assert (reward.value, reward.gated, reward.masked) == (0.0, True, False)
    assert reward.parts["closed"] == 1.0


def test_an_open_gate_has_no_weight_of_its_own():
    # (3*1 + 1*0.5) / 4
    reward = Mixture(TASKS).combine("stain", {"format": ok(0.1), "closed": ok(1), "length": ok(0.5)})
    assert reward.value == pytest.approx(0.875)


@pytest.mark.parametrize("failed", [TIMEOUT, ERROR])
@pytest.mark.parametrize("name", ["format", "closed", "length"])
def test_a_failed_verdict_masks_and_is_never_scored_as_wrong(failed, name):
    verdicts = {"format": ok(1), "closed": ok(1), "length": ok(1)} | {name: failed}
    reward = Mixture(TASKS).combine("stain", verdicts)
    assert (reward.masked, reward.value) == (True, 0.0)
    assert name not in reward.parts
    assert reward.statuses[name] == failed.status.value


def test_weight_zero_is_recorded_but_neither_counts_nor_masks():
    mixture = Mixture(TASKS, {"mcq": {"format": 0}})
    assert mixture.combine("mcq", {"accuracy": ok(1), "format": ok(0)}).value == 1.0
    reward = mixture.combine("mcq", {"accuracy": ok(1), "format": ERROR})
    assert (reward.value, reward.masked, reward.statuses["format"]) == (1.0, False, "error")


def test_overrides_lie_over_the_manifest():
    # format 0.5 -> 3: (1*1 + 3*0) / 4
    mixture = Mixture(TASKS, {"mcq": {"format": 3.0}})
    assert mixture.combine("mcq", {"accuracy": ok(1), "format": ok(0)}).value == 0.25
    added = Mixture(TASKS, {"mcq": {"judge": 1.0}}, known=["accuracy", "format", "closed", "length", "judge"])
    assert added.verifiers_for("mcq") == ("accuracy", "format", "judge")


def test_parts_of_a_verdict_are_kept_under_its_name():
    reward = Mixture(TASKS).combine("mcq", {"accuracy": ok(1, iou=0.7), "format": ok(1)})
    assert reward.parts["accuracy/iou"] == 0.7


def test_a_missing_verdict_is_never_rewarded():
    with pytest.raises(RewardError, match="needs a verdict of format"):
        Mixture(TASKS).combine("mcq", {"accuracy": ok(1)})


def test_an_unknown_task_is_an_error_not_a_default():
    with pytest.raises(ConfigError, match="Did you mean 'stain'"):
        Mixture(TASKS).verifiers_for("stian")


@pytest.mark.parametrize(
    ("tasks", "overrides", "message"),
    [
        ({}, {}, "no `tasks`"),
        ({"t": {"verifiers": {}}}, {}, "tasks.t.verifiers must map"),
        ({"t": {"verifiers": {"a": -0.2}}}, {}, "tasks.t.verifiers.a is -0.2"),
        ({"t": {"verifiers": {"a": math.nan}}}, {}, "tasks.t.verifiers.a is nan"),
        ({"t": {"verifiers": {"a": math.inf}}}, {}, "tasks.t.verifiers.a is inf"),
        ({"t": {"verifiers": {"a": True}}}, {}, "tasks.t.verifiers.a is True"),
        ({"t": {"verifiers": {"a": "1"}}}, {}, "tasks.t.verifiers.a is '1'"),
        ({"t": {"verifiers": {"a": 0}}}, {}, "weights of task 't'.*sum to 0"),
        ({"t": {"verifiers": {"a": 1e308, "b": 1e308}}}, {}, "sum to inf"),
        (TASKS, {"mcq": {"format": -1}}, "mixture.mcq.format is -1"),
        (TASKS, {"mcq": {"acuracy": 1}}, "mixture.mcq.acuracy.*Did you mean 'accuracy'"),
        (TASKS, {"mqc": {"format": 1}}, "mixture.mqc.*Did you mean 'mcq'"),
        (TASKS, {"mcq": 3}, "mixture.mcq must map"),
    ],
)
def test_wrong_weights_are_refused_with_their_key(tasks, overrides, message):
    with pytest.raises(ConfigError, match=message):
        Mixture(tasks, overrides)


def test_names_are_checked_against_the_pack():
    with pytest.raises(ConfigError, match=r"tasks.mcq.verifiers.accuracy.*no verifier"):
        Mixture(TASKS, known=["format", "closed", "length"])
    with pytest.raises(ConfigError, match=r"tasks\.t\.gate is 'form'"):
        Mixture({"t": {"verifiers": {"a": 1}, "gate": "form"}}, known=["a", "format"])


_SCORES = st.floats(0, 1)
_WEIGHTS = st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1e300), min_size=1)
_WEIGHTS = _WEIGHTS.filter(lambda weights: 1e-300 < sum(weights.values()) < 1e306)


@given(_WEIGHTS, st.lists(_SCORES, min_size=6, max_size=6), st.randoms(use_true_random=False))
def test_value_lies_between_the_scores_whatever_the_order(weights, scores, rng: random.Random):
    verdicts = {name: ok(score) for name, score in zip("abcdef", scores, strict=True)}
    counted = [verdicts[name].score for name, weight in weights.items() if weight > 0]
    value = Mixture({"t": {"verifiers": weights}}).combine("t", verdicts).value
    assert min(counted) - 1e-9 <= value <= max(counted) + 1e-9
    names = list(weights)
    rng.shuffle(names)
    shuffled = Mixture({"t": {"verifiers": {name: weights[name] for name in names}}}).combine("t", verdicts).value
    assert shuffled == pytest.approx(value, abs=1e-12)


@given(st.floats(1e-3, 1e3), _SCORES, _SCORES)
def test_scaling_all_weights_changes_nothing(factor, a, b):
    one = Mixture({"t": {"verifiers": {"a": 1.0, "b": 0.5}}}).combine("t", {"a": ok(a), "b": ok(b)})
    two = Mixture({"t": {"verifiers": {"a": factor, "b": 0.5 * factor}}}).combine("t", {"a": ok(a), "b": ok(b)})
    assert one.value == pytest.approx(two.value, abs=1e-12)
