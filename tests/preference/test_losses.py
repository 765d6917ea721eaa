"""The terms by themselves: golden vectors, hand-computed tables, laws, and a slow float64 reference."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.errors import ConfigError
from factory.stages.logistic import negative_log_sigmoid
from factory.stages.preference.delta import RunningDelta
from factory.stages.preference.losses import LOSSES, TERMS, PairLogprobs, bco_pair, dpo, ipo, ipo_sum, resolve_loss, sft_row_mean
from factory.stages.preference.objective import PreferenceObjective
from factory.stages.reward_model.losses import bradley_terry, cost

torch.set_num_threads(1)
NATS = st.floats(-60.0, 0.0)


def pair(chosen, rejected, ref_chosen=0.0, ref_rejected=0.0, tokens=(1.0, 1.0), beta=0.1, delta=0.0):
    numbers = (chosen, rejected, ref_chosen, ref_rejected, *tokens)
    return PairLogprobs(*(torch.tensor([float(x)]) for x in numbers), beta=beta, delta=delta)


def test_golden_vectors_of_the_guide():
    # guides/techniques.md B15: Bradley-Terry at margin 1; MPO's pieces at beta 0.1, Dw 2, Dl -1, delta 0
    assert float(bradley_terry(torch.tensor(3.5), torch.tensor(2.5))) == pytest.approx(0.313262, abs=1e-6)
    assert float(dpo(pair(-3, -8, -5, -7))) == pytest.approx(0.554355, abs=1e-6)
    assert float(bco_pair(pair(-3, -8, -5, -7))) == pytest.approx(1.242536, abs=1e-6)


def test_terms_by_hand():
    # Dw = -3 - -5 = 2 over 4 tokens, Dl = -8 - -7 = -1 over 2 tokens, 1/(2 beta) = 5
    p = pair(-3, -8, -5, -7, tokens=(4, 2))
    assert float(ipo(p)) == pytest.approx((2 / 4 - -1 / 2 - 5) ** 2)  # 16
    assert float(ipo_sum(p)) == pytest.approx((2 - -1 - 5) ** 2)  # 4
    assert float(sft_row_mean(p)) == pytest.approx(3 / 4)
    # delta 0.05 moves both arguments of the BCO pair to 0.15: 2 ln(1 + e^-0.15) = 2 * 0.620957
    assert float(bco_pair(pair(-3, -8, -5, -7, delta=0.05))) == pytest.approx(2 * 0.620957, abs=1e-5)


def test_mpo_by_hand():
    # One pair: 0.8 * 0.554355 + 0.2 * 1.242536 + 1.0 * 3 nats / 4 tokens = 0.443484 + 0.248507 + 0.75
    got = step_loss("mpo_trl", [(-3.0, -8.0, -5.0, -7.0, 4, 2)], 0.1)
    assert got == pytest.approx(1.441991, abs=1e-5)


def test_cost_by_hand():
    # Safe at cost -1, unsafe at 2: ranks s(3) = 0.048587, signs s(-1 * -1) = 0.313262 and s(1 * 2) = 0.126928
    safe, unsafe = torch.tensor([-1.0]), torch.tensor([1.0])
    got = cost(torch.tensor([-1.0]), torch.tensor([2.0]), safe, unsafe)
    assert float(got) == pytest.approx(0.048587 + 0.313262 + 0.126928, abs=1e-5)
    # The same costs with both labelled safe: the last term becomes s(-2) = 2.126928
    got = cost(torch.tensor([-1.0]), torch.tensor([2.0]), safe, safe)
    assert float(got) == pytest.approx(0.048587 + 0.313262 + 2.126928, abs=1e-5)


@given(st.floats(-1e4, 1e4))
def test_negative_log_sigmoid_never_overflows_and_has_the_right_slope(margin):
    x = torch.tensor(margin, dtype=torch.float64, requires_grad=True)
    value = negative_log_sigmoid(x)
    value.backward()
    assert math.isfinite(value.item()) and value.item() >= max(0.0, -margin)
    slope = -math.exp(-margin) / (1 + math.exp(-margin)) if abs(margin) < 700 else -float(margin < 0)
    assert float(x.grad) == pytest.approx(slope, abs=1e-12)


@given(NATS, NATS, NATS, NATS, st.floats(0.01, 5.0), st.floats(-20, 20))
def test_only_the_distance_from_the_reference_counts(chosen, rejected, ref_chosen, ref_rejected, beta, shift):
    here = pair(chosen, rejected, ref_chosen, ref_rejected, beta=beta)
    there = pair(chosen + shift, rejected + shift, ref_chosen + shift, ref_rejected + shift, beta=beta)
    for term in (dpo, bco_pair, ipo, ipo_sum):
        assert float(term(here)) == pytest.approx(float(term(there)), rel=1e-3, abs=1e-3)
        assert float(term(here)) >= 0.0
    # DPO at a margin and at its opposite differ by the margin itself: s(-m) - s(m) = m
    swapped = pair(rejected, chosen, ref_rejected, ref_chosen, beta=beta)
    margin = beta * ((chosen - ref_chosen) - (rejected - ref_rejected))
    assert float(dpo(swapped) - dpo(here)) == pytest.approx(margin, rel=1e-4, abs=1e-4)


@given(st.floats(-20, 20), st.floats(-20, 20), st.booleans(), st.booleans())
def test_cost_falls_as_the_worse_response_costs_more_and_is_symmetric(better, worse, is_better_safe, is_worse_safe):
    signs = [torch.tensor([-1.0 if safe else 1.0], dtype=torch.float64) for safe in (is_better_safe, is_worse_safe)]
    a, b = (torch.tensor([x], dtype=torch.float64) for x in (better, worse))
    # Turning every cost and label round, and which is worse, changes nothing.
    assert float(cost(a, b, *signs)) == pytest.approx(float(cost(-b, -a, -signs[1], -signs[0])), rel=1e-12)
    if not is_worse_safe:
        assert float(cost(a, b + 1.0, *signs)) < float(cost(a, b, *signs))


ROW = st.tuples(NATS, NATS, NATS, NATS, st.integers(1, 9), st.integers(1, 9))


def slow_loss(name, rows, beta, delta):
    """The published loss in Python floats, written from the formulas of the guide; no code shared with ours."""

    def s(x):
        return -math.log(1 / (1 + math.exp(-x))) if x > -700 else -x

    weights = {"mpo": (0.8, 0.2, 1.0), "mpo_trl": (0.8, 0.2, 1.0), "dpo": (1, 0, 0), "bco": (0, 1, 0)}[name]
    total = 0.0
    for chosen, rejected, ref_chosen, ref_rejected, _, _ in rows:
        better, worse = chosen - ref_chosen, rejected - ref_rejected
        total += weights[0] * s(beta * (better - worse)) / len(rows)
        total += weights[1] * (s(beta * better - delta) + s(-(beta * worse - delta))) / len(rows)
    return total + weights[2] * -sum(row[0] for row in rows) / sum(row[4] for row in rows)


def make_batch(rows, width=10, dtype=torch.float64):
    """A batch whose log-probabilities are stored in it: each row's sum is spread over its tokens, after one prompt token."""
    flat = [(row[0], row[4]) for row in rows] + [(row[1], row[5]) for row in rows]
    mask = torch.tensor([[0] + [1] * n + [0] * (width - 1 - n) for _, n in flat])
    logp = torch.stack([mask[i] * (total / n) for i, (total, n) in enumerate(flat)]).to(dtype)
    refs = {name: torch.tensor([row[k] for row in rows], dtype=dtype) for name, k in (("ref_chosen", 2), ("ref_rejected", 3))}
    return {"input_ids": mask, "loss_mask": mask, "logp": logp, **refs}


