"""KL estimators and what the collector makes of them in the reward."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from factory.stages.rl.pieces.kl import K1, K2, K3, AbsoluteGap, K3Plus

ALL = (K1(), K2(), K3(), AbsoluteGap(), K3Plus())
gaps = st.floats(-6, 6)


def of_all(*how):
    """Marks a test that proves the same of every estimator."""

    def mark(test):
        for piece in ALL:
            test = pytest.mark.proves(piece.key, *how)(test)
        return test

    return mark


def normalised(weights):
    found = torch.tensor(weights, dtype=torch.float64)
    return found / found.sum()


def derivative(piece, logp, ref):
    at = torch.tensor([logp], dtype=torch.float64, requires_grad=True)
    piece(at, torch.tensor([ref], dtype=torch.float64)).sum().backward()
    return at.grad.item()


@of_all("table")
@pytest.mark.proves("kl.k3", "vector")
def test_estimators_by_hand():
    # logp -1, ref -1.5: d = -0.5; k1 = 0.5; abs = 0.5; k2 = 0.125; k3 = k3+ = exp(-0.5) + 0.5 - 1 = 0.1065307
    logp, ref = torch.tensor([-1.0], dtype=torch.float64), torch.tensor([-1.5], dtype=torch.float64)
    found = [piece(logp, ref).item() for piece in ALL]
    assert found == pytest.approx([0.5, 0.125, 0.1065307, 0.5, 0.1065307], abs=1e-7)
    assert AbsoluteGap()(ref, logp).item() == 0.5 and K1()(ref, logp).item() == -0.5


@of_all("law", "float64")
@given(gaps)
def test_values_and_gradients_equal_their_formulas(gap):
    # d = ref - logp with logp = 0; derivatives in logp: k1 1, k2 -d, k3 1 - e^d, abs -sign(d), k3+ that of k2
    values = [-gap, gap**2 / 2, math.exp(gap) - gap - 1, abs(gap), math.exp(gap) - gap - 1]
    slopes = [1.0, -gap, 1.0 - math.exp(gap), -math.copysign(1.0, gap) if gap else 0.0, -gap]
    zero, ref = torch.zeros(1, dtype=torch.float64), torch.tensor([gap], dtype=torch.float64)
    assert [piece(zero, ref).item() for piece in ALL] == pytest.approx(values, rel=1e-9, abs=1e-9)
    assert [derivative(piece, 0.0, gap) for piece in ALL] == pytest.approx(slopes, rel=1e-9, abs=1e-9)
    assert all(piece(zero, ref).item() >= -1e-12 for piece in ALL[1:])


@pytest.mark.proves("kl.k1", "law")
@pytest.mark.proves("kl.k2", "law")
@pytest.mark.proves("kl.k3", "law")
@given(st.lists(st.floats(0.05, 1.0), min_size=2, max_size=6), st.lists(st.floats(0.05, 1.0), min_size=6, max_size=6))
def test_k1_and_k3_are_unbiased_and_k2_has_the_right_gradient(p_weights, q_weights):
    p, q = normalised(p_weights), normalised(q_weights[: len(p_weights)])
    exact = (p * (p / q).log()).sum().item()
    assert (p * K1()(p.log(), q.log())).sum().item() == pytest.approx(exact, abs=1e-12)
    assert (p * K3()(p.log(), q.log())).sum().item() == pytest.approx(exact, abs=1e-12)
    # E_p[grad k2] = E_p[log(p/q) grad log p], which is the gradient of the KL in the logits
    logits = p.log().clone().requires_grad_()
    (p * K2()(logits.log_softmax(0), q.log())).sum().backward()
    slow = logits.detach().clone().requires_grad_()
    distribution = slow.log_softmax(0)
    (distribution.exp() * (distribution - q.log())).sum().backward()
    assert torch.allclose(logits.grad, slow.grad, atol=1e-12)


@pytest.mark.proves("kl.k3", "table")
def test_k3_is_finite_far_away_and_bounded_as_verl_bounds_it():
    # d = 100 is held at 20: e^20 - 21; with max_value 10 the value is 10 and the gradient 0
    logp, ref = torch.tensor([-100.0], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    assert K3()(logp, ref).item() == pytest.approx(math.exp(20) - 21)
    assert K3(max_value=10.0)(logp, ref).item() == 10.0
    assert derivative(K3(max_value=10.0), -5.0, 0.0) == 0.0 and derivative(K3(max_value=10.0), -1.0, 0.0) != 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"place": "both"}, "place='both' is not known"),
        ({"coef": -1.0}, "coef must be 0 or more"),
        ({"unbiased": True, "place": "reward"}, "unbiased=true belongs to place=loss"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    for piece in (K1, K2, K3, AbsoluteGap, K3Plus):
        with pytest.raises(ValueError, match=message):
            piece(**settings)
    with pytest.raises(ValueError, match="max_value must be above 0"):
        K3(max_value=-1.0)
