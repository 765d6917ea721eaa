"""Parts of the step that need no training: data objects, recordings, figures, shaping, the sampler check."""

import json
from types import SimpleNamespace

import learnable
import pytest

from factory.errors import ConfigError, DataError, TrainingError
from factory.rewards.mixture import Reward
from factory.stages.rl.collector import kl_sum
from factory.stages.rl.config import RlConfig
from factory.stages.rl.engines import make_engine
from factory.stages.rl.engines.protocol import WeightSource
from factory.stages.rl.engines.recorded import RecordedEngine, write_recording
from factory.stages.rl.engines.transformers import TransformersEngine
from factory.stages.rl.loop import RlLoop
from factory.stages.rl.pieces.kl import K1, K2
from factory.stages.rl.pieces.supply import Collected
from factory.stages.rl.presets import resolve
from factory.stages.rl.record import RolloutLog, rollout_figures, update_figures
from factory.stages.rl.rollouts import Group, Request, Rollout, Sampling, Span, regroup, seed_of

SAMPLES = learnable.samples()


def rollout(place=0, index=0, value=1.0, status="ok", num_tokens=3, **changes):
    masked = status in ("error", "timeout")
    reward = Reward(0.0 if masked else value, masked, False, {} if masked else {"exact": value}, {"exact": status}, {"exact": ""})
    fields = {"ids": [7] * num_tokens, "logprobs": [-1.0] * num_tokens, "finished": True, "version": 0, "reward": reward,
              "right": status == "ok"}  # fmt: skip
    return Rollout(place=place, index=index, **(fields | changes))


def test_regroup_restores_order_from_any_process():
    groups = regroup(SAMPLES[:2], [rollout(1, 1), rollout(0, 0), rollout(1, 0), rollout(0, 1)])
    assert [[(r.place, r.index) for r in group.rollouts] for group in groups] == [[(0, 0), (0, 1)], [(1, 0), (1, 1)]]


def test_seeds_differ_by_every_coordinate_and_fit_torch():
    seeds = {seed_of(0, "rollouts", step, number, rank) for step in range(4) for number in range(3) for rank in range(2)}
    assert len(seeds) == 24 and all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(1, 23) != seed_of(12, 3)


def test_shaping_moves_the_score_but_never_makes_a_group_useful():
    group = Group(
        SAMPLES[0],
        [rollout(value=0.5, shaping={"reward.overlong": -0.5}), rollout(index=1, value=0.5), rollout(index=2, status="timeout")],
    )
    assert group.scores() == [0.0, 0.5, None]
    assert group.values() == [0.5, 0.5, None]


def test_figures_by_hand():
    # right: lengths 2 and 4; wrong: 6; one masked of length 8 -> reward (1+1+0)/3, lengths 3 / 6, all (2+4+6+8)/4
    rollouts = [
        rollout(num_tokens=2, entropy=1.0), rollout(index=1, num_tokens=4, entropy=2.0),
        rollout(index=2, value=0.0, status="wrong", num_tokens=6, finished=False), rollout(index=3, status="error", num_tokens=8),
    ]  # fmt: skip
    groups = [Group(SAMPLES[0], rollouts), Group(SAMPLES[1], [rollout(1), rollout(1, 1)])]
    found = rollout_figures(Collected(groups[:1], groups, 2, is_spent=False), groups[:1])
    assert found["reward"] == pytest.approx(4 / 5) and found["reward/exact"] == pytest.approx(4 / 5)
    assert (found["length_right"], found["length_wrong"]) == (pytest.approx((2 + 4 + 3 + 3) / 4), 6)
    assert (found["zero_advantage_share"], found["masked_share"], found["truncated_share"]) == (
        0.5,
        pytest.approx(1 / 6),
        pytest.approx(1 / 6),
    )
    assert found["entropy"] == pytest.approx((1.0 * 2 + 2.0 * 4) / 6)
    assert (found["groups_drawn"], found["groups_kept"], found["refills"]) == (2, 1, 2)
    assert "kl" not in found


def test_update_figures_weigh_shares_by_tokens():
    updates = [
        {"loss": 1.0, "grad_norm": 2.0, "lr": 0.1, "tokens": 10.0, "clipped_low": 1.0, "clipped_high": 0.0, "kl_sum": 2.0},
        {"loss": 3.0, "grad_norm": 4.0, "lr": 0.2, "tokens": 30.0, "clipped_low": 0.0, "clipped_high": 3.0, "kl_sum": 2.0},
    ]
    found = update_figures(updates)
    assert (found["loss"], found["grad_norm"], found["lr"], found["tokens"]) == (2.0, 3.0, 0.2, 40.0)
    assert (found["clip_share_low"], found["clip_share_high"], found["clip_share"], found["kl"]) == (1 / 40, 3 / 40, 0.1, 0.1)
    assert "loss" not in update_figures([])


