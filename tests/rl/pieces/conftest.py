"""Small groups and a step context for tests of single pieces; no model."""

import pytest

from factory.contracts import Message, Sample
from factory.rewards.mixture import Reward
from factory.stages.rl.context import StepContext
from factory.stages.rl.rollouts import Group, Rollout


def make_sample(name="s", task="t", **meta):
    """A text sample; `meta` as given."""
    return Sample(id=name, task=task, messages=(Message("user", f"question {name}"),), reference="a", meta=meta)


def make_rollout(place=0, index=0, value=1.0, *, tokens=3, masked=False, **fields):
    """A scored rollout; `value` in [0, 1]; right when the value is 1. `tokens`: its length."""
    status = "error" if masked else ("ok" if value >= 1.0 else "wrong")
    reward = Reward(0.0 if masked else value, masked, False, {} if masked else {"exact": value}, {"exact": status}, {"exact": ""})
    base = {"ids": [7] * tokens, "logprobs": [-1.0] * tokens, "finished": True, "version": 0, "reward": reward,
            "right": status == "ok", "text": f"answer {place} {index}"}  # fmt: skip
    return Rollout(place=place, index=index, **(base | fields))


def make_group(values, *, name="s", place=0, lengths=None, meta=None):
    """A group from values (None: masked) and lengths in tokens."""
    lengths = lengths or [3] * len(values)
    rollouts = [
        make_rollout(place, i, 0.0 if v is None else v, tokens=n, masked=v is None)
        for i, (v, n) in enumerate(zip(values, lengths, strict=True))
    ]
    return Group(make_sample(name, **(meta or {})), rollouts)


@pytest.fixture
def group_of():
    """`make_group`."""
    return make_group


@pytest.fixture
def rollout_of():
    """`make_rollout`."""
    return make_rollout


@pytest.fixture
def sample_of():
    """`make_sample`."""
    return make_sample


@pytest.fixture
def context():
    """context(step=0, total=100, **fields) -> StepContext without services."""

    def make(step=0, total=100, **fields):
        values = {"seed": 0, "max_new_tokens": 64, "group_size": 8} | fields
        return StepContext(step, total, **values)

    return make
