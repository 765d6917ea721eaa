"""Pieces that weigh, schedule or add to the reward against slow float64 references, written out from the papers' formulas."""

import math
from collections import Counter

import numpy as np
import pytest
import scored
from hypothesis import given
from hypothesis import strategies as st

from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.catalogue import make
from factory.stages.rl.pieces.dads import DifficultyKl
from factory.stages.rl.pieces.difficulty import MeanScoreWeight, ObserveWeight, OnlineDifficulty
from factory.stages.rl.pieces.diversity import diversity_factors
from factory.stages.rl.pieces.kl_schedules import AdaptiveKl, CosineKl, GrpoD
from factory.stages.rl.pieces.length import DastLength, EfficientLength, KimiLength, Repetition, ShortestBonus, VlCogitoLength
from factory.stages.rl.pieces.overlong import OverlongPunishment
from factory.stages.rl.pieces.pad import power_weights, softmax_weights
from factory.stages.rl.pieces.srpo import two_pass_length
from factory.stages.rl.pieces.ssr import priorities
from factory.stages.rl.pieces.stcr import SuboptimalComplexity
from factory.stages.rl.pieces.trust import trust_weight

LIMIT = 400
members = st.lists(st.tuples(st.integers(1, LIMIT), st.booleans(), st.floats(-2, 2)), min_size=1, max_size=8)
"""(length in tokens, right, advantage) of a group's rollouts."""


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found, np.float64), np.asarray(expected, np.float64), rtol=1e-9, atol=1e-12)


def at(step=0, total=100, kl=None):
    ctx = StepContext(step, total, 0, LIMIT, 8)
    ctx.measured_kl = kl
    return ctx


def group_of(rows):
    group = scored.group([{"exact": float(right), "tokens": length} for length, right, _ in rows])
    for rollout, (_, _, advantage) in zip(group.rollouts, rows, strict=True):
        rollout.advantage = advantage
    return group


def arrays(rows):
    return (np.array([row[k] for row in rows], np.float64) for k in range(3))


def shaped(piece, rows, ctx=None):
    group = group_of(rows)
    piece.apply(ctx or at(), group)
    return [rollout.shaping[piece.key] for rollout in group.rollouts]


def weighed(piece, rows):
    group = group_of(rows)
    piece.apply(at(), [group])
    return [rollout.advantage for rollout in group.rollouts]


@pytest.mark.proves("weigh.odsw", "float64")
@given(members, st.sampled_from(["easy", "medium", "hard"]))
def test_odsw(rows, form):
    _, right, advantage = arrays(rows)
    p = right.mean()
    bell = np.sin(np.pi * p)  # cos((p - 1/2) pi)
    left = {"easy": bell, "medium": bell, "hard": 1.0}[form]
    factor = {0.0: {"easy": 0.0, "medium": 0.0, "hard": 0.25}[form], 1.0: {"easy": 1.0, "medium": 0.0, "hard": 0.0}[form]}.get(
        float(p), left if p <= 0.5 else (1.0 if form == "easy" else bell)
    )
    close(weighed(OnlineDifficulty(form=form), rows), advantage * factor)


@pytest.mark.proves("weigh.observe", "float64")
@given(members, st.floats(0.1, 3))
def test_observe(rows, peak):
    _, right, advantage = arrays(rows)
    # 4 p (1 - p) is 1 - (2p - 1)^2.
    close(weighed(ObserveWeight(peak=peak), rows), advantage * peak * (1 - (2 * right.mean() - 1) ** 2))


@pytest.mark.proves("weigh.univg", "float64")
@given(members, st.sampled_from(["exp", "power", "log"]), st.floats(0.2, 3))
def test_univg(rows, form, exponent):
    _, right, advantage = arrays(rows)
    m = right.mean()
    factor = {"exp": np.e ** (1 - m), "power": np.power(1.05 - m, exponent), "log": max(-np.log(m + 0.02), 0.0)}[form]
    close(weighed(MeanScoreWeight(form=form, exponent=exponent), rows), advantage * factor)


