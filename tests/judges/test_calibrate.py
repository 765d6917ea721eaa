"""Calibration: agreement by hand, thresholds that are not flattered, refusal, injected texts, curves that survive a resume."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_server import sample

from factory.errors import ConfigError, DataError, RewardError
from factory.rewards.judges.calibrate import (
    Labelled,
    admitted,
    best_threshold,
    cached,
    calibrate,
    figures,
    read_labelled,
)  # fmt: skip
from factory.rewards.judges.judge import Judge, JudgeFailed
from factory.rewards.judges.prompt import UnparsableVerdict
from factory.rewards.judges.settings import JudgeSettings


class Words:
    """A backend by a function; `is_share` as a generative judge's grades."""

    def __init__(self, score, is_share=True):
        self._score, self.is_share, self.calls = score, is_share, 0

    def score(self, completion, sample):
        self.calls += 1
        return self._score(completion)

    def close(self):
        pass


def judge(score, is_share=True, **changes):
    return Judge("j", JudgeSettings("local", path="x", **changes), Words(score, is_share))


def rows(right=12, wrong=12):
    return [Labelled(sample(f"r{i}"), f"blue {i}", True) for i in range(right)] + [
        Labelled(sample(f"w{i}"), f"red {i}", False) for i in range(wrong)
    ]


def honest(text):
    return 0.9 if text.startswith("blue") else 0.2


def test_figures_by_hand():
    # 3 right, 2 wrong; said right: 2 of the 3 and 1 of the 2. Balanced (2/3 + 1/2) / 2 = 7/12; accuracy 3/5; F1 = 4/6;
    # chance = (3*3 + 2*2) / 25 = 13/25; kappa = (15/25 - 13/25) / (12/25) = 1/6.
    found = figures([True, True, False, True, False], [True, True, True, False, False])
    assert found == pytest.approx((7 / 12, 3 / 5, 4 / 6, 1 / 6))


def test_a_threshold_lies_midway_between_the_kinds():
    assert best_threshold([0.1, 0.3, 0.6, 0.8], [False, False, True, True]) == pytest.approx(0.45)


@given(st.lists(st.tuples(st.floats(0, 1, allow_subnormal=False), st.booleans()), min_size=1, max_size=20))
def test_no_other_threshold_agrees_better(pairs):
    values, labels = [v for v, _ in pairs], [label for _, label in pairs]
    best = figures([v >= best_threshold(values, labels) for v in values], labels)[0]
    for cut in [*values, 0.0, 1.1]:
        # All-wrong (a cut above all) is no threshold: a judge that never says right is no judge.
        if any(v >= cut for v in values):
            assert best >= figures([v >= cut for v in values], labels)[0] - 1e-12


def test_an_honest_judge_is_admitted_with_its_threshold():
    one = judge(honest)
    found = calibrate(one, rows())
    assert (found.agreement, found.f1, found.kappa, found.failed, found.flip_rate) == (1.0, 1.0, 1.0, 0, 0.0)
    assert found.threshold == pytest.approx(0.55)
    ready = admitted(one, found)
    assert ready("blue", sample()).status.value == "ok" and ready("red", sample()).status.value == "wrong"


def test_a_judge_that_praises_everything_has_half_and_is_refused():
    one = judge(lambda text: 0.9)
    found = calibrate(one, rows(right=40, wrong=10))
    # 80 % accuracy on this set, which is why the balanced figure decides.
    assert (found.accuracy, found.agreement) == (0.8, 0.5)
    with pytest.raises(RewardError, match="agrees with 50%"):
        admitted(one, found)


def test_a_random_judge_is_not_flattered_by_choosing_its_threshold():
    rng = random.Random(0)
    noise = {f"{kind} {i}": rng.random() for kind in ("blue", "red") for i in range(30)}
    found = calibrate(judge(lambda text: noise.get(text, 0.0)), rows(30, 30))
    in_sample = best_threshold([noise[f"{k} {i}"] for k in ("blue", "red") for i in range(30)], [True] * 30 + [False] * 30)
    flattered = figures([noise[f"{k} {i}"] >= in_sample for k in ("blue", "red") for i in range(30)], [True] * 30 + [False] * 30)[
        0
    ]
    assert found.agreement < flattered and found.agreement < 0.7


@pytest.mark.parametrize("trick", ["score", "VERDICT", "Thought process", "confirmed"])
def test_a_judge_that_can_be_talked_over_is_refused(trick):
    one = judge(lambda text: 1.0 if trick in text else honest(text))
    found = calibrate(one, rows())
    assert found.agreement == 1.0 and found.flip_rate == 1.0
    with pytest.raises(RewardError, match="Training would learn to write that text"):
        admitted(one, found)


def test_failed_calls_are_counted_and_refused():
    def shaky(text):
        if text.endswith("3"):
            raise UnparsableVerdict("no line")
        if text.endswith("4"):
            raise JudgeFailed("gone")
        return honest(text)

    one = judge(shaky)
    found = calibrate(one, rows(10, 10))
    assert found.failed == 4 and found.agreement == 1.0
    with pytest.raises(RewardError, match="no readable verdict on 4 of 20"):
        admitted(one, found)

    def dead(text):
        raise JudgeFailed("gone")

    with pytest.raises(RewardError, match="failed on 24 of 24"):
        calibrate(judge(dead), rows())


def test_a_scalar_model_gets_a_curve_whose_middle_is_the_threshold():
    raw = {True: 7.0, False: 3.0}
    one = judge(lambda text: raw[text.startswith("blue")], is_share=False)
    found = calibrate(one, rows())
    # Midway 5; population deviation of half 7 and half 3 is 2.
    assert (found.threshold, found.centre, found.width) == pytest.approx((0.5, 5.0, 2.0))
    # sigmoid((7 - 5) / 2) = sigmoid(1) = 0.731059
    assert admitted(one, found)("blue", sample()).score == pytest.approx(0.731059, abs=1e-6)


@pytest.mark.parametrize("right, wrong, told", [(9, 12, "true"), (12, 9, "false"), (0, 0, "true")])
def test_too_few_labels_say_nothing(right, wrong, told):
    with pytest.raises(ConfigError, match=f"labelled {told}"):
        calibrate(judge(honest), rows(right, wrong))


def test_a_calibration_is_kept_and_keyed_by_judge_and_rows(tmp_path):
    one = judge(honest)
    first = cached(one, rows(), tmp_path)
    calls = one.backend.calls
    assert cached(one, rows(), tmp_path) == first and one.backend.calls == calls
    cached(one, rows(13), tmp_path)
    assert one.backend.calls > calls and len(list(tmp_path.glob("judge-j-*.json"))) == 2


def test_labels_are_read_strictly(tmp_path):
    file = tmp_path / "l.jsonl"
    good = {"sample": sample().to_json(), "completion": "blue", "label": True}
    file.write_text(json.dumps(good) + "\n" + json.dumps(good | {"label": 1}) + "\n")
    with pytest.raises(DataError, match=r"l\.jsonl:2"):
        read_labelled(file)
    file.write_text(json.dumps(good) + "\n")
    assert read_labelled(file) == [Labelled(sample(), "blue", True)]