def step_loss(name, rows, beta, delta=0.0, size=None, width=10):
    """Loss of a whole step whose rows are split into micro-batches of `size` pairs."""
    objective = PreferenceObjective(
        LOSSES[name], beta=beta, delta=SimpleNamespace(value=delta), logprobs=lambda _, batch: batch["logp"]
    )
    parts = [rows[i : i + (size or len(rows))] for i in range(0, len(rows), size or len(rows))]
    batches = [make_batch(part, width) for part in parts]
    totals = {}
    for batch in batches:
        for key, value in objective.counts(batch).items():
            totals[key] = totals.get(key, 0.0) + value
    return sum(float(objective.loss(None, batch, totals)[0]) for batch in batches)


@settings(max_examples=60)
@given(
    st.lists(ROW, min_size=1, max_size=6),
    st.sampled_from(["dpo", "bco", "mpo", "mpo_trl"]),
    st.floats(0.02, 1.0),
    st.floats(-1, 1),
)
def test_every_loss_equals_a_slow_reference(rows, name, beta, delta):
    # Sequence sums are float32 in the objective, hence the tolerance.
    assert step_loss(name, rows, beta, delta) == pytest.approx(slow_loss(name, rows, beta, delta), rel=2e-5, abs=2e-5)


@settings(max_examples=60)
@given(
    st.lists(ROW, min_size=2, max_size=7), st.sampled_from(sorted(LOSSES)), st.integers(1, 4), st.integers(10, 16), st.randoms()
)  # fmt: skip
def test_loss_ignores_split_padding_and_order(rows, name, size, width, random):
    want = step_loss(name, rows, 0.1, 0.02)
    shuffled = random.sample(rows, len(rows))
    assert step_loss(name, shuffled, 0.1, 0.02, size=size, width=width) == pytest.approx(want, rel=1e-5, abs=1e-5)