@pytest.mark.proves("weigh.stcr", "float64")
@given(members, st.floats(1.00001, 1.1))
def test_stcr(rows, base):
    length, right, advantage = arrays(rows)
    expected = advantage.copy()
    for i in range(len(rows)):
        if right.any() and not right[i]:
            over = length[i] - (length * right).sum() / right.sum()
            expected[i] *= 1 + (1 - np.exp(-over * np.log(base))) if over > 0 else 1
    close(weighed(SuboptimalComplexity(base=base), rows), expected)


@pytest.mark.proves("kl_weight.dads", "float64")
@given(members)
def test_dads(rows):
    _, right, advantage = arrays(rows)
    group, p = group_of(rows), right.mean()
    DifficultyKl().apply(at(), [group])
    expected = np.where((advantage > 0) & (0 < p < 1), -np.expm1(-np.e * p), 1.0)
    close([rollout.kl_weight for rollout in group.rollouts], expected)


@pytest.mark.proves("kl_schedule.grpo_d", "float64")
@given(st.floats(0, 0.1), st.floats(0, 0.1), st.floats(0.05, 0.95), st.integers(0, 99))
def test_grpo_d(one, other, turn, step):
    low, high = min(one, other), max(one, other)
    expected = np.interp(step / 100, [0, turn, 1], [(low + high) / 2, low, high])
    close(GrpoD(min=low, max=high, turn=turn).coef(at(step), 9.0), expected)


@pytest.mark.proves("kl_schedule.cosine", "float64")
@given(st.floats(0, 1), st.integers(0, 99))
def test_cosine(base, step):
    close(CosineKl().coef(at(step), base), base * np.cos(np.pi * step / 200) ** 2)  # half-angle form


@pytest.mark.proves("kl_schedule.adaptive", "float64")
@given(st.lists(st.floats(0, 1), max_size=6), st.floats(0.01, 0.5), st.floats(10, 500))
def test_adaptive(measured, target, horizon):
    piece, expected, group = AdaptiveKl(target=target, horizon=horizon), np.float64(0.04), group_of([(3, True, 0.0)] * 4)
    for kl in measured:
        piece.observe(at(kl=kl), [group])
        expected *= 1 + np.clip((kl - target) / target, -0.2, 0.2) * 4 / horizon
    close(piece.coef(at(), 0.04), expected)


@pytest.mark.proves("group_reward.kimi_length", "float64")
@given(members, st.floats(0.1, 2))
def test_kimi_length(rows, weight):
    length, right, _ = arrays(rows)
    lam = np.interp(length, [length.min(), length.max()], [0.5, -0.5]) if np.ptp(length) else np.zeros(len(rows))
    close(shaped(KimiLength(weight=weight, off_until=0.0), rows), weight * np.where(right > 0, lam, np.minimum(lam, 0)))


@pytest.mark.proves("group_reward.vl_cogito_length", "float64")
@given(members)
def test_vl_cogito_length(rows):
    length, right, _ = arrays(rows)
    expected = []
    for n, is_right in zip(length, right, strict=True):
        if is_right:
            expected.append(0.0)
        elif right.any():
            aim = length[right > 0].mean()
            expected.append(-0.5 * np.cos(np.pi * n / (2 * aim)) ** 2 if n < 2 * aim else -0.5)
        else:
            expected.append(-0.25 if n >= 300 else (-0.25 * np.cos(np.pi * n / 200) ** 2 if n < 100 else 0.0))
    close(shaped(VlCogitoLength(target=100, limit=300, repetition=0.0), rows), expected)


@pytest.mark.proves("group_reward.shortest_bonus", "float64")
@given(members, st.integers(0, LIMIT))
def test_shortest_bonus(rows, least):
    length, right, _ = arrays(rows)
    wins = [
        bool(r) and n > least and all(n <= m for m, s in zip(length, right, strict=True) if s)
        for n, r in zip(length, right, strict=True)
    ]
    close(shaped(ShortestBonus(bonus=0.3, min_length=least), rows), 0.3 * np.array(wins, np.float64))


