"""Aggregators: by hand, independent of the split, exact about masked tokens, equal to a slow reference."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from factory.stages.rl.pieces.aggregate import (
    ConstantLength,
    LuffySumNorm,
    SeqMeanTokenMean,
    SeqMeanTokenSum,
    TokenMean,
    counts,
)

LOSSES = torch.tensor([[1.0, 1, 9, 9, 9, 9], [3, 3, 3, 3, 3, 3]])
MASK = torch.tensor([[1.0, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]])
ALL = (TokenMean(), SeqMeanTokenMean(), SeqMeanTokenSum(), ConstantLength(), LuffySumNorm())


def of_all(*how):
    """Marks a test that proves the same of every aggregator."""

    def mark(test):
        for piece in ALL:
            test = pytest.mark.proves(piece.key, *how)(test)
        return test

    return mark


@of_all("table")
@pytest.mark.proves("aggregator.token_mean", "vector")
@pytest.mark.proves("aggregator.seq_mean_token_mean", "vector")
@pytest.mark.proves("aggregator.seq_mean_token_sum", "vector")
@pytest.mark.proves("aggregator.constant_length", "vector")
@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        (TokenMean(), 2.5),  # (1+1 + 6*3) / 8
        (SeqMeanTokenMean(), 2.0),  # (2/2 + 18/6) / 2
        (SeqMeanTokenSum(), 10.0),  # (2 + 18) / 2
        (ConstantLength(), 1.25),  # 20 / (2 rollouts * 8)
        (LuffySumNorm(), 2.5),  # 20 / 8
    ],
)
def test_aggregators_by_hand(piece, expected):
    assert piece(LOSSES, MASK, counts(MASK), max_length=8).item() == pytest.approx(expected)


@pytest.mark.proves("aggregator.luffy_sum_norm", "table")
def test_luffy_differs_from_its_code_by_a_known_factor():
    # The code: each micro-batch's sum / its padded length 6, averaged over n = 2 micro-batches: (2/6 + 18/6) / 2 = 5/3.
    # Ours: 20 / 8 whatever the split; theirs = ours * max_length / (n L) = 2.5 * 8 / 12.
    per_micro_batch = [float((LOSSES[b] * MASK[b]).sum()) / 6 for b in range(2)]
    ours = LuffySumNorm()(LOSSES, MASK, counts(MASK), max_length=8).item()
    assert sum(per_micro_batch) / 2 == pytest.approx(ours * 8 / (2 * 6))


@of_all("law")
@given(st.integers(1, 6), st.integers(1, 7), st.integers(0, 2**31), st.data())
def test_aggregated_shares_do_not_depend_on_split_order_or_padding(rows, columns, seed, data):
    generator = torch.Generator().manual_seed(seed)
    loss = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    mask = torch.randint(0, 2, (rows, columns), generator=generator).double()
    cut = data.draw(st.integers(0, rows))
    totals = counts(mask)
    assert totals == {key: counts(mask[:cut])[key] + counts(mask[cut:])[key] for key in totals}
    order = torch.randperm(rows, generator=generator)
    wide = torch.cat([mask, torch.zeros(rows, 2, dtype=torch.float64)], 1)
    padded = torch.cat([loss, torch.full((rows, 2), 7.0, dtype=torch.float64)], 1)
    for piece in ALL:
        whole = piece(loss, mask, totals, max_length=5).item()
        parts = piece(loss[:cut], mask[:cut], totals, max_length=5) + piece(loss[cut:], mask[cut:], totals, max_length=5)
        assert parts.item() == pytest.approx(whole, abs=1e-12)
        assert piece(loss[order], mask[order], totals, max_length=5).item() == pytest.approx(whole, abs=1e-12)
        assert piece(padded, wide, totals, max_length=5).item() == pytest.approx(whole, abs=1e-12)


@of_all("float64")
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**31))
def test_aggregators_equal_loops(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    loss = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    mask = torch.randint(0, 2, (rows, columns), generator=generator).double()
    sums, lengths = [], []
    for b in range(rows):
        kept = [float(loss[b, t]) for t in range(columns) if mask[b, t]]
        if kept:
            sums.append(sum(kept))
            lengths.append(len(kept))
    n = max(len(sums), 1)
    slow = {
        "token_mean": sum(sums) / max(sum(lengths), 1),
        "seq_mean_token_mean": sum(s / length for s, length in zip(sums, lengths, strict=True)) / n,
        "seq_mean_token_sum": sum(sums) / n, "constant_length": sum(sums) / (n * 9), "luffy_sum_norm": sum(sums) / 9,
    }  # fmt: skip
    for piece in ALL:
        found = piece(loss, mask, counts(mask), max_length=9).item()
        assert found == pytest.approx(slow[piece.key.split(".")[1]], abs=1e-12)


@of_all("law")
def test_masked_tokens_have_exactly_zero_gradient():
    for piece in ALL:
        loss = LOSSES.clone().requires_grad_()
        piece(loss, MASK, counts(MASK), max_length=8).backward()
        assert torch.equal(loss.grad == 0, MASK == 0)
