"""`one_step_off`: which weights write what, what is told of it, exact resumes, and that an engine apart really writes beside the training."""

import json
import threading
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from factory.errors import TrainingError
from factory.stages.rl.config import RlConfig
from factory.stages.rl.one_step_off import OneStepOff, Order, staleness
from factory.stages.rl.presets import resolve
from factory.stages.rl.rollouts import Group, Rollout, Sampling

TWO_UPDATES = {"updates_per_rollout": 1, "minibatches": 2}


def texts(workdir):
    """RL step -> the completions that its log kept."""
    found = {}
    for line in (workdir / "rollouts.jsonl").read_text().splitlines():
        row = json.loads(line)
        found.setdefault(row["step"], []).append((row["sample"], row["completion"], row["tokens"]))
    return list(found.values())


def test_rollouts_of_a_step_come_from_the_weights_before_the_last_update(run_stage):
    """Steps 1 and 2 are written by the base whatever is learned; step 3 by the weights after the first update."""
    settings = {"num_steps": 3, "one_step_off": True}
    slow, _, _ = run_stage("slow", optim={"lr": 1e-6}, **settings)
    fast, _, _ = run_stage("fast", optim={"lr": 3e-2}, **settings)
    one, other = texts(slow), texts(fast)
    assert one[:2] == other[:2] and one[2] != other[2]
    on_policy, _, _ = run_stage("on", optim={"lr": 3e-2}, num_steps=3)
    assert texts(on_policy)[0] == other[0] and texts(on_policy)[1] != other[1], "on policy the second step sees the first update"


def test_staleness_and_mismatch_are_reported_and_it_learns(run_stage):
    workdir, rows, _ = run_stage(one_step_off=True, num_steps=12, optim={"lr": 2e-3}, **TWO_UPDATES)
    assert [row["staleness"] for row in rows] == [0.0] + [2.0] * 11 == [row["staleness_max"] for row in rows]
    kept = [json.loads(line) for line in (workdir / "rollouts.jsonl").read_text().splitlines()]
    assert {(row["step"], row["staleness"]) for row in kept} == {(2, 0), *((2 * step, 2) for step in range(2, 13))}
    # The first step's sampler is the trainer; from the second on they differ, and the weights say by how much.
    assert rows[0]["sampler_gap_max"] < 1e-4 and rows[0]["tis_mean"] == pytest.approx(1.0, abs=1e-4)
    assert all(row["sampler_gap_max"] > 1e-3 and row["tis_mean"] != 1.0 for row in rows[1:6])
    assert all("stale_rollouts" not in row and row["time_waited_s"] >= 0 for row in rows)
    assert sum(row["reward"] for row in rows[-3:]) / 3 > sum(row["reward"] for row in rows[:3]) / 3 + 0.2


def test_without_weights_the_ratio_starts_from_the_sampler(run_stage):
    """The old log-probs are then those of a step ago, so the clip acts from the first update on."""
    pieces = {"token_weight": {"tis": None}, "loss": {"clip": {"eps_low": 1e-3, "eps_high": 1e-3}}}
    _, rows, _ = run_stage(one_step_off=True, num_steps=3, pieces=pieces)
    assert "tis_mean" not in rows[0] and rows[0]["sampler_gap"] < 1e-4
    assert rows[0]["clip_share"] == 0.0 and rows[1]["clip_share"] > 0.0 and rows[2]["clip_share"] > 0.0


RESUMABLE = {
    "weighed": {},
    "ratio": {"pieces": {"token_weight": {"tis": None}}},
    "two_updates": {**TWO_UPDATES, "preset": "dapo_oversample", "pieces": {"kl": {"k3": {"coef": 0.1}}}},
    "shorter_later": {"group_size": 4, "pieces": {"clock": {"ptst": {"lengths": [0.5, 1.0], "groups": [1.0, 0.5]}}}},
}


@pytest.mark.parametrize(
    "name", [name if name in ("weighed", "two_updates") else pytest.param(name, marks=pytest.mark.slow) for name in RESUMABLE]
)
def test_a_run_that_was_cut_ends_with_the_same_weights(run_stage, name):
    changes = {"one_step_off": True, "num_steps": 5, "samples": 3, "prompts_per_step": 2, **RESUMABLE[name]}
    whole, rows, _ = run_stage("whole", **changes)
    with pytest.raises(KeyboardInterrupt):
        run_stage("cut", stop_after=4, **changes)
    cut, rest, _ = run_stage("cut", **changes)
    assert 0 < len(rest) < 5, "it must have gone on from a checkpoint"
    for key in ("step", "loss", "reward", "grad_norm", "staleness"):
        assert [row.get(key) for row in rest] == [row.get(key) for row in rows[-len(rest) :]]
    one, other = (load_file(folder / "model" / "model.safetensors") for folder in (whole, cut))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    assert (whole / "rollouts.jsonl").read_text() == (cut / "rollouts.jsonl").read_text()


class Ranks:
    """The parts of a Learner that the engine uses, for one of several processes whose values are given beforehand."""

    def __init__(self, rank, world_size, others=()):
        self.rank, self.world_size, self.is_main, self._others = rank, world_size, rank == 0, list(others)

    def gather(self, value):
        return [*self._others[: self.rank], value, *self._others[self.rank :]]


