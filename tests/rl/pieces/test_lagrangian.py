"""Safe RLHF-V: the two advantages and the multiplier between them."""

import math

import pytest
import scored
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import ConfigError
from factory.stages.rl.pieces.advantage import GroupMean, GroupStd
from factory.stages.rl.pieces.lagrangian import Lagrangian, combined, next_log_multiplier

MIX = scored.mixture({"exact": 1.0, "safe": 0.0})
score = st.sampled_from([0.0, 0.25, 0.5, 1.0])
rows = st.lists(st.fixed_dictionaries({"exact": score, "safe": score}), min_size=1, max_size=8)


def estimated(group, step=0, **settings):
    piece, made = Lagrangian(part="safe", **settings), scored.group(group, MIX)
    piece.estimate(scored.context(step, mix=MIX), [made])
    return [one.advantage for one in made.rollouts]


@pytest.mark.proves("advantage.lagrangian", "vector")
def test_by_the_guides_vectors():
    # B15: A_r 1, A_c -0.5, lambda 2: (1 + 1) / 3. Lambda 1, cost 0.3, threshold -0.5, lr 0.1: exp(0.08).
    assert combined(1.0, -0.5, 2.0) == pytest.approx(0.666667, abs=1e-6)
    assert math.exp(next_log_multiplier(0.0, 0.3, threshold=-0.5, lr=0.1, cap=20.0)) == pytest.approx(1.083287, abs=1e-6)


@pytest.mark.proves("advantage.lagrangian", "table")
def test_reward_and_cost_by_hand():
    # Means 0.5 each: A_r = 0.5, -0.5. Costs -1 (safe) and 1: mean 0, A_c = -1, 1 for the first group, 1, -1 for the second.
    # Lambda 10: (0.5 + 10) / 11 and its opposite; then (0.5 - 10) / 11: a right, unsafe answer loses.
    both = [{"exact": 1.0, "safe": 1.0}, {"exact": 0.0, "safe": 0.0}]
    against = [{"exact": 1.0, "safe": 0.0}, {"exact": 0.0, "safe": 1.0}]
    assert estimated(both, estimator="group_mean") == pytest.approx([10.5 / 11, -10.5 / 11])
    assert estimated(against, estimator="group_mean") == pytest.approx([-9.5 / 11, 9.5 / 11])
    # A part that scores the harm itself: its costs the other way round.
    assert estimated(against, estimator="group_mean", cost_at_0=0.0, cost_at_1=2.0) == pytest.approx([10.5 / 11, -10.5 / 11])


@pytest.mark.proves("advantage.lagrangian", "float64", "law")
@given(rows, st.floats(0.01, 20), st.sampled_from(["group_std", "group_mean"]), st.integers(0, 2**20))
def test_it_is_a_weighted_mean_of_two_group_advantages(group, start, estimator, seed):
    of = {"group_std": GroupStd(), "group_mean": GroupMean()}[estimator].of
    found = estimated(group, estimator=estimator, start=start)
    reward, safety = of([row["exact"] for row in group]), of([2 * row["safe"] - 1 for row in group])
    share = start / (1 + start)
    assert found == pytest.approx([(1 - share) * a + share * b for a, b in zip(reward, safety, strict=True)], abs=1e-5)
    assert math.isclose(math.fsum(found), 0.0, abs_tol=1e-6)
    at = seed % (len(group) + 1)
    with_masked = estimated([*group[:at], {"exact": None}, *group[at:]], estimator=estimator, start=start)
    assert with_masked.pop(at) == 0.0 and with_masked == pytest.approx(found)
    assert estimated(group[::-1], estimator=estimator, start=start) == pytest.approx(found[::-1], abs=1e-9)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60), st.floats(-0.9, 0.9), st.floats(0.01, 1))
def test_the_multiplier_grows_with_the_cost_and_keeps_within_its_cap(costs, threshold, lr):
    log_multiplier = 0.0
    for cost in costs:
        following = next_log_multiplier(log_multiplier, cost, threshold=threshold, lr=lr, cap=20.0)
        assert following <= math.log(20.0) + 1e-12
        # The gradient of -(cost - threshold) exp(x) at x, downhill.
        step = lr * (cost - threshold) * math.exp(log_multiplier)
        assert following == min(log_multiplier + step, math.log(20.0))
        log_multiplier = following


