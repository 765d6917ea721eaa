"""GRPO-CARE: the bonus, the tokens it looks at, and the moving average that scores them."""

import math

import pytest
import scored
import torch
from hypothesis import given
from hypothesis import strategies as st

from factory.config.schema import AdapterConfig, AdapterKind
from factory.stages.rl.pieces.care import ConsistencyBonus, EmaReference, accurate, confidence, consistent
from factory.stages.rl.rollouts import Span

PIECES = ["<answer>", "</answer>", "think ", *(f"a{i}" for i in range(4)), "<eos>"]


def answering(scores, logprobs, **settings):
    """Bonuses of rollouts `think <answer>aI</answer>` whose answer token has this reference log-prob."""
    services = scored.Vocabulary(PIECES, ref=[-9.0, -9.0, -9.0, *logprobs, *[-9.0] * (5 - len(logprobs))])
    made = scored.group([{"exact": score} for score in scores])
    for i, one in enumerate(made.rollouts):
        one.ids = services.encode("think ", "<answer>", f"a{i}", "</answer>")
    ConsistencyBonus(**settings).apply(scored.context(services=services), made)
    return [one.shaping.get("group_reward.care") for one in made.rollouts], services


@pytest.mark.proves("group_reward.care", "vector")
def test_by_the_guides_vector():
    # B15, CARE: confidences .904837 .606531 .95 .95; mean of the accurate ones less 0.01 = .810456; bonus .5 0 0 .5.
    logprobs = [-0.1, -0.5, -0.05, -0.02]
    assert [confidence(x) for x in logprobs] == pytest.approx([0.904837, 0.606531, 0.95, 0.95], abs=1e-6)
    assert accurate([1.0, 1.0, 0.0, 1.0]) == [0, 1, 3]
    found, services = answering([1.0, 1.0, 0.0, 1.0], logprobs)
    assert found == [0.5, 0.0, 0.0, 0.5]
    assert services.asked == [("reference", 3)], "only accurate rollouts cost a forward"


@pytest.mark.proves("group_reward.care", "table")
def test_accuracy_has_to_reach_the_mean_and_an_answer_has_to_be_there():
    # Mean 0.5: 0.4 is above 0.1 and below the mean. Graded answers earn half of their own accuracy.
    assert accurate([0.4, 0.6]) == [1] and accurate([0.1, 0.1]) == [] and accurate([0.3] * 7) == list(range(7))
    assert answering([0.4, 0.6], [-0.1, -0.1])[0] == [0.0, 0.3]
    services = scored.Vocabulary(PIECES, ref=[-0.1] * 8)
    made = scored.group([{}, {}])
    made.rollouts[0].ids = services.encode("think ", "a0")
    made.rollouts[1].ids = services.encode("<answer>", "a1")
    ConsistencyBonus().apply(scored.context(services=services), made)
    assert [one.shaping["group_reward.care"] for one in made.rollouts] == [0.0, 0.5]


@pytest.mark.proves("group_reward.care", "law")
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.3, 1.0]), st.floats(-5, 0)), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_the_most_confident_accurate_answer_always_earns_and_order_does_not_matter(pairs, random):
    scores, logprobs = [score for score, _ in pairs], [logprob for _, logprob in pairs]
    found, _ = answering(scores, logprobs)
    assert all(term in (0.0, 0.5 * score) for term, score in zip(found, scores, strict=True))
    chosen = accurate(scores)
    if chosen:
        assert found[max(chosen, key=lambda i: logprobs[i])] > 0
    order = list(range(len(pairs)))
    random.shuffle(order)
    assert answering([scores[i] for i in order], [logprobs[i] for i in order])[0] == [found[i] for i in order]
    masked, _ = answering([*scores[:3], None], [*logprobs[:3], 0.0])
    assert masked == [*answering(scores[:3], logprobs[:3])[0], None]


def test_unknown_confidences_do_not_count():
    assert consistent([None, 0.5, 0.6]) == [False, False, True] and consistent([None]) == [False] and consistent([]) == []


def test_tokens_the_policy_did_not_write_are_not_looked_at():
    services = scored.Vocabulary(PIECES)
    ctx, made = scored.context(services=services), scored.rollout()
    made.ids = services.encode("<answer>", "a0", "</answer>", "think ", "<answer>", "a1", "a2", "</answer>")
    assert ConsistencyBonus().answer_tokens(ctx, made) == [5, 6]
    made.spans = [Span(0, 5, "policy"), Span(5, 6, "injected"), Span(6, 8, "policy")]
    assert ConsistencyBonus().answer_tokens(ctx, made) == [6]
    made.spans = [Span(0, 3, "policy"), Span(3, 4, "tool"), Span(4, 8, "policy")]
    assert ConsistencyBonus().answer_tokens(ctx, made) == [5, 6]
    assert ConsistencyBonus(opens="", closes="").answer_tokens(ctx, made) == [4, 5, 6, 7]