@pytest.mark.proves("group_reward.dast_length", "float64")
@given(members)
def test_dast_length(rows):
    length, right, _ = arrays(rows)
    p = right.mean()
    budget = max((length * right).sum() / len(rows) + (1 - p) * length.max(), 1.0)  # p Lr = sum over the right / G
    x = length / budget - 1
    close(shaped(DastLength(), rows), np.where(right > 0, np.maximum(0.5 - 0.5 * x, 0.1), np.minimum(0.9 * x - 0.1, -0.1)))


@pytest.mark.proves("group_reward.diversity", "float64")
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=8), st.floats(0.05, 1))
def test_diversity(answers, cap):
    found = Counter(answers)
    close(diversity_factors(answers, cap), [1 - min(cap, found[a] / len(answers)) for a in answers])
    close(diversity_factors(answers, cap), [1 - min(cap, np.mean([a == b for b in answers])) for a in answers])


@pytest.mark.proves("group_reward.trust", "float64")
@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.floats(0, 1)), min_size=1, max_size=8))
def test_trust(pairs):
    outcome, thinking = np.array(pairs, np.float64).T
    right, wrong = thinking[outcome >= 0.5], thinking[outcome < 0.5]
    expected = 0.0 if not len(right) or not len(wrong) else min(1.0, float(np.exp(right.mean() - wrong.mean())))
    close(trust_weight(list(outcome), list(thinking), 0.5, "paper"), expected)


@pytest.mark.proves("reward.efficient_length", "float64")
@given(st.integers(1, LIMIT), st.integers(1, LIMIT), st.floats(0.001, 0.1))
def test_efficient_length(length, budget, alpha):
    rollout = scored.rollout(tokens=length)
    edge = 0.5 / alpha
    expected = 0.05 * np.interp(length, [budget - edge, budget + edge], [1.0, 0.0])
    close(EfficientLength(budget=budget, alpha=alpha).score(None, None, rollout), expected)


@pytest.mark.proves("reward.repetition", "float64")
@given(st.lists(st.sampled_from("ab"), max_size=12), st.integers(1, 4))
def test_repetition(words, n):
    grams = [tuple(words[i : i + n]) for i in range(max(0, len(words) - n + 1))]
    repeats = sum(gram in grams[:i] for i, gram in enumerate(grams))
    expected = -0.5 * repeats / len(grams) if grams else 0.0
    close(Repetition(ngram=n).score(None, None, scored.rollout(text=" ".join(words))), expected)


@pytest.mark.proves("reward.overlong", "float64")
@given(st.integers(1, 2 * LIMIT))
def test_overlong(length):
    # L_max 400, L_cache 80: 0 up to 320 tokens, then a line to -0.5.
    expected = np.interp(length, [320, 400], [0.0, -0.5])
    close(OverlongPunishment().score(at(), None, scored.rollout(tokens=length)), expected)


@pytest.mark.proves("reward.srpo_length", "float64")
@given(st.integers(1, LIMIT), st.integers(1, 100))
def test_srpo_length(length, first):
    target, most = 2.0 * first, 2.5 * first
    close(two_pass_length(length, first), 0.1 * np.exp(-np.square((length - target) / (most - target))))


@pytest.mark.proves("resample.pad_code", "float64")
@pytest.mark.proves("resample.pad_paper", "float64")
@given(st.lists(st.floats(-1.5, 1.5), min_size=1, max_size=8), st.floats(0.3, 3))
def test_pad(advantages, knob):
    size = np.abs(np.array(advantages, np.float64))
    power = np.array(power_weights(list(size), low=0.03, high=0.97, power=knob))
    soft = np.array(softmax_weights(list(size), low=0.03, high=0.97, tau=knob))
    for found, raw, keeps in (
        (power, (size + 1e-8) ** knob, (size > 0.03) & (size < 0.97)),
        (soft, np.exp(size / knob), (size >= 0.03) & (size <= 0.97)),
    ):
        raw = np.where(keeps, raw, 0.0)
        close(found, raw / raw.sum() if raw.sum() else np.zeros(len(size)))


@pytest.mark.proves("resample.ssr", "float64")
@given(st.lists(st.floats(0.01, 2), min_size=1, max_size=8), st.floats(0, 2))
def test_ssr(sizes, alpha):
    raw = np.power(np.array(sizes, np.float64), alpha)
    close(priorities(sizes, alpha), raw / raw.sum())


