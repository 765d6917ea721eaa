"""Easy to hard by stages of the run, and the entropy bonus that follows them."""

from types import SimpleNamespace

import pytest
import torch
from fake_policy import FakePolicy, context, resumes, sample, simulate
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import ConfigError
from factory.stages.rl.pieces.catalogue import make
from factory.stages.rl.pieces.curriculum import Curriculum, StagedEntropy
from factory.stages.rl.pieces.tiers import TierRule, stage_of
from factory.stages.rl.pool import PromptPool, PromptStat

POLICY = FakePolicy(lambda one, step: 0.5)


def pool_of_levels(sizes, **settings):
    return PromptPool([sample(f"{name}-{i}", level=name) for name, size in sizes.items() for i in range(size)], **settings)


def levels(pool, history):
    return ["/".join(sorted({pool.samples[place].meta["level"] for place in places})) for places in history]


@pytest.mark.proves("sampler.curriculum", "table")
def test_stages_of_infi_mmr_in_order():
    # 9 steps, three equal stages: text 0-2, captioned 3-5, caption-free 6-8
    pool = pool_of_levels({"image": 5, "text": 5, "caption": 5})
    sampler = Curriculum(tiers=["text", "caption", "image"], by="meta.level")
    assert levels(pool, simulate(sampler, pool, POLICY, steps=9, num=2)) == ["text"] * 3 + ["caption"] * 3 + ["image"] * 3
    # ends .2 .5 1 of 10 steps: 2, 3 and 5 steps; with the earlier tiers kept, stages draw from one, two and three
    sampler = Curriculum(tiers=["text", "caption", "image"], by="meta.level", ends=[0.2, 0.5, 1.0], keep_earlier=True)
    found = levels(pool, simulate(sampler, pool, POLICY, steps=10, num=30))
    assert found == ["text"] * 2 + ["caption/text"] * 3 + ["caption/image/text"] * 5


@pytest.mark.proves("sampler.curriculum", "table")
@pytest.mark.parametrize(
    ("rate", "tier"), [(1.0, "easy"), (0.999, "medium"), (0.5, "medium"), (0.001, "medium"), (0.0, "hard"), (None, "medium")]
)
def test_tiers_of_mmedagent(rate, tier):
    rule = TierRule("offline", 1.0, 0.0, "medium")
    assert rule.of(sample("a"), PromptStat(0, pass_rate=0.3, offline_rate=rate)) == tier
    assert rule.of(sample("a", level=3), PromptStat(0)) == "medium"
    assert TierRule("meta.level", 1.0, 0.0, "medium").of(sample("a", level=3), PromptStat(0)) == "3"


@pytest.mark.proves("sampler.curriculum", "run")
def test_a_measured_pool_comes_from_easy_to_hard():
    labels = {f"x-{i}": (1.0, 0.5, 0.0)[i % 3] for i in range(30)}
    pool = pool_of_levels({"x": 30}, offline=labels)
    history = simulate(Curriculum(), pool, POLICY, steps=30, num=3)
    mean = [sum(labels[pool.samples[place].id] for place in places) / 3 for places in history]
    # the offline label decides, though every prompt's latest rate is one half
    assert mean == [1.0] * 10 + [0.5] * 10 + [0.0] * 10


@pytest.mark.proves("sampler.curriculum", "table")
def test_a_stage_without_prompts_takes_the_nearest_tier_the_harder_one_first():
    pool = pool_of_levels({"easy": 3, "hard": 3})
    sampler = Curriculum(by="meta.level")
    assert levels(pool, simulate(sampler, pool, POLICY, steps=3, num=2)) == ["easy", "hard", "hard"]
    gone = pool_of_levels({"easy": 3, "medium": 1, "hard": 3}, keeps=[lambda stat: stat.place <= 2])
    assert levels(gone, simulate(Curriculum(by="meta.level"), gone, POLICY, steps=3, num=2)) == ["easy"] * 3


def test_a_tier_that_is_not_in_the_order_is_named():
    with pytest.raises(ConfigError, match="says nothing of odd"):
        Curriculum(by="meta.level").draw(context(), pool_of_levels({"easy": 1, "odd": 1}), 1)


