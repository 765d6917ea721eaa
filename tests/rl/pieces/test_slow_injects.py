"""Stored and foreign answers against slow references: exact fractions and plain loops over the guides' formulas (parts B2, B4)."""

import re
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from replay_kit import Shelf

from factory.rewards.mixture import Reward
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.advantage import GroupMean
from factory.stages.rl.pieces.arpo import StoredSuccess
from factory.stages.rl.pieces.exgrpo import ExGrpo
from factory.stages.rl.pieces.luffy import TeacherTrace
from factory.stages.rl.pieces.srpo import SrpoAccuracy
from factory.stages.rl.pool import PromptPool
from factory.stages.rl.rollouts import DEMO, FRESH, REPLAY, Group, Rollout

quick = settings(max_examples=40, deadline=None)
HUNDREDTHS = st.lists(st.integers(0, 100), min_size=2, max_size=6)


def a_context(step, shelf=None, seed=0, size=8):
    return StepContext(step, 100, seed, 64, size, services=shelf or Shelf())


def a_group(name, step, values):
    return Group(Shelf().sample(name), [
        Rollout(0, i, [7, i], [-1.0, -0.25], True, step, text=f"{name}{step}.{i}", right=value == 1,
                reward=Reward(float(value), False, False, {}, {}, {}))
        for i, value in enumerate(values)
    ])  # fmt: skip


@pytest.mark.proves("inject.arpo", "float64")
@quick
@given(st.lists(st.tuples(st.sampled_from("ab"), HUNDREDTHS), min_size=2, max_size=8))
def test_arpo_brings_back_what_the_rule_allows(steps):
    """B2.8: std < 0.05 and mean < 0.2 -> one of the last eight rollouts above 0.1 of the same question."""
    piece, kept = StoredSuccess(), {"a": [], "b": []}
    for step, (name, hundredths) in enumerate(steps):
        values = [Fraction(h, 100) for h in hundredths]
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        # Where the exact value stands on a limit, rounding decides.
        assume(abs(variance - Fraction(1, 400)) > Fraction(1, 10**9) and abs(mean - Fraction(1, 5)) > Fraction(1, 10**9))
        group = a_group(name, step, values)
        found = piece.apply(a_context(step), [group])[0]
        is_due = bool(kept[name]) and variance < Fraction(1, 400) and mean < Fraction(1, 5)
        assert [r.kind for r in found.rollouts] == [REPLAY if is_due else FRESH] + [FRESH] * (len(values) - 1)
        assert not is_due or found.rollouts[0].text in kept[name]
        piece.observe(a_context(step), [group])
        kept[name] = (kept[name] + [f"{name}{step}.{i}" for i, value in enumerate(values) if value > Fraction(1, 10)])[-8:]


@pytest.mark.proves("inject.exgrpo", "float64")
@pytest.mark.parametrize("bucket", ["paper", "code"])
def test_exgrpo_draws_questions_as_often_as_the_formula_says(bucket):
    """B2.2: the bucket k of 8 by a normal density around one half, then any question of the bucket."""
    import numpy as np

    rates = {"a": 1, "b": 4, "c": 4, "d": 7, "e": 3}
    piece = ExGrpo(bucket=bucket, start_rate=0.0)
    for name, k in rates.items():
        piece.observe(a_context(0), [a_group(name, 0, [1] * k + [0] * (8 - k))])
    density = {
        k: np.exp(-np.float64((Fraction(k, 8) - Fraction(1, 2)) ** 2 if bucket == "paper" else (k - 4) ** 2) / 2)
        for k in set(rates.values())
    }
    inside, total = Counter(rates.values()), sum(density.values())
    expected = {name: density[k] / total / inside[k] for name, k in rates.items()}
    draws, pool = 1500, PromptPool([Shelf().sample(name) for name in rates])
    found = Counter()
    for step in range(1, draws + 1):
        place = piece.reserve(a_context(step), pool, 2)  # floor(0.5 * 2) = 1 question
        found[list(rates)[place[0]]] += 1
    for name, share in expected.items():
        spread = np.sqrt(share * (1 - share) / draws)
        assert abs(found[name] / draws - share) < 5 * spread, (name, found[name] / draws, share)


