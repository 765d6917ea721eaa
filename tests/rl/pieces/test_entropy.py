"""The entropy bonus."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from token_batches import batch_of

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.entropy import EntropyBonus


def at(step):
    return StepContext(step, 100, 0, 64, 8)


def with_entropy(values):
    entropy = torch.tensor(values, dtype=torch.float64)
    return replace(batch_of(torch.zeros_like(entropy)), entropy=entropy)


@pytest.mark.proves("auxiliary.entropy_bonus", "table")
def test_the_bonus_by_hand():
    # ReVisual-R1: 0.02 * 0.985^s; s = 2: 0.02 * 0.970225 = 0.0194045; entropy 2 nats -> -0.038809
    piece = EntropyBonus(coef=0.02, decay=0.985)
    assert piece(at(0), with_entropy([[2.0]])).item() == pytest.approx(-0.04)
    assert piece(at(2), with_entropy([[2.0]])).item() == pytest.approx(-0.038809)


@pytest.mark.proves("auxiliary.entropy_bonus", "law", "float64")
@given(st.floats(0, 1), st.floats(0.5, 1), st.integers(0, 50), st.lists(st.floats(0, 9), min_size=1, max_size=5))
def test_the_bonus_is_linear_in_entropy_and_fades(coef, decay, step, values):
    found = EntropyBonus(coef, decay)(at(step), with_entropy([values])).flatten().tolist()
    assert found == pytest.approx([-coef * decay**step * value for value in values], abs=1e-12)
    later = EntropyBonus(coef, decay)(at(step + 1), with_entropy([values])).flatten().tolist()
    assert all(b >= a for a, b in zip(found, later, strict=True))


@pytest.mark.parametrize("settings", [{"coef": -0.1}, {"decay": 0.0}, {"decay": 1.1}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError, match="coef must be 0 or more"):
        EntropyBonus(**settings)