def test_metrics_are_means_over_the_step():
    rows = [(-3.0, -8.0, -5.0, -7.0, 4, 2), (-6.0, -4.0, -5.0, -5.0, 3, 3)]
    objective = PreferenceObjective(
        LOSSES["dpo"], beta=0.5, delta=RunningDelta(is_on=False), logprobs=lambda _, batch: batch["logp"]
    )
    batch = make_batch(rows)
    assert dict(objective.counts(batch)) == {"pairs": 2.0, "tokens": 12.0, "chosen_tokens": 7.0}
    _, metrics = objective.loss(None, batch, objective.counts(batch))
    # Dw = 2, -1 and Dl = -1, 1; rewards are half of that: margins 1.5 and -1
    assert metrics["chosen_reward"] == pytest.approx((1.0 - 0.5) / 2) and metrics["rejected_reward"] == pytest.approx(0.0)
    assert metrics["margin"] == pytest.approx(0.25) and metrics["accuracy"] == 0.5
    assert metrics["chosen_logp"] == pytest.approx(-4.5) and metrics["rejected_logp"] == pytest.approx(-6.0)


def test_running_delta_is_the_mean_of_all_rewards_so_far_and_survives_a_checkpoint():
    delta = RunningDelta(is_on=True)
    assert delta.value == 0.0
    delta.update(chosen_reward=0.4, rejected_reward=0.0, num_pairs=3)
    delta.update(chosen_reward=1.0, rejected_reward=0.6, num_pairs=1)
    # (3 * 0.4 + 3 * 0 + 1.0 + 0.6) / 8
    assert delta.value == pytest.approx(0.35)
    again = RunningDelta(is_on=True)
    again.load_state_dict(delta.state_dict())
    assert again.value == delta.value
    off = RunningDelta(is_on=False)
    off.update(chosen_reward=1.0, rejected_reward=1.0, num_pairs=5)
    assert off.value == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "dpoo"}, r"stages\.x\.loss is 'dpoo'\. Did you mean 'dpo'\?"),
        ({"weights": {"sftt": 1.0}}, r"stages\.x\.weights\.sftt: no such term\. Did you mean 'sft'\?"),
        ({"weights": {"sft": -1.0}}, r"stages\.x\.weights\.sft is -1\.0; give a finite number"),
        ({"weights": {"dpo": 0.0}}, r"leave no term of loss 'dpo'"),
        ({"beta": 0.0}, r"stages\.x\.beta is 0\.0"),
        ({"beta": float("nan")}, r"stages\.x\.beta is nan"),
        ({"delta": "mean"}, r"stages\.x\.delta is 'mean'"),
        ({"delta": "running_mean"}, r"shifts only the term bco_pair, which loss 'dpo' lacks"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        resolve_loss("stages.x", **{"name": "dpo", "weights": {}, "delta": "", "beta": 0.1, **changes})


def test_weights_of_the_recipe_replace_and_add_terms():
    loss = resolve_loss("stages.x", "mpo", {"sft": 0.0, "ipo": 0.5}, "none", 0.1)
    assert [(term.name, weight) for term, weight in loss.terms()] == [("dpo", 0.8), ("bco_pair", 0.2), ("ipo", 0.5)]
    assert loss.delta == "none" and LOSSES["mpo"].delta == "running_mean"
    assert set(TERMS) >= {name for found in LOSSES.values() for name in found.weights}
