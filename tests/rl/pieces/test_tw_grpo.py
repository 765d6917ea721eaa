"""TW-GRPO's token weights: from whole distributions, shared by a group."""

import math

import pytest
import scored
import torch
from hypothesis import given
from hypothesis import strategies as st

from factory.stages.rl.pieces.tw_grpo import DivergenceWeight, divergences, position_weights

PROBS = [[[0.5, 0.5], [0.9, 0.1], [0.6, 0.4]], [[0.5, 0.5], [0.1, 0.9], [0.4, 0.6]]]


def distributions(seed, num, tokens, words):
    generator = torch.Generator().manual_seed(seed)
    return (2.0 * torch.randn(num, tokens, words, generator=generator)).log_softmax(-1)


def slow(logp, alpha):
    """Weights by plain loops in float64."""
    num, tokens, words = logp.shape
    table = logp.double().tolist()
    found = []
    for t in range(tokens):
        total = 0.0
        for i in range(num):
            for v in range(words):
                x = sum(table[j][t][v] for j in range(num)) / num - table[i][t][v]
                x = min(max(x, -11.0), 11.0)
                total += math.exp(x) - x - 1.0
        found.append(total / num)
    low, high = min(found), max(found)
    return found, [1.0 + (alpha - 1.0) * (one - low) / (high - low + 1e-8) for one in found]


@pytest.mark.proves("token_weight.tw_grpo", "vector")
def test_by_the_guides_vector():
    # B15: 2 rollouts, V 2. KL 0, 1.333333, .041241; weights with alpha 1.7: 1, 1.7, 1.021652.
    divergence = divergences(torch.tensor(PROBS, dtype=torch.float64).log())
    assert divergence.tolist() == pytest.approx([0.0, 1.333333, 0.041241], abs=1e-6)
    assert position_weights(divergence, 1.7) == pytest.approx([1.0, 1.7, 1.021652], abs=1e-6)


@pytest.mark.proves("token_weight.tw_grpo", "float64", "law")
@given(st.integers(0, 2**20), st.integers(1, 5), st.integers(1, 6), st.integers(2, 7), st.floats(1.0, 3.0))
def test_against_slow_loops(seed, num, tokens, words, alpha):
    logp = distributions(seed, num, tokens, words)
    divergence, weights = slow(logp, alpha)
    assert divergences(logp.double()).tolist() == pytest.approx(divergence, rel=1e-9, abs=1e-12)
    found = position_weights(divergences(logp.double()), alpha)
    assert found == pytest.approx(weights, rel=1e-6) and all(1.0 <= one <= alpha + 1e-9 for one in found)
    order = torch.randperm(num, generator=torch.Generator().manual_seed(seed))
    assert position_weights(divergences(logp[order].double()), alpha) == pytest.approx(found, rel=1e-6, abs=1e-6)


def test_a_word_that_one_rollout_rules_out_is_held_within_the_clamp():
    logp = torch.tensor([[[0.0, -100.0]], [[math.log(0.5), math.log(0.5)]]], dtype=torch.float64)
    # Second word: mean (-100 + log .5) / 2; x = +-49.65, held at +-11. First word: x = +-0.34657.
    half = math.log(0.5) / 2
    first = (math.exp(half) - half - 1) + (math.exp(-half) + half - 1)
    second = (math.exp(11) - 11 - 1) + (math.exp(-11) + 11 - 1)
    assert divergences(logp).item() == pytest.approx((first + second) / 2, rel=1e-9)


def applied(group, vocab=None, **settings):
    services = scored.Vocabulary([], vocab=vocab or (lambda asked, rollouts: torch.tensor(PROBS).log()))
    DivergenceWeight(**settings).apply(scored.context(services=services), group)
    return services.asked


@pytest.mark.proves("token_weight.tw_grpo", "table")
def test_weights_go_to_the_tokens_of_live_rollouts_by_position():
    made = scored.group([{"tokens": 2}, {"tokens": 3, "exact": 0.0}, {"exact": None}])
    made.rollouts[0].advantage, made.rollouts[1].advantage = 1.0, -1.0
    made.rollouts[0].token_weights = [2.0, 0.5]
    assert applied([made]) == ["s"]
    # 2 x 1 and 0.5 x 1.7 where another piece has weighed before.
    assert made.rollouts[0].token_weights == pytest.approx([2.0, 0.85])
    assert made.rollouts[1].token_weights == pytest.approx([1.0, 1.7, 1.021652], abs=1e-6)
    assert made.rollouts[2].token_weights == []


def test_groups_that_teach_nothing_cost_no_forward():
    lone, equal, by_token = scored.group([{}]), scored.group([{}, {}]), scored.group([{}, {}])
    lone.rollouts[0].advantage = 1.0
    by_token.rollouts[0].token_advantages = [0.0, 0.0, 1.0]
    assert applied([lone, equal]) == [] and all(one.token_weights == [] for one in equal.rollouts)
    assert applied([by_token]) == ["s"]
    with pytest.raises(ValueError, match="alpha"):
        DivergenceWeight(alpha=0.9)


@pytest.mark.proves("token_weight.tw_grpo", "run")
def test_a_real_run_weighs_with_the_models_own_distributions(run_stage):
    """The first word is drawn from one distribution, so it weighs 1; the words after it, where rollouts differ, weigh more."""
    _, weighed, _ = run_stage("weighed", preset="tw_grpo", num_steps=4)
    _, plain, _ = run_stage("plain", preset="tw_grpo", num_steps=4, pieces={"token_weight": None})
    assert weighed[-1]["reward"] > weighed[0]["reward"]
    assert weighed[0]["reward"] == plain[0]["reward"] and weighed[0]["grad_norm"] > 1.005 * plain[0]["grad_norm"]
