"""Truncated importance sampling by hand, by property, and in the objective's place: weights, log-probs, figures."""

import math
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.contracts import Message, Sample
from factory.stages.rl.config import RlConfig
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.tis import TruncatedImportance, truncated_weights
from factory.stages.rl.presets import resolve
from factory.stages.rl.rollouts import REPLAY, Group, Rollout, Span

SAMPLE = Sample("s", "t", (Message("user", "?"),), "x")


def rollout(logprobs, index=0, **changes):
    return Rollout(
        place=0, index=index, ids=[1] * len(logprobs), logprobs=logprobs, finished=True, version=0, outcome=1.0, **changes
    )


def context(own):
    """A step whose policy gives each rollout the log-probs `own[index]`."""
    services = SimpleNamespace(logprobs=lambda pairs, of: [own[one.index] for _, one in pairs])
    return StepContext(0, 1, 0, 8, 2, services=services)


@pytest.mark.proves("token_weight.tis", "table")
def test_weights_by_hand():
    # exp(-1 - -2) = 2.718 is held at 2; exp(-2 - -2) = 1; exp(-3 - -2.5) = 0.6065
    assert truncated_weights([-1.0, -2.0, -3.0], [-2.0, -2.0, -2.5], 2.0) == pytest.approx([2.0, 1.0, 0.6065], abs=1e-4)


logprob = st.floats(-50.0, 0.0)


@pytest.mark.proves("token_weight.tis", "law")
@settings(deadline=None)
@given(st.lists(st.tuples(logprob, logprob), min_size=1), st.floats(1.0, 10.0))
def test_weights_lie_in_their_range_and_equal_policies_weigh_one(pairs, cap):
    own, sampler = [list(side) for side in zip(*pairs, strict=True)]
    assert all(0.0 <= weight <= cap * (1 + 1e-12) for weight in truncated_weights(own, sampler, cap))
    assert truncated_weights(own, own, cap) == [1.0] * len(own)


def test_fresh_rollouts_are_weighed_and_start_from_the_trainers_log_probs():
    mine, stored = rollout([-2.0, -2.0]), rollout([-1.0], index=1, kind=REPLAY)
    mine.token_weights = [0.5, 1.0]
    ctx = context({0: [-1.0, -2.5], 1: [-9.0]})
    TruncatedImportance(cap=2.0).apply(ctx, [Group(SAMPLE, [mine, stored])])
    assert mine.token_weights == pytest.approx([0.5 * 2.0, math.exp(-0.5)]) and mine.logprobs == [-1.0, -2.5]
    assert stored.logprobs == [-1.0] and stored.token_weights == [], "stored rollouts keep what they were sampled with"
    assert ctx.metrics == pytest.approx(
        {
            "sampler_gap_max": 1.0,
            "sampler_gap_mean": 0.75,
            "sampler_kl": -0.25,
            "tis_mean": (2.0 + math.exp(-0.5)) / 2,
            "tis_capped": 0.5,
        }
    )


def test_tokens_that_a_hook_put_in_weigh_one_and_do_not_count():
    mixed = rollout([-2.0, 0.0], spans=[Span(0, 1, "policy"), Span(1, 2, "injected")])
    ctx = context({0: [-2.0, -7.0]})
    TruncatedImportance().apply(ctx, [Group(SAMPLE, [mixed])])
    assert mixed.token_weights == [1.0, 1.0] and ctx.metrics["sampler_gap_max"] == 0.0


def test_the_piece_joins_by_itself_with_vllm_and_can_be_set_or_taken_out():
    assert resolve(RlConfig(engine="vllm")).one("token_weight") == TruncatedImportance(2.0)
    assert resolve(RlConfig(engine="vllm", pieces={"token_weight": {"tis": {"cap": 5.0}}})).one(
        "token_weight"
    ) == TruncatedImportance(5.0)
    assert not resolve(RlConfig(engine="vllm", pieces={"token_weight": {"tis": None}})).many("token_weight")
    assert not resolve(RlConfig(engine="vllm", pieces={"token_weight": None})).many("token_weight")
    assert not resolve(RlConfig()).many("token_weight")


def test_a_cap_below_one_is_refused():
    with pytest.raises(ValueError, match="cap must be 1 or more"):
        TruncatedImportance(cap=0.5)
