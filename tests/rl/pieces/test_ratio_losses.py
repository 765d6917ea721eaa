"""Losses that treat the importance ratio in another way than a clip per token: GSPO, CISPO, SAPO, CPGD, mirror descent."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from token_batches import batch_of, gradient, random_batch

from factory.stages.rl.pieces.aggregate import SeqMeanTokenMean
from factory.stages.rl.pieces.cispo import Cispo
from factory.stages.rl.pieces.cpgd import Cpgd
from factory.stages.rl.pieces.gspo import Gspo, GspoToken, mean_log_ratio
from factory.stages.rl.pieces.mirror import MirrorDescent
from factory.stages.rl.pieces.sapo import Sapo

seeds = st.integers(0, 9999)


def loops(batch, of):
    """[[loss]] by a Python function of (b, t); 0 where nothing trains."""
    rows, columns = batch.logp.shape
    return torch.tensor(
        [[of(b, t) if batch.mask[b, t] else 0.0 for t in range(columns)] for b in range(rows)], dtype=torch.float64
    )


def assert_equals_loops(loss, batch, of):
    torch.testing.assert_close(loss(batch).loss.detach() * batch.mask, loops(batch, of), rtol=1e-10, atol=1e-10)


# GSPO


@pytest.mark.proves("loss.gspo", "vector", "table")
@pytest.mark.proves("loss.gspo_token", "vector", "table")
def test_gspo_golden_vector():
    # mean of .001, -.0005, .0004 is .0003: s = exp(.0003) = 1.00030005 (float64: 1.000300045)
    batch = batch_of([[0.001, -0.0005, 0.0004]], old=torch.zeros(1, 3))
    assert mean_log_ratio(batch).exp().item() == pytest.approx(1.00030005, abs=1e-8)
    # constant .001: s = 1.0010005, A 1, upper end 1.0004 -> -1.0004
    batch = batch_of([[0.001, 0.001]], old=torch.zeros(1, 2))
    for piece in (Gspo(), GspoToken()):
        found = piece(batch)
        assert found.loss.tolist() == [[pytest.approx(-1.0004, abs=1e-9)] * 2]
        assert found.clipped_high.tolist() == [[True, True]] and not found.clipped_low.any()


@pytest.mark.proves("loss.gspo", "float64")
@pytest.mark.proves("loss.gspo_token", "float64")
@given(seeds, st.sampled_from([1e-3, 1.0]))
def test_gspo_equals_loops(seed, spread):
    batch = random_batch(seed, spread=spread)

    def slow(b, t):
        kept = [float(batch.logp[b, k] - batch.old[b, k]) for k in range(batch.mask.shape[1]) if batch.mask[b, k]]
        s, a = math.exp(sum(kept) / len(kept)), float(batch.advantages[b, t])
        return max(-a * s, -a * min(max(s, 1 - 3e-4), 1 + 4e-4))

    for piece in (Gspo(), GspoToken()):
        assert_equals_loops(piece, batch, slow)


@pytest.mark.proves("loss.gspo", "law")
@pytest.mark.proves("loss.gspo_token", "law")
@given(seeds)
def test_both_forms_have_one_value_and_one_gradient_when_a_rollout_has_one_advantage(seed):
    # Averaged over a rollout's tokens, s * mean_t(grad logp) and mean_t(s * grad logp) are the same.
    batch = random_batch(seed, spread=3e-4, requires_grad=True)
    results = []
    for piece in (Gspo(), GspoToken()):
        loss = SeqMeanTokenMean()(piece(batch).loss, batch.mask, batch.totals, max_length=9)
        results.append((loss.item(), torch.autograd.grad(loss, batch.logp)[0]))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-12)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-9, atol=1e-12)


@pytest.mark.proves("loss.gspo", "law")
def test_masked_tokens_and_empty_rows_do_not_touch_the_ratio():
    batch = batch_of([[-1.0, 50.0], [3.0, 4.0]], old=torch.zeros(2, 2), mask=[[1, 0], [0, 0]])
    assert mean_log_ratio(batch).tolist() == [[-1.0], [0.0]]


# CISPO


@pytest.mark.proves("loss.cispo", "vector", "table")
def test_cispo_golden_vector():
    # A 1, rho 1.5 -> weight 1.28; -1.28 * 1 * logp(-1) = 1.28
    batch = batch_of([[-1.0]], old=[[-1.0 - math.log(1.5)]])
    assert Cispo(eps_high=0.28)(batch).loss.item() == pytest.approx(1.28, abs=1e-9)


@pytest.mark.proves("loss.cispo", "float64")
@given(seeds, st.floats(0.05, 1.0), st.floats(0.05, 2.0))
def test_cispo_equals_loops(seed, low, high):
    batch = random_batch(seed)

    def slow(b, t):
        rho = math.exp(float(batch.logp[b, t] - batch.old[b, t]))
        return -min(max(rho, 1 - low), 1 + high) * float(batch.advantages[b, t] * batch.logp[b, t])

    assert_equals_loops(Cispo(low, high), batch, slow)


@pytest.mark.proves("loss.cispo", "law")
@given(seeds)
def test_no_token_of_cispo_loses_its_gradient(seed):
    batch = random_batch(seed, spread=3.0, requires_grad=True)
    found = gradient(Cispo(), batch)
    weight = -found / batch.advantages
    assert torch.equal(found == 0, batch.mask == 0)
    assert ((weight <= 1.28 + 1e-12) & (weight >= 0)).all()


# SAPO


@pytest.mark.proves("loss.sapo", "table")
def test_sapo_by_hand():
    # rho = 1: sigmoid(0) = 1/2, so the gate is 2 / tau: A = 1 (tau 1) -> -2; A = -1 (tau 1.05) -> 2/1.05 = 1.904762
    found = Sapo()(batch_of([[-1.0], [-1.0]], advantages=[1.0, -1.0]))
    assert found.loss.flatten().tolist() == pytest.approx([-2.0, 1.904762], abs=1e-6)


@pytest.mark.proves("loss.sapo", "float64")
@given(seeds)
def test_sapo_equals_loops(seed):
    batch = random_batch(seed)

    def slow(b, t):
        a = float(batch.advantages[b, t])
        tau = 1.0 if a > 0 else 1.05
        rho = math.exp(float(batch.logp[b, t] - batch.old[b, t]))
        return -a * 4.0 / tau / (1.0 + math.exp(-tau * (rho - 1.0)))

    assert_equals_loops(Sapo(), batch, slow)


@pytest.mark.proves("loss.sapo", "law")
@given(seeds)
def test_sapo_is_the_policy_gradient_on_policy_and_never_stronger_than_the_ratio(seed):
    batch = random_batch(seed, spread=0.0, requires_grad=True)
    torch.testing.assert_close(gradient(Sapo(), batch), -batch.advantages * batch.mask, rtol=1e-9, atol=1e-12)
    off = random_batch(seed, spread=3.0, requires_grad=True)
    bound = (off.advantages * (off.logp - off.old).exp() * off.mask).abs().detach()
    assert (gradient(Sapo(), off).abs() <= bound + 1e-12).all()


# CPGD


@pytest.mark.proves("loss.cpgd", "vector", "table")
@pytest.mark.parametrize(
    ("advantage", "logp", "expected"),
    [
        (1.0, -0.5, 0.817678),  # min(-.5, -1 + log 1.2 = -.817678), times -A
        (1.0, -0.9, 0.9),  # inside
        (-1.0, -2.0, -1.223144),  # max(-2, -1 + log .8 = -1.223144)
        (-1.0, -1.1, -1.1),  # inside
    ],
)
def test_cpgd_golden_vector(advantage, logp, expected):
    assert Cpgd()(batch_of([[logp]], old=[[-1.0]], advantages=[advantage])).loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.proves("loss.cpgd", "float64")
@given(seeds, st.floats(0.05, 0.9), st.sampled_from([0.0, 0.7]))
def test_cpgd_equals_loops(seed, eps, drift):
    batch = random_batch(seed)

    def slow(b, t):
        a, logp, old = (float(x[b, t]) for x in (batch.advantages, batch.logp, batch.old))
        x = min(logp, old + math.log(1 + eps)) if a > 0 else max(logp, old + math.log(1 - eps))
        return -x * a + drift * (math.exp(logp - old) - (logp - old) - 1)

    assert_equals_loops(Cpgd(eps, drift=drift > 0, drift_coef=drift), batch, slow)


@pytest.mark.proves("loss.cpgd", "law")
@given(seeds)
def test_cpgd_has_the_plain_gradient_inside_and_none_outside(seed):
    batch = random_batch(seed, requires_grad=True)
    found, piece = gradient(Cpgd(), batch), Cpgd()(batch)
    outside = piece.clipped_low | piece.clipped_high
    expected = torch.where(outside, torch.zeros_like(found), -batch.advantages * batch.mask)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


# Mirror descent


@pytest.mark.proves("loss.mirror_descent", "vector", "table")
def test_mirror_descent_golden_vector():
    # A = 1 - .5; gradient ascent coefficient on log pi: A - tau (log pi - log pi_i) = .5 - .1 * (-1 + 1.2) = .48
    logp = torch.tensor([[-1.0]], dtype=torch.float64, requires_grad=True)
    batch = batch_of(logp, old=[[-1.2]], advantages=[0.5])
    assert gradient(MirrorDescent(tau=0.1), batch).item() == pytest.approx(-0.48)
    # the loss itself: -.5 * -1 + .05 * .04 = .502
    assert MirrorDescent(tau=0.1)(batch).loss.item() == pytest.approx(0.502)


@pytest.mark.proves("loss.mirror_descent", "float64")
@given(seeds, st.floats(0.01, 2.0))
def test_mirror_descent_equals_loops_over_whole_sequences(seed, tau):
    batch = random_batch(seed)

    def slow(b, t):
        kept = [k for k in range(batch.mask.shape[1]) if batch.mask[b, k]]
        now, then = (sum(float(x[b, k]) for k in kept) for x in (batch.logp, batch.old))
        return -float(batch.advantages[b, 0]) * now + tau / 2 * (now - then) ** 2

    assert_equals_loops(MirrorDescent(tau=tau), batch, slow)


@pytest.mark.proves("loss.mirror_descent", "law")
@given(seeds, st.floats(0.01, 2.0))
def test_every_token_of_a_rollout_is_pushed_alike_and_the_pull_is_zero_at_the_start(seed, tau):
    for spread in (0.0, 1.0):
        batch = random_batch(seed, spread=spread, requires_grad=True)
        loss = SeqMeanTokenMean()(MirrorDescent(tau=tau)(batch).loss, batch.mask, batch.totals, max_length=9)
        (found,) = torch.autograd.grad(loss, batch.logp)
        moved = ((batch.logp - batch.old) * batch.mask).sum(1, keepdim=True).detach()
        expected = -(batch.advantages - tau * moved) * batch.mask / len(found)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.proves("loss.mirror_descent", "law")
def test_the_optimiser_is_reset_unless_told_otherwise():
    class Learner:
        resets = 0

        def reset_optimizer(self):
            self.resets += 1

    learner = Learner()
    MirrorDescent(tau=0.1, reset_optimizer=False).after_updates(learner)
    assert learner.resets == 0
    MirrorDescent(tau=0.1).after_updates(learner)
    assert learner.resets == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gspo(eps_low=0.0), "eps_low must be in"),
        (lambda: Cispo(eps_high=0.0), "eps_high above 0"),
        (lambda: Sapo(tau_negative=0.0), "must be above 0"),
        (lambda: Cpgd(eps=1.0), "eps must be in"),
        (lambda: Cpgd(drift=True), "drift=true needs drift_coef"),
        (lambda: Cpgd(drift_coef=0.1), "no effect without drift=true"),
        (lambda: MirrorDescent(tau=0.0), "tau must be above 0"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