def observed(piece, steps, mix=MIX, begin=0):
    """One group per step, all of whose rollouts have this safety score."""
    for step, safe in enumerate(steps, begin):
        ctx = scored.context(step, mix=mix)
        piece.observe(ctx, [scored.group([{"safe": safe}] * 4, mix)])
    return ctx.metrics


@pytest.mark.proves("advantage.lagrangian", "table")
def test_the_multiplier_starts_at_ten_waits_one_step_and_looks_at_the_window():
    piece = Lagrangian(part="safe", window=8)
    observed(piece, [0.5])
    assert piece.multiplier == pytest.approx(10.0), "step 0 only collects"
    # Step 1: costs 0 (four) and -1 (four), mean -0.5 = threshold: no change. Step 2: eight of -1: log 10 + 0.1 (-0.5) 10.
    observed(piece, [1.0], begin=1)
    assert piece.multiplier == pytest.approx(10.0)
    metrics = observed(piece, [1.0], begin=2)
    assert piece.multiplier == pytest.approx(10.0 * math.exp(-0.5)) and metrics["cost"] == -1.0
    # Unsafe answers drive it to its cap of 20, where it stays.
    observed(piece, [0.0] * 10, begin=3)
    assert piece.multiplier == pytest.approx(20.0)


def test_a_kl_in_the_reward_is_added_to_the_cost():
    piece, made = Lagrangian(part="safe"), scored.rollout(mix=MIX, safe=1.0)
    made.shaping["kl"] = -0.25
    assert piece.cost(made) == -0.75


def test_a_failed_judge_masks_and_does_not_count():
    piece, made = Lagrangian(part="safe"), scored.group([{"safe": None}, {"exact": 0.0}, {}], MIX)
    piece.estimate(scored.context(mix=MIX), [made])
    assert made.rollouts[0].is_masked and made.rollouts[0].advantage == 0.0 and made.rollouts[2].advantage > 0
    piece.observe(scored.context(1, mix=MIX), [made])
    assert piece.state_dict()["costs"] == [-1.0, -1.0]


@pytest.mark.proves("advantage.lagrangian", "resume")
@given(st.lists(score, min_size=2, max_size=12), st.data())
def test_a_restored_multiplier_goes_on_as_if_nothing_had_happened(safeties, data):
    cut = data.draw(st.integers(1, len(safeties) - 1))
    whole, first, second = (Lagrangian(part="safe", window=10) for _ in range(3))
    observed(whole, safeties)
    observed(first, safeties[:cut])
    second.load_state_dict(first.state_dict())
    observed(second, safeties[cut:], begin=cut)
    assert second.state_dict() == whole.state_dict() and second.multiplier == whole.multiplier


@pytest.mark.proves("advantage.lagrangian", "resume", "run")
def test_a_resumed_run_has_the_same_multiplier(run_stage):
    import judged

    pieces = {"advantage": {"lagrangian": {"part": "calm", "start": 2.0, "lr": 0.5}}}
    rows, _ = scored.resumed_equals_whole(run_stage, kit=judged, pieces=pieces)
    multipliers = [row["lagrange_multiplier"] for row in rows]
    assert multipliers[0] == multipliers[1] == 2.0 and len(set(multipliers)) == 4
    assert rows[-1]["cost"] < rows[0]["cost"], "it becomes calmer"


def test_the_plan_refuses_a_cost_inside_the_sum():
    assert list(Lagrangian(part="safe").check_mixture(MIX)) == []
    inside, gate = scored.mixture({"exact": 1.0, "safe": 0.1}), scored.mixture({"exact": 1.0}, gate="safe")
    for mix in (inside, gate):
        with pytest.raises(ConfigError, match=r"outside the sum.*mixture\.t\.safe=0"):
            Lagrangian(part="safe").check_mixture(mix)
    with pytest.raises(ConfigError, match="no verifier 'sfe'"):
        Lagrangian(part="sfe").check_mixture(MIX)


@pytest.mark.parametrize("settings", [{"estimator": "gae"}, {"start": 30.0}, {"lr": 0.0}, {"window": 0}])
def test_values_without_a_meaning_are_refused(settings):
    with pytest.raises(ValueError, match=r"(not known|want)"):
        Lagrangian(part="safe", **settings)
