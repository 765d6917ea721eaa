"""KL-Cov: which tokens are held back, and what that does to the loss."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from token_batches import batch_of, gradient, random_batch

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.kl_cov import KlCov, KlCovPenalty, covariances, top_share

numbers = st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=12)
CTX = StepContext(0, 1, 0, 64, 8)


@pytest.mark.proves("loss.kl_cov", "vector", "table")
@pytest.mark.proves("auxiliary.kl_cov_penalty", "vector", "table")
def test_covariance_golden_vector():
    # mean A 0, mean logp -1.05: 1 * .95, 1 * -.95, -1 * .95, -1 * -.95
    assert covariances([1, 1, -1, -1], [-0.1, -2, -0.1, -2]) == pytest.approx([0.95, -0.95, -0.95, 0.95])


@pytest.mark.proves("loss.kl_cov", "table")
def test_the_top_share_by_hand():
    assert top_share([1.0, 5.0, 3.0, 4.0], 0.5) == [0.0, 1.0, 0.0, 1.0]
    assert top_share([1.0, 5.0, 3.0, 4.0], 0.01) == [0.0, 1.0, 0.0, 0.0], "at least one"
    # two of four wanted: the 5, and one of three equal threes, which share it
    assert top_share([3.0, 5.0, 3.0, 3.0], 0.5) == pytest.approx([1 / 3, 1.0, 1 / 3, 1 / 3])
    assert top_share([], 0.5) == []


@pytest.mark.proves("loss.kl_cov", "law")
@pytest.mark.proves("auxiliary.kl_cov_penalty", "law")
@given(numbers, st.floats(0.01, 1.0), st.randoms())
def test_the_choice_has_the_wanted_size_and_follows_a_permutation(values, share, rng):
    found = top_share(values, share)
    assert sum(found) == pytest.approx(max(1, int(len(values) * share)))
    assert all(0.0 <= one <= 1.0 for one in found)
    chosen = [v for v, one in zip(values, found, strict=True) if one > 0]
    assert min(chosen) >= max((v for v, one in zip(values, found, strict=True) if one == 0), default=min(chosen))
    order = list(range(len(values)))
    rng.shuffle(order)
    assert top_share([values[i] for i in order], share) == [found[i] for i in order]


@pytest.mark.proves("loss.kl_cov", "table")
@pytest.mark.proves("auxiliary.kl_cov_penalty", "table")
def test_flags_are_chosen_over_all_rollouts_and_only_where_tokens_train():
    # As in the golden vector, split over two rollouts, with an untrained token of huge log-prob in between.
    rows = [([-0.1, 99.0, -2.0], [1.0, 1.0, 1.0], [1, 0, 1]), ([-0.1, -2.0], [-1.0, -1.0], [1, 1])]
    for piece in (KlCov(k=0.5), KlCovPenalty(k=0.5)):
        assert piece.flag(rows) == [[1.0, 0.0, 0.0], [0.0, 1.0]]
        assert piece.flag(list(reversed(rows))) == [[0.0, 1.0], [1.0, 0.0, 0.0]]
        assert piece.flag([([0.5], [1.0], [0])]) == [[0.0]]


@pytest.mark.proves("loss.kl_cov", "float64")
@pytest.mark.proves("auxiliary.kl_cov_penalty", "float64")
@given(st.integers(0, 9999), st.floats(0, 2))
def test_loss_and_penalty_equal_their_formula(seed, beta):
    batch = random_batch(seed)
    flags = (torch.rand(batch.logp.shape, generator=torch.Generator().manual_seed(seed)) < 0.5).double()
    batch = batch_of(batch.logp, old=batch.old, mask=batch.mask, advantages=batch.advantages, flags=flags)
    gap = batch.logp - batch.old
    plain, penalty = -batch.advantages * gap.exp(), beta * flags * gap.abs()
    torch.testing.assert_close(KlCov(beta=beta)(batch).loss, plain + penalty, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(KlCovPenalty(beta=beta)(CTX, batch), penalty, rtol=1e-10, atol=1e-10)


@pytest.mark.proves("loss.kl_cov", "law")
def test_a_held_back_token_is_pulled_to_where_it_was_sampled():
    logp = torch.tensor([[-1.0, -1.0]], dtype=torch.float64, requires_grad=True)
    batch = batch_of(logp, old=[[-1.5, -1.5]], advantages=[0.0], flags=[[1.0, 0.0]])
    assert gradient(KlCov(beta=2.0), batch).tolist() == [[2.0, 0.0]]


@pytest.mark.parametrize("settings", [{"k": 0.0}, {"k": 1.1}, {"beta": -1.0}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError, match=r"k must be in \(0, 1\]"):
        KlCov(**settings)
