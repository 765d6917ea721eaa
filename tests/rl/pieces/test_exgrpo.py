"""ExGRPO: buckets and their draw, the buffer over several steps, a resume, and the weights of the mixed objective."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from replay_kit import Shelf, as_json, token_batch

from factory.errors import TrainingError
from factory.rewards.mixture import Reward
from factory.stages.rl.context import StepContext
from factory.stages.rl.pieces.aggregate import ConstantLength, SeqMeanTokenMean, SeqMeanTokenSum, TokenMean, counts
from factory.stages.rl.pieces.exgrpo import ExGrpo, bucket_weights
from factory.stages.rl.pieces.mixed_loss import MixedLoss
from factory.stages.rl.pieces.mixed_objective import MixedObjective
from factory.stages.rl.pool import PromptPool
from factory.stages.rl.rollouts import FRESH, REPLAY, Group, Rollout
from factory.stages.rl.services import RunServices

SIZE = 8


def a_context(step=0, shelf=None, **fields):
    return StepContext(
        step, 100, **({"seed": 0, "max_new_tokens": 64, "group_size": SIZE, "services": shelf or Shelf()} | fields)
    )


def a_group(name, num_right, size=SIZE, step=0, values=None):
    """`num_right` of `size` right; texts name question, step and index."""
    values = values or [float(i < num_right) for i in range(size)]
    rollouts = [
        Rollout(0, i, [5 + i] * 2, [-0.5 - i] * 2, True, step, text=f"{name}{step}{i}", right=i < num_right,
                reward=Reward(value, False, False, {"exact": value}, {}, {}))
        for i, value in enumerate(values)
    ]  # fmt: skip
    return Group(Shelf().sample(name), rollouts)


def a_pool(names):
    return PromptPool([Shelf().sample(name) for name in names])


def filled(rates, **settings):
    """A buffer that saw one step with `rates`: name -> number right of 8."""
    piece = ExGrpo(**{"start_rate": 0.0} | settings)
    piece.observe(a_context(), [a_group(name, k) for name, k in rates.items()])
    return piece


@pytest.mark.proves("inject.exgrpo", "vector")
def test_bucket_weights():
    # B15, K = 8, k = 1..7
    assert bucket_weights(8, "code") == pytest.approx(
        [0.004433, 0.054006, 0.242036, 0.399050, 0.242036, 0.054006, 0.004433], abs=1e-6
    )
    assert bucket_weights(8, "paper") == pytest.approx(
        [0.137334, 0.142805, 0.146192, 0.147338, 0.146192, 0.142805, 0.137334], abs=1e-6
    )


def test_a_question_brings_seven_fresh_rollouts_and_its_surest_success():
    piece, pool = filled({"a": 3, "b": 0, "c": 8}), a_pool("abcd")
    shelf = Shelf(entropy={"a00": 0.9, "a01": 0.2, "a02": 0.4})
    ctx = a_context(1, shelf)
    assert piece.reserve(ctx, pool, 4) == [0], "b was never solved, c always: one question may come back"
    assert piece.reserve(ctx, pool, 4) == [], "refills of the same step reserve nothing"
    fresh = a_group("a", 1, step=1)
    groups = [fresh, a_group("d", 2, step=1), a_group("a", 0, step=1)]
    found = piece.apply(ctx, groups)
    stored = found[0].rollouts[-1]
    assert (stored.kind, stored.text, stored.ids, stored.logprobs) == (REPLAY, "a01", [6, 6], [-1.5, -1.5])
    assert (stored.value, stored.right, stored.index) == (1.0, True, 7)
    assert [r.kind for r in found[0].rollouts[:-1]] == [FRESH] * 7 and found[1:] == groups[1:]
    assert [r.kind for r in fresh.rollouts] == [FRESH] * 8, "what was sampled stays as it is"
    assert ctx.metrics["exgrpo/replayed"] == 1.0


def test_replay_begins_after_a_step_above_the_start_rate():
    piece, pool = ExGrpo(), a_pool("ab")
    piece.observe(a_context(0), [a_group("a", 7, 20), a_group("b", 7, 20)])
    assert piece.reserve(a_context(1), pool, 2) == [], "14 of 40 are 35 %, not above it"
    piece.observe(a_context(1), [a_group("a", 3), a_group("b", 3)])
    assert len(piece.reserve(a_context(2), pool, 2)) == 1, "6 of 16; floor(0.5 * 2) questions"


def test_a_solved_question_leaves_and_a_failed_one_waits():
    piece, pool = filled({"a": 4, "b": 4}), a_pool("ab")
    piece.observe(a_context(1), [a_group("a", 8), a_group("b", 0)])
    assert piece.reserve(a_context(2), pool, 8) == []
    assert as_json(piece.state_dict())["questions"].keys() == {"b"}
    piece.observe(a_context(2), [a_group("b", 1, step=2)])
    assert piece.reserve(a_context(3), pool, 8) == [1]
    assert len(piece.state_dict()["questions"]["b"]["rows"]) == 5, "four successes of the first step, one of this"


def test_only_the_newest_successes_are_kept_where_a_limit_is_set():
    piece = filled({"a": 4}, max_stored=2)
    piece.observe(a_context(1), [a_group("a", 1, step=1)])
    assert [row["rollout"]["text"] for row in piece.state_dict()["questions"]["a"]["rows"]] == ["a03", "a10"]


def test_a_prompt_that_a_pool_piece_set_aside_does_not_come_back():
    piece = filled({"a": 4})
    pool = PromptPool([Shelf().sample(name) for name in "ab"], keeps=[lambda stat: stat.place != 0])
    assert piece.reserve(a_context(1), pool, 4) == []


def test_the_draw_follows_the_weights():
    # Peaked: of k = 1 (weight .004433) and k = 4 (.399050) the second comes first in 98.9 % of the draws.
    first = [
        filled({"rare": 1, "usual": 4}, bucket="code").reserve(a_context(s), a_pool(["rare", "usual"]), 2)[0] for s in range(200)
    ]
    assert 190 <= sum(first) <= 200
    flat = [filled({"rare": 1, "usual": 4}).reserve(a_context(s), a_pool(["rare", "usual"]), 2)[0] for s in range(200)]
    # .147338 / (.147338 + .137334) = 51.8 %, within 4 deviations of 200 draws
    assert abs(sum(flat) - 103.5) < 4 * (200 * 0.25) ** 0.5


def test_graded_rewards_go_by_their_scaled_spread():
    piece = ExGrpo(start_rate=0.0, measure="spread", bucket="code")
    # Deviations 0.5, 0.25 and 0.1 (population): scaled (0.5 - 0.1) / 0.4 = 1, 0.375 and 0; of 8: buckets 7 (clamped), 3 and 1.
    spreads = {"a": [1.0, 0.0] * 4, "b": [1.0, 0.5] * 4, "c": [1.0, 0.8] * 4, "none": [0.7] * 8}
    piece.observe(a_context(), [a_group(name, 1, values=values) for name, values in spreads.items()])
    assert piece._buckets(piece._eligible(), 8) == {7: ["a"], 3: ["b"], 1: ["c"]}


counted = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 8), min_size=1)


@pytest.mark.proves("inject.exgrpo", "law")
@given(rates=counted, num=st.integers(1, 12), bucket=st.sampled_from(["paper", "code"]), share=st.sampled_from([0.25, 0.5, 1.0]))
def test_reserved_questions_are_partly_solved_distinct_and_as_many_as_there_are(rates, num, bucket, share):
    pool = a_pool("abcdefgh")
    found = filled(rates, bucket=bucket, share=share).reserve(a_context(1), pool, num)
    names = [pool.samples[place].id for place in found]
    able = {name for name, k in rates.items() if 0 < k < 8}
    # Replay begins only when something was right, and no question is able otherwise.
    assert set(names) <= able and len(set(names)) == len(names) == min(int(share * num), len(able))


@pytest.mark.proves("inject.exgrpo", "resume")
def test_a_restored_buffer_draws_and_chooses_the_same():
    pool = a_pool("abcdef")
    piece = filled({"a": 1, "b": 2, "c": 5, "d": 6, "e": 7})
    again = ExGrpo(start_rate=0.0)
    again.load_state_dict(as_json(piece.state_dict()))
    shelf = Shelf(entropy={f"{name}0{i}": (i * 7 + ord(name)) % 5 for name in "abcde" for i in range(8)})
    results = []
    for one in (piece, again):
        ctx = a_context(5, shelf)
        places = one.reserve(ctx, pool, 6)
        groups = [a_group(pool.samples[place].id, 1, step=5) for place in places]
        results.append((places, one.apply(ctx, groups)))
        one.observe(ctx, groups)
    assert results[0] == results[1] and len(results[0][0]) == 3
    assert as_json(piece.state_dict()) == as_json(again.state_dict())


def test_what_cannot_be_replayed_is_refused():
    bare = a_group("a", 3)
    bare.rollouts[0].logprobs = []
    with pytest.raises(TrainingError, match="0 behaviour log-probs for 2 tokens"):
        ExGrpo().observe(a_context(), [bare])
    piece = filled({"a": 3})
    other = a_context(1, Shelf(print_of="another tokenizer"))
    piece.reserve(other, a_pool("a"), 2)
    with pytest.raises(TrainingError, match="another tokenizer, prompt template or media"):
        piece.apply(other, [a_group("a", 1)])
    services = RunServices(None, None, None, None, None, None, 0, sample_of={}.__getitem__)
    with pytest.raises(TrainingError, match="not in the pool any more"):
        services.sample("gone")


@pytest.mark.parametrize("settings", [{"bucket": "x"}, {"measure": "x"}, {"share": 0.0}, {"start_rate": 1.0}, {"max_stored": -1}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError):
        ExGrpo(**settings)


def sided(lengths, num_replayed):
    """One group per list of lengths; the first `num_replayed` hold a stored rollout."""
    groups = []
    for place, own in enumerate(lengths):
        members = [
            Rollout(place, i, [7] * n, [-1.0] * n, True, 0, kind=REPLAY if place < num_replayed and i == 0 else FRESH,
                    reward=Reward(1.0, False, False, {}, {}, {}))
            for i, n in enumerate(own)
        ]  # fmt: skip
        groups.append(Group(Shelf().sample(str(place)), members))
    return groups


@pytest.mark.proves("token_weight.mixed_objective", "table")
def test_weights_by_hand():
    groups = sided([[2, 2], [4, 4], [2, 2]], 1)
    MixedObjective().apply(a_context(aggregator="aggregator.constant_length"), groups)
    # 6 rollouts, 2 replayed: 0.5 * 6/2 = 1.5 and 0.5 * 6/4 = 0.75
    assert [[r.weight for r in g.rollouts] for g in groups] == [[1.5, 1.5], [0.75, 0.75], [0.75, 0.75]]
    groups = sided([[2, 2], [4, 4], [2, 2]], 1)
    MixedObjective(rho=0.25).apply(a_context(aggregator="aggregator.token_mean"), groups)
    # 16 tokens, 4 replayed: 0.25 * 16/4 = 1 and 0.75 * 16/12 = 1
    assert [r.weight for g in groups for r in g.rollouts] == [1.0] * 6
    alone = sided([[3, 3]], 0)
    MixedObjective().apply(a_context(), alone)
    assert [r.weight for r in alone[0].rollouts] == [1.0, 1.0]


AGGREGATORS = [TokenMean(), SeqMeanTokenMean(), SeqMeanTokenSum(), ConstantLength()]


@pytest.mark.proves("token_weight.mixed_objective", "float64", "law")
@given(
    lengths=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3), min_size=2, max_size=4), data=st.data(),
    rho=st.floats(0.1, 0.9),
)  # fmt: skip
@pytest.mark.parametrize("aggregator", AGGREGATORS, ids=lambda a: a.key)
def test_weighted_loss_is_the_mixture_of_the_two_objectives(aggregator, lengths, data, rho):
    num_replayed = data.draw(st.integers(1, len(lengths) - 1))
    groups = sided(lengths, num_replayed)
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    seed = data.draw(st.integers(0, 1000))
    losses = torch.randn(len(rollouts), 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    mask = torch.tensor([[float(t < len(r.ids)) for t in range(5)] for r in rollouts], dtype=torch.float64)
    is_replayed = [place < num_replayed for place, group in enumerate(groups) for _ in group.rollouts]

    def objective(side):
        """The aggregator's formula over one side alone, in plain numbers."""
        own = [b for b in range(len(rollouts)) if is_replayed[b] == side]
        sums = {b: sum(float(losses[b, t]) for t in range(len(rollouts[b].ids))) for b in own}
        if aggregator.key == "aggregator.token_mean":
            return sum(sums.values()) / sum(len(rollouts[b].ids) for b in own)
        if aggregator.key == "aggregator.seq_mean_token_mean":
            return sum(sums[b] / len(rollouts[b].ids) for b in own) / len(own)
        return sum(sums.values()) / len(own) / (9 if aggregator.key == "aggregator.constant_length" else 1)

    MixedObjective(rho=rho).apply(a_context(aggregator=aggregator.key), groups)
    weights = torch.tensor([[r.weight] for r in rollouts], dtype=torch.float64)
    found = aggregator(losses * weights, mask, counts(mask), max_length=9)
    assert found.item() == pytest.approx((1 - rho) * objective(False) + rho * objective(True), rel=1e-9, abs=1e-12)


