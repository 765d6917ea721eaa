"""Our verifiers as TRL's and verl's reward functions by import path, and theirs as our verifiers."""

import importlib
import json
from itertools import islice

import pytest

from factory.contracts import DataRequest, Sample, Status
from factory.errors import ConfigError, RewardError
from factory.interop import reward_functions as ours
from factory.plugins import load_pack
from factory.rewards.bridges.verl import VerlVerifier


@pytest.fixture(scope="module")
def lessons():
    return list(islice(load_pack("timeseries").lessons("train", 0, DataRequest(limit=4)), 4))


def by_path(path):
    """As `trl grpo --reward_funcs PATH` finds it (trl/scripts/grpo.py)."""
    module, name = path.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def test_trl_finds_the_mixture_and_single_verifiers_by_path(lessons):
    samples = [json.dumps(lesson.sample.to_json()) for lesson in lessons]
    right = [[{"role": "assistant", "content": lesson.response}] for lesson in lessons]
    mixture = by_path("factory.interop.reward_functions.timeseries")
    assert mixture.__name__ == "timeseries"
    assert mixture(prompts=[""] * 4, completions=right, sample=samples) == [1.0] * 4
    assert all(score < 1.0 for score in mixture(completions=["no answer"] * 4, sample=samples))
    name = next(iter(load_pack("timeseries").verifiers()))
    single = by_path(f"factory.interop.reward_functions.timeseries__{name}")
    assert all(0.0 <= score <= 1.0 for score in single(completions=right, sample=samples))
    with pytest.raises(AttributeError, match="no verifier 'nothing'"):
        by_path("factory.interop.reward_functions.timeseries__nothing")
    with pytest.raises(AttributeError, match="frobnitz"):
        by_path("factory.interop.reward_functions.frobnitz")


def test_verl_scores_rows_that_we_made(lessons):
    rows = ours.verl_rows([lesson.sample for lesson in lessons], "timeseries")
    for row, lesson in zip(rows, lessons, strict=True):
        call = dict(
            data_source=row["data_source"], ground_truth=row["reward_model"]["ground_truth"], extra_info=row["extra_info"]
        )
        assert ours.compute_score(solution_str=lesson.response, **call) == {"score": 1.0, "masked": 0.0}
        assert ours.compute_score(solution_str="?", **call)["score"] < 1.0
    assert {"data_source", "prompt", "ability", "reward_model", "extra_info"} <= set(rows[0])
    with pytest.raises(ConfigError, match="Make the rows with verl_rows"):
        ours.compute_score("gsm8k", "x", "y", {})
    with pytest.raises(ConfigError, match="has no `sample`"):
        ours.compute_score("factory/timeseries", "x", "y", {})


class Broken:
    name, version = "broken", "1"

    def __call__(self, completion, sample):
        raise RuntimeError("down")


def test_a_failing_verifier_is_none_for_trl_and_stops_verl_above_the_limit(lessons, monkeypatch):
    judge = ours.judge_of("timeseries")
    monkeypatch.setattr(judge, "_verifiers", {name: Broken() for name in judge._verifiers})
    monkeypatch.setattr(ours, "_counts", type(ours._counts)())
    row = ours.verl_rows([lessons[0].sample], "timeseries")[0]
    assert ours.trl_reward("timeseries")(["x"], [row["extra_info"]["sample"]]) == [None]
    for _ in range(ours.MIN_CALLS - 1):
        assert ours.compute_score(row["data_source"], "x", "", row["extra_info"]) == {"score": 0.0, "masked": 1.0}
    with pytest.raises(RewardError, match="100 of 100 verifications failed"):
        ours.compute_score(row["data_source"], "x", "", row["extra_info"])


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    """A reward function as verl's users write it."""
    assert extra_info["task"] == "sum"
    return {"score": float(solution_str == ground_truth), "acc": True} if data_source == "mine" else -3.0


def test_verls_reward_functions_are_verifiers(monkeypatch):
    monkeypatch.setitem(
        __import__("sys").modules, "verl_rewards_of_the_test", __import__("types").SimpleNamespace(compute_score=compute_score)
    )
    verifier = VerlVerifier("verl_rewards_of_the_test:compute_score")
    sample = Sample("1", "sum", (), "4", meta={"data_source": "mine"})
    assert (verifier("4", sample).score, verifier("4", sample).status) == (1.0, Status.ok)
    assert verifier("5", sample).status is Status.wrong
    with pytest.raises(ValueError, match="-3"):
        verifier("4", Sample("1", "sum", (), "4", source="other"))
    with pytest.raises(ConfigError, match="must be above"):
        VerlVerifier("a:b", low=1.0)