@pytest.mark.proves("inject.exgrpo", "float64")
@quick
@given(st.lists(st.integers(0, 50), min_size=1, max_size=7))
def test_exgrpo_takes_the_success_of_least_entropy(entropies):
    values = [1] * len(entropies) + [0] * (8 - len(entropies))
    shelf = Shelf(entropy={f"q0.{i}": entropy / 10 for i, entropy in enumerate(entropies)})
    piece = ExGrpo(start_rate=0.0)
    piece.observe(a_context(0), [a_group("q", 0, values)])
    ctx = a_context(1, shelf)
    assert piece.reserve(ctx, PromptPool([Shelf().sample("q")]), 2) == [0]
    stored = piece.apply(ctx, [a_group("q", 1, [0] * 8)])[0].rollouts[-1]
    best = None
    for i, entropy in enumerate(entropies):
        if best is None or entropy < entropies[best]:
            best = i
    assert (stored.kind, stored.text) == (REPLAY, f"q0.{best}")


@pytest.mark.proves("inject.luffy", "float64")
@quick
@given(HUNDREDTHS, st.booleans())
def test_luffy_compares_the_trace_with_the_fresh_ones(hundredths, is_right):
    """B2.1: the group is G-1 fresh and one trace; advantage r - mean over the union; the trace's old log-prob is 0."""
    values = [Fraction(h, 100) for h in hundredths]
    text = "right way" if is_right else "wrong way"
    ctx = a_context(0, Shelf({"q": text}), size=len(values))
    mixed = TeacherTrace().apply(ctx, [a_group("q", 0, values)])[0]
    GroupMean().estimate(ctx, [mixed])
    union = [*values[:-1], Fraction(is_right)]
    mean = sum(union) / len(union)
    assert [r.advantage for r in mixed.rollouts] == pytest.approx([float(value - mean) for value in union], rel=1e-12, abs=1e-12)
    trace = mixed.rollouts[-1]
    assert trace.kind == DEMO and trace.logprobs == [0.0] * (len(text) + 1)


class ByLastAnswer(Shelf):
    def verify(self, pairs):
        for _, rollout in pairs:
            said = re.findall(r"<answer>(.*?)</answer>", rollout.text)[-1]
            rollout.right = said == "yes"
            rollout.reward = Reward(float(rollout.right), said == "broken", False, {}, {}, {})


@pytest.mark.proves("hook.srpo_accuracy", "float64")
@quick
@given(st.lists(st.lists(st.sampled_from(["yes", "no", "broken"]), min_size=0, max_size=2), min_size=1, max_size=5))
def test_srpo_pays_for_the_way_from_the_first_answer_to_the_second(completions):
    """B4.9: half of (3/4, 1, -1/4, 0) for (right right, wrong right, right wrong, wrong wrong)."""
    texts = [" mend ".join(f"<think>t</think><answer>{said}</answer>" for said in answers) for answers in completions]
    group = a_group("q", 0, [0] * len(texts))
    for rollout, text in zip(group.rollouts, texts, strict=True):
        rollout.text = text
    SrpoAccuracy().apply(a_context(0, ByLastAnswer()), [group])
    for rollout, answers in zip(group.rollouts, completions, strict=True):
        if "broken" in answers and len(answers) == 2:
            assert rollout.is_masked
            continue
        paid = Fraction(0)
        if len(answers) == 2:
            first, second = (said == "yes" for said in answers)
            paid = Fraction(1, 4) * (3 if first and second else 4 if second else -1 if first else 0)
        assert rollout.outcome == pytest.approx(float(paid / 2), abs=1e-15)
        assert rollout.right is (len(answers) == 2 and answers[1] == "yes")