@pytest.mark.proves("token_weight.mixed_objective", "law")
@given(num=st.integers(1, 4), half=st.integers(1, 4))
def test_half_of_equal_groups_needs_no_weights(num, half):
    groups = sided([[3] * num] * (2 * half), half)
    MixedObjective().apply(a_context(), groups)
    assert {Fraction(r.weight) for g in groups for r in g.rollouts} == {Fraction(1)}


def test_stored_tokens_go_by_their_reshaped_ratio_to_the_past_policy():
    # log ratio ln 0.3: 0.3 / 0.4 = 0.75
    ratio = torch.log(torch.tensor([[0.3]], dtype=torch.float64))
    assert MixedLoss()(token_batch(ratio - 1.0, -1.0, 1.0, [REPLAY])).loss.item() == pytest.approx(-0.75)


@pytest.mark.proves("inject.exgrpo", "run")
@pytest.mark.proves("token_weight.mixed_objective", "run")
@pytest.mark.parametrize("preset", ["exgrpo", "exgrpo_code"])
def test_a_run_replays(run_stage, preset):
    _, rows, _ = run_stage(preset=preset, num_steps=3, optim={"lr": 1e-4}, pieces={"inject": {"exgrpo": {"start_rate": 0.05}}})
    assert rows[0]["exgrpo/replayed"] == 0
    # floor(0.5 * 4) questions, one stored rollout of 32 each
    assert rows[1]["exgrpo/replayed"] == 2 and rows[1]["replay_share"] == pytest.approx(2 / 32)