def loaded_with(base, kind):
    from factory.stages.models.load import load

    return load(base, precision="fp32", adapter=AdapterConfig(kind=kind, rank=4, alpha=8), seed=0)


def trained(model):
    return {name: p.detach().double().clone() for name, p in model.named_parameters() if p.requires_grad}


def stir(model, seed):
    """A made-up update of the trained weights."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.proves("reference.ema", "table", "law", "float64")
@pytest.mark.parametrize("kind", [AdapterKind.none, AdapterKind.lora])
def test_the_average_is_the_recursion_and_the_policy_keeps_its_weights(base, kind):
    from factory.stages.rl.reference import MovingReference

    loaded = loaded_with(base, kind)
    reference = MovingReference(loaded, decay=0.9, every=2)
    expected = trained(loaded.model)
    if kind is AdapterKind.lora:
        assert all("lora" in name for name in reference.state_dict()["average"])
    for step in range(5):
        stir(loaded.model, step)
        reference.update(step, loaded.model)
        # Steps 2 and 4 (0-based 1 and 3) move it: 0.9 of the old plus 0.1 of the policy; the others leave it alone.
        if step in (1, 3):
            expected = {name: 0.9 * expected[name] + 0.1 * w for name, w in trained(loaded.model).items()}
        before = {name: (p.data_ptr(), p.detach().clone()) for name, p in loaded.model.named_parameters()}
        with reference.model(torch.device("cpu")) as model:
            assert all(torch.allclose(w, expected[name], atol=1e-5) for name, w in trained(model).items())
            assert not all(torch.equal(p, before[name][1]) for name, p in model.named_parameters())
        for name, p in loaded.model.named_parameters():
            assert p.data_ptr() == before[name][0] and torch.equal(p, before[name][1])


def test_the_policy_has_its_weights_back_after_an_error(base):
    from factory.stages.rl.reference import MovingReference

    loaded = loaded_with(base, AdapterKind.none)
    reference = MovingReference(loaded, decay=0.9, every=1)
    stir(loaded.model, 0)
    own = trained(loaded.model)
    with pytest.raises(RuntimeError, match="while scoring"), reference.model(torch.device("cpu")):
        raise RuntimeError("while scoring")
    assert all(torch.equal(w, own[name]) for name, w in trained(loaded.model).items())


# The KL is there to be measured: it is against the same average, and moves with it.
CARE = {
    "preset": "care",
    "pieces": {
        "group_reward": {"care": {"opens": "", "closes": ""}},
        "reference": {"ema": {"every": 1, "decay": 0.5}},
        "kl": {"k3": {"coef": 0.01}},
    },
}


@pytest.mark.proves("reference.ema", "resume", "run")
@pytest.mark.proves("group_reward.care", "run")
@pytest.mark.parametrize("kind", [AdapterKind.none, AdapterKind.lora])
def test_a_resumed_run_scores_with_the_same_average(run_stage, kind):
    adapter = AdapterConfig(kind=kind, rank=4, alpha=8)
    rows, _ = scored.resumed_equals_whole(run_stage, **CARE, adapter=adapter, optim={"lr": 5e-3})
    bonus = [row["shaping/group_reward.care"] for row in rows]
    assert max(bonus) > 0 and all(0 <= one <= 0.5 for one in bonus)
    assert abs(rows[0]["kl"]) < 1e-6 < rows[-1]["kl"]


def test_the_average_follows_the_policy_more_closely_than_the_start(run_stage):
    still = {**CARE, "pieces": {**CARE["pieces"], "reference": "start"}}
    moving, frozen = (run_stage(name, **one, num_steps=4)[1] for name, one in (("moving", CARE), ("frozen", still)))
    # One and the same model until the first update; then half of the way is made up in each step.
    assert moving[1]["kl"] != frozen[1]["kl"] and moving[-1]["kl"] < frozen[-1]["kl"]


def test_one_copy_of_the_weights_is_planned_and_none_without_need():
    from factory.stages.rl.config import RlConfig
    from factory.stages.rl.presets import resolve

    assert resolve(RlConfig(preset="care")).copies_of_weights() == 1.0
    assert resolve(RlConfig(preset="grpo", pieces={"kl": "k3"})).copies_of_weights() == 1.0
    with pytest.raises(ValueError, match="decay"):
        EmaReference(decay=1.0)
    assert math.isclose(EmaReference().decay, 0.995) and EmaReference().every == 10