class Slow:
    """An engine of its own process: writes one token per prompt when it is let."""

    runs_apart = True

    def __init__(self):
        self.may_write, self.synced, self.fails = threading.Event(), [], False

    def sync(self, weights):
        self.synced.append(weights.version)
        return weights.version

    def generate(self, requests, sampling, *, seed):
        assert self.may_write.wait(30)
        if self.fails:
            raise TrainingError("the server is gone")
        version = self.synced[-1]
        for place in requests:
            yield Rollout(place=place, index=0, ids=[seed], logprobs=[-0.5], finished=True, version=version)

    def close(self):
        """Nothing."""


def order(step, places=(0, 1, 2)):
    return Order(step, [7, 8, 9], {"figure": float(step)}, list(places), Sampling(1, 1), 100 + step)


def weights(version):
    return SimpleNamespace(version=version)


def test_an_engine_apart_writes_while_the_policy_trains():
    engine = Slow()
    off = OneStepOff(engine, Ranks(0, 1), num_steps=3)
    off.sync(weights(0))
    engine.may_write.set()
    off._take_off(order(0))
    off._waiting.written.result(timeout=30)
    engine.may_write.clear()
    first = off.begin(0, weights(0), order)
    assert (first.step, first.prompts, first.figures) == (0, [7, 8, 9], {"figure": 0.0}) and engine.synced == [0]
    assert not off._waiting.written.done(), "the rollouts of step 1 are held up, and step 0 may train"
    assert [one.ids for one in off.generate([], Sampling(1, 1), seed=100)] == [[100]] * 3
    engine.may_write.set()
    assert off.begin(1, weights(1), order).step == 1 and engine.synced == [0, 1]
    assert off.begin(2, weights(2), order).step == 2 and off._waiting is None, "nothing is written for a step after the last"
    assert [one.version for one in off.generate([], Sampling(1, 1), seed=102)] == [1] * 3
    off.close()


def test_an_error_of_the_writer_ends_the_next_step():
    engine = Slow()
    off = OneStepOff(engine, Ranks(0, 1), num_steps=9)
    engine.may_write.set()
    off.begin(0, weights(0), order)
    off._waiting.written.result(timeout=30)
    engine.fails = True
    off.begin(1, weights(1), order)
    with pytest.raises(TrainingError, match="the server is gone"):
        off.begin(2, weights(2), order)
    off.close()


def test_a_checkpoint_of_two_processes_gives_one_all_rollouts_and_two_their_own():
    shares, held = {0: [0, 2], 1: [1]}, {}
    for rank, places in shares.items():
        other = [{"place": place, "index": 0, "ids": [105], "logprobs": [-0.5], "finished": True, "version": 4, "entropy": None}
                 for place in shares[1 - rank]]  # fmt: skip
        engine = Slow()
        engine.may_write.set()
        off = OneStepOff(engine, Ranks(rank, 2, [other]), num_steps=9)
        off.sync(weights(4))
        off._take_off(order(5, places))
        held[rank] = json.loads(json.dumps(off.state_dict()))
        off.close()
    assert [row["place"] for row in held[0]["flight"]["rollouts"]] == [0, 2, 1]
    assert [row["place"] for row in held[1]["flight"]["rollouts"]] == [1]
    for rank, world, state, places in (
        (0, 1, held[0], [0, 2, 1]),
        (0, 2, held[0], [0, 2]),
        (1, 2, held[1], [1]),
        (2, 3, held[0], [2]),
    ):
        off = OneStepOff(Slow(), Ranks(rank, world), num_steps=9)
        off.load_state_dict(state)
        found = off.begin(5, weights(5), lambda step: order(step, ()))
        assert [one.place for one in found.written.result()] == places and all(one.version == 4 for one in found.written.result())
        off.close()
    empty = OneStepOff(Slow(), Ranks(0, 1), num_steps=1)
    assert empty.state_dict() == {"flight": None}
    empty.load_state_dict({"flight": None})
    with pytest.raises(TrainingError, match="rollouts of step 6, and step 3 comes"):
        wrong = OneStepOff(Slow(), Ranks(0, 1), num_steps=9)
        wrong.load_state_dict(held[0])
        wrong.begin(2, weights(2), order)


def test_staleness_counts_only_what_the_step_sampled():
    made = [Rollout(place=0, index=i, ids=[1], logprobs=[0.0], finished=True, version=v) for i, v in enumerate((6, 8, 1))]
    made[2].kind = "replay"
    assert staleness([Group(None, made)], 8) == {"staleness": 1.0, "staleness_max": 2.0}
    assert staleness([], 8) == {}


def test_the_weights_of_older_rollouts_are_there_unless_the_loss_contradicts_them():
    assert resolve(RlConfig(one_step_off=True)).has("token_weight.tis")
    assert not resolve(RlConfig()).has("token_weight.tis")
    assert not resolve(RlConfig(one_step_off=True, preset="gspo")).has("token_weight.tis")
    assert not resolve(RlConfig(one_step_off=True, pieces={"token_weight": {"tis": None}})).has("token_weight.tis")
