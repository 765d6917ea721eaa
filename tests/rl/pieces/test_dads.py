"""APO's DADS: the KL coefficient of each rollout by the difficulty of its prompt."""

import pytest
import scored
from hypothesis import given
from hypothesis import strategies as st

from factory.stages.rl.pieces.advantage import GroupMean
from factory.stages.rl.pieces.dads import DifficultyKl, dads_weight

rows = st.lists(st.fixed_dictionaries({"exact": st.sampled_from([0.0, 0.5, 1.0])}), min_size=1, max_size=8)


def weights(group, **settings):
    made = scored.group(group)
    GroupMean().estimate(scored.context(), [made])
    DifficultyKl(**settings).apply(scored.context(), [made])
    return made, [one.kl_weight for one in made.rollouts]


@pytest.mark.proves("kl_weight.dads", "vector")
def test_by_the_guides_vector():
    # B15: p .25, .5, .75; 1 at both ends.
    assert [dads_weight(p) for p in (0.0, 0.25, 0.5, 0.75, 1.0)] == pytest.approx([1, 0.493165, 0.743119, 0.869804, 1], abs=1e-6)


@pytest.mark.proves("kl_weight.dads", "table")
def test_only_rollouts_with_a_positive_advantage_are_freed():
    # One of four right: its KL weighs 0.493165, the wrong ones' 1. Half a score above the mean is freed too, but p stays 0: 1.
    assert weights([{"exact": 1.0}] + [{"exact": 0.0}] * 3)[1] == pytest.approx([0.493165, 1, 1, 1], abs=1e-6)
    assert weights([{"exact": 0.5}, {"exact": 0.0}])[1] == [1.0, 1.0]
    assert weights([{"exact": 1.0}] * 3)[1] == [1.0] * 3


@pytest.mark.proves("kl_weight.dads", "law")
@given(rows, st.integers(0, 2**20))
def test_in_zero_to_one_and_by_advantage(group, seed):
    made, found = weights(group)
    assert all(
        0.0 < one <= 1.0 and (one == 1.0 or rollout.advantage > 0) for one, rollout in zip(found, made.rollouts, strict=True)
    )
    assert weights(group[::-1])[1] == found[::-1]
    at = seed % (len(group) + 1)
    with_masked = weights([*group[:at], {"exact": None}, *group[at:]])[1]
    assert with_masked.pop(at) == 1.0 and with_masked == found


@pytest.mark.proves("kl_weight.dads", "run")
@pytest.mark.proves("weigh.stcr", "run")
def test_a_real_run_of_apo(run_stage):
    _, rows, _ = run_stage(preset="apo", num_steps=6)
    assert rows[-1]["reward/exact"] > rows[0]["reward/exact"] and rows[-1]["kl"] > 1e-6


def test_the_weight_reaches_the_loss(run_stage):
    """A large coefficient: freed rollouts make the loss smaller than with the full weight, from the second step on."""
    kl = {"k3": {"coef": 10.0}}
    _, freed, _ = run_stage("freed", num_steps=2, pieces={"kl": kl, "kl_weight": {"dads": {"sharpness": 0.01}}})
    _, full, _ = run_stage("full", num_steps=2, pieces={"kl": kl})
    assert freed[0]["loss"] == pytest.approx(full[0]["loss"], abs=1e-6), "no distance to the reference yet"
    assert freed[1]["loss"] < full[1]["loss"] - 1e-3
    with pytest.raises(ValueError, match="sharpness"):
        DifficultyKl(sharpness=0.0)