def scores_of(names):
    return st.lists(
        st.fixed_dictionaries({name: st.sampled_from([0.0, 0.25, 0.4, 0.5, 1.0]) for name in names}), min_size=1, max_size=6
    )


def mixed(piece, weights, rows, ctx_step=0):
    mix = scored.mixture(weights)
    group = scored.group(rows, mix)
    piece.mix(scored.context(ctx_step, mix=mix), [group])
    return [rollout.score for rollout in group.rollouts]


def table(rows, *names):
    return (np.array([row[name] for row in rows], np.float64) for name in names)


@pytest.mark.proves("mixer.weighted", "float64")
@pytest.mark.proves("mixer.annealed", "float64")
@given(scores_of(["exact", "style"]), st.integers(0, 99), st.integers(1, 200))
def test_weighted_and_annealed(rows, step, horizon):
    weights = {"exact": 0.6, "style": 0.2}
    exact, style = table(rows, "exact", "style")
    close(mixed(make("mixer", "weighted", {}), weights, rows), (0.6 * exact + 0.2 * style) / 0.8)
    faded = (0.6 * exact + 0.2 * np.exp(-np.float64(step) / horizon) * style) / 0.8
    close(mixed(make("mixer", "annealed", {"parts": ["style"], "horizon": horizon}), weights, rows, step), faded)


@pytest.mark.proves("mixer.multiply", "float64")
@pytest.mark.proves("mixer.format_gate", "float64")
@given(scores_of(["exact", "style", "form"]))
def test_multiply_and_format_gate(rows):
    weights = {"exact": 0.6, "style": 0.2, "form": 0.2}
    exact, style, form = table(rows, "exact", "style", "form")
    others = (0.6 * exact + 0.2 * style) / 0.8
    close(mixed(make("mixer", "multiply", {"factors": ["form"]}), weights, rows), others * form)
    close(mixed(make("mixer", "format_gate", {"part": "form"}), weights, rows), np.where(form > 0, others, 0.0))
    hard = (form == 1) & (exact == 1)
    close(mixed(make("mixer", "format_gate", {"part": "form", "hard": True}), weights, rows), hard.astype(np.float64))


@pytest.mark.proves("mixer.markov_gate", "float64")
@given(scores_of(["exact", "about", "logic"]))
def test_markov_gate(rows):
    exact, about, logic = table(rows, "exact", "about", "logic")
    first = (about > 0.4).astype(np.float64)
    second = first * (logic > 0.4)
    expected = (0.5 * exact * second + 0.2 * about + 0.3 * logic * first) / 1.0
    piece = make("mixer", "markov_gate", {"context": "about", "reasoning": "logic"})
    close(mixed(piece, {"exact": 0.5, "about": 0.2, "logic": 0.3}, rows), expected)


@pytest.mark.proves("reward.deepeyes", "float64")
@given(st.floats(0, 1), st.booleans(), st.booleans(), st.booleans())
def test_deepeyes(value, kept, right, looked):
    rollout = scored.rollout(exact=value)
    rollout.fields, rollout.right, rollout.images = {"form": "kept" if kept else "broken"}, right, [object()] * looked
    whole = np.dot([0.8, 0.2, 1.2], [value, 0.0 if kept else -1.0, float(right and looked)])
    close(value + make("reward", "deepeyes", {}).score(None, None, rollout), whole)


@pytest.mark.proves("kl_schedule.constant", "float64")
@given(st.floats(0, 1), st.integers(0, 99))
def test_constant(base, step):
    close(make("kl_schedule", "constant", {}).coef(at(step), base), np.full((), base))


def test_the_references_would_notice_another_formula():
    rows = [(10, True, 1.0), (20, False, -1.0), (40, False, -1.0)]
    assert not math.isclose(weighed(OnlineDifficulty(form="easy"), rows)[0], weighed(ObserveWeight(), rows)[0])
    with pytest.raises(AssertionError):
        close(weighed(ObserveWeight(peak=1.8), rows), [1.8, -1.8, -1.8])