@pytest.mark.proves("sampler.curriculum", "law")
@given(
    st.lists(st.integers(1, 6), min_size=3, max_size=3), st.integers(3, 20), st.integers(1, 5), st.booleans(), st.integers(0, 3)
)
def test_laws_of_the_curriculum(sizes, steps, num, keep_earlier, seed):
    names = ["easy", "medium", "hard"]

    def run():
        pool = pool_of_levels(dict(zip(names, sizes, strict=True)))
        sampler = Curriculum(by="meta.level", keep_earlier=keep_earlier)
        return pool, simulate(sampler, pool, POLICY, steps=steps, num=num, seed=seed)

    pool, found = run()
    assert found == run()[1]
    hardest = [max(names.index(pool.samples[place].meta["level"]) for place in places) for places in found]
    assert all(len(places) == num for places in found)
    if not keep_earlier:
        assert hardest == sorted(hardest) and set(hardest) == {0, 1, 2}
    for number, name in enumerate(names):
        own = [p for places, top in zip(found, hardest, strict=True) if top == number for p in places
               if pool.samples[p].meta["level"] == name]  # fmt: skip
        size = sizes[number]
        if not keep_earlier:
            assert all(len(set(own[i : i + size])) == len(own[i : i + size]) for i in range(0, len(own), size))


@pytest.mark.proves("sampler.curriculum", "resume")
def test_resumed_draws_equal_uninterrupted_ones():
    def pool():
        return pool_of_levels({"easy": 4, "medium": 3, "hard": 5})

    assert resumes(lambda: Curriculum(by="meta.level", keep_earlier=True), POLICY, pool=pool)


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 6))
def test_equal_stages_written_out_are_the_same(progress, num):
    ends = [(i + 1) / num for i in range(num)]
    near_edge = any(abs(progress - end) < 1e-9 for end in ends)
    assert near_edge or stage_of(progress, num, []) == stage_of(progress, num, ends)
    assert 0 <= stage_of(progress, num, ends) < num


@pytest.mark.proves("auxiliary.staged_entropy", "table")
def test_staged_entropy_by_hand():
    # 10 steps, three equal stages: steps 0-3, 4-6, 7-9 (3/10 < 1/3); term = -coefficient * entropy
    piece = StagedEntropy(easy=0.0, medium=0.001, hard=0.1)
    assert [piece.coef(step / 10) for step in range(10)] == [0.0] * 4 + [0.001] * 3 + [0.1] * 3
    entropy = torch.tensor([[2.0, 0.5]], requires_grad=True)
    term = piece(context(9, 10), SimpleNamespace(entropy=entropy))
    assert torch.allclose(term, torch.tensor([[-0.2, -0.05]]))
    term.sum().backward()
    assert torch.allclose(entropy.grad, torch.full((1, 2), -0.1))


@pytest.mark.proves("auxiliary.staged_entropy", "law")
@given(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True), st.floats(0, 0.1), st.floats(0, 0.1))
def test_the_coefficient_never_falls(one, other, medium, more):
    piece = StagedEntropy(easy=0.0, medium=medium, hard=medium + more + 1e-3, ends=[0.1, 0.6, 1.0])
    low, high = sorted((one, other))
    assert 0 <= piece.coef(low) <= piece.coef(high)


@pytest.mark.proves("auxiliary.staged_entropy", "run")
def test_staged_entropy_trains_in_a_stage(run_stage):
    pieces = {"auxiliary": {"staged_entropy": {"easy": 0.0, "medium": 0.05, "hard": 0.5}}}
    _, rows, _ = run_stage(num_steps=3, pieces=pieces)
    terms = [row["auxiliary/auxiliary.staged_entropy"] for row in rows]
    assert terms[0] == 0.0 and 0 > terms[1] > terms[2]


@pytest.mark.parametrize(
    ("slot", "name", "values", "message"),
    [
        ("sampler", "curriculum", {"tiers": []}, "at least one tier"),
        ("sampler", "curriculum", {"tiers": ["a", "a"]}, "none twice"),
        ("sampler", "curriculum", {"ends": [0.5, 1.0]}, "3 rising shares"),
        ("sampler", "curriculum", {"ends": [0.5, 0.4, 1.0]}, "3 rising shares"),
        ("sampler", "curriculum", {"ends": [0.2, 0.4, 0.9]}, "the last one 1"),
        ("auxiliary", "staged_entropy", {}, "needs easy, medium, hard"),
        ("auxiliary", "staged_entropy", {"easy": 0.1, "medium": 0.01, "hard": 0.2}, "easy <= medium < hard"),
        ("auxiliary", "staged_entropy", {"easy": 0.0, "medium": 0.01, "hard": 0.01}, "easy <= medium < hard"),
    ],
)
def test_bad_settings_are_refused(slot, name, values, message):
    with pytest.raises(ConfigError, match=message):
        make(slot, name, values)