def test_kl_in_reward_is_the_sum_over_the_completion():
    # gaps 0.5 and -0.2: k1 sums to 0.3; k2 to (0.25 + 0.04) / 2
    one = rollout(num_tokens=2, logprobs=[-1.0, -2.0], ref_logprobs=[-1.5, -1.8])
    assert kl_sum(one, K1()) == pytest.approx(0.3)
    assert kl_sum(one, K2()) == pytest.approx(0.145)
    # A token that a hook put in is nobody's deviation.
    one.spans = [Span(0, 1, "policy"), Span(1, 2, "injected")]
    assert kl_sum(one, K1()) == pytest.approx(0.5)


def loop(**changes):
    config = RlConfig(preset="grpo", **changes)
    learner = SimpleNamespace(rank=0, world_size=1)
    collector = SimpleNamespace(prompt=lambda sample: SimpleNamespace(ids=[1]), mixture=None)
    return RlLoop(config, resolve(config), learner, collector, None, None, None, SimpleNamespace(seed=0))


def test_truncated_rollouts_keep_their_reward_and_lose_their_gradient():
    groups = [
        Group(
            SAMPLES[0], [rollout(), rollout(index=1, value=0.0, status="wrong", finished=False), rollout(index=2, status="error")]
        )
    ]
    for pieces, trained in (({}, [0, 1]), ({"resample": "overlong_filter"}, [0])):
        one = loop(pieces=pieces)
        credited = one.credit(one.context(0), groups)
        # 1 and 0 over the two live ones, the truncated one included: +-0.5 / 0.7071
        assert [r.advantage for r in groups[0].rollouts] == pytest.approx([0.70710, -0.70710, 0.0], abs=1e-4)
        assert sorted(row.rollout.index for row in one._rows(credited)) == trained


def test_recording_plays_back_what_was_written(tmp_path):
    rows = [("dawn", rollout(index=i, num_tokens=i + 1, version=4)) for i in range(2)]
    write_recording(tmp_path / "r.jsonl", rows)
    engine = RecordedEngine(tmp_path / "r.jsonl")
    found = list(engine.generate([Request(5, SAMPLES[0], None)], Sampling(2, 8), seed=0))
    assert [(r.place, r.index, r.ids, r.logprobs, r.version) for r in found] == [
        (5, i, r.ids, r.logprobs, 4) for i, (_, r) in enumerate(rows)
    ]
    assert engine.sync(WeightSource(9, None, adapter=False)) == 4
    with pytest.raises(DataError, match="'noon' has 0 recorded rollouts, group_size is 2"):
        list(engine.generate([Request(0, SAMPLES[1], None)], Sampling(2, 8), seed=0))


@pytest.mark.parametrize(
    "line",
    ["{", '{"sample": "a"}', json.dumps({"sample": "a", "ids": [1, 2], "logprobs": [0.0], "finished": True, "version": 0})],
)
def test_a_damaged_recording_names_its_line(tmp_path, line):
    (tmp_path / "r.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=r"r\.jsonl:1: not a recorded rollout"):
        RecordedEngine(tmp_path / "r.jsonl")


def test_engines_by_name():
    with pytest.raises(ConfigError, match=r"engine='transfomer' is not known\. Did you mean 'transformers'"):
        make_engine("transfomer", None)


def test_the_transformers_engine_refuses_foreign_weights():
    engine = TransformersEngine(SimpleNamespace(model=object()))
    with pytest.raises(TrainingError, match="handed another one"):
        engine.sync(WeightSource(1, object(), adapter=False))


def test_the_rollout_log_is_bounded_and_cut_to_its_checkpoint(tmp_path):
    log = RolloutLog(tmp_path, is_main=True)
    log.begin()
    groups = [Group(SAMPLES[0], [rollout(index=i, text="x" * 9999) for i in range(8)]) for _ in range(9)]
    log.add(1, groups, version=2)
    state = log.state_dict()
    log.add(2, groups, version=3)
    lines = (tmp_path / "rollouts.jsonl").read_text().splitlines()
    assert len(lines) == 2 * 8 and all(len(line) < 3000 for line in lines)
    log.load_state_dict(state)
    assert [json.loads(line)["step"] for line in (tmp_path / "rollouts.jsonl").read_text().splitlines()] == [1] * 8


def test_a_sampler_that_disagrees_with_the_learner_stops_the_run(base):
    import torch

    from factory.config.schema import OptimConfig
    from factory.stages.learner import Learner
    from factory.stages.models.load import load
    from factory.stages.rl.logprobs import check_sampler
    from factory.stages.rl.objective import Row

    loaded = load(base, precision="fp32")
    learner = Learner(loaded, OptimConfig(checkpoint_every=0), 1, base, 0)
    engine = TransformersEngine(loaded)
    sample = SAMPLES[0]
    prompt = loaded.codec.prompt(sample.messages)
    rows = [Row(prompt, r) for r in engine.generate([Request(0, sample, prompt)], Sampling(4, 6, temperature=0.7), seed=1)]
    assert check_sampler(rows, learner, temperature=0.7, precision="fp32") < 1e-4
    with pytest.raises(TrainingError, match="another temperature"):
        check_sampler(rows, learner, temperature=1.0, precision="fp32")
    assert check_sampler(rows, learner, temperature=1.0, precision="bf16") > 1e-2
    assert torch.is_grad_enabled()
