"""A policy whose pass rate on each prompt is a number (guides C7 step 4), to see what samplers and supplies draw from it."""

import random
from collections.abc import Callable

from factory.contracts import Message, Sample
from factory.rewards.mixture import Reward
from factory.stages.rl.context import StepContext
from factory.stages.rl.pool import PromptPool
from factory.stages.rl.rollouts import Group, Rollout


def sample(name, *, task="t", source="s", **meta):
    """A text sample."""
    return Sample(id=name, task=task, messages=(Message("user", name),), reference="a", source=source, meta=meta)


def pool_of(num, **settings):
    """A pool of `num` samples p000, p001 …"""
    return PromptPool([sample(f"p{i:03d}") for i in range(num)], **settings)


def group_of(one, num_right, size):
    """A group with so many right rollouts, in a fixed order."""
    rollouts = []
    for index in range(size):
        right = index < num_right
        reward = Reward(float(right), False, False, {"exact": float(right)}, {"exact": "ok" if right else "wrong"}, {"exact": ""})
        rollouts.append(Rollout(0, index, [7], [-1.0], True, 0, reward=reward, right=right))
    return Group(one, rollouts)


class FakePolicy:
    """`rate(sample, step) -> pass rate`. Exact: every group has round(rate * size) right; else each rollout is a coin."""

    def __init__(self, rate: Callable[[Sample, int], float], *, size=10, seed=None):
        self.rate, self.size = rate, size
        self.rng = random.Random(seed) if seed is not None else None

    def groups(self, samples, step=0):
        found = []
        for one in samples:
            rate = self.rate(one, step)
            if self.rng is None:
                num = round(rate * self.size)
            else:
                num = sum(self.rng.random() < rate for _ in range(self.size))
            found.append(group_of(one, num, self.size))
        return found


def context(step=0, total=100, seed=0, **fields):
    """A step without services."""
    return StepContext(step, total, seed, **({"max_new_tokens": 64, "group_size": 8} | fields))


def simulate(sampler, pool, policy, *, steps, num, total=None, seed=0, first=0):
    """Draw, answer, learn, `steps` times. Returns the places of each step."""
    history = []
    for step in range(first, first + steps):
        ctx = context(step, total or steps, seed)
        places = sampler.draw(ctx, pool, num)
        groups = policy.groups([pool.samples[place] for place in places], step)
        pool.observe(step, groups)
        if hasattr(sampler, "observe"):
            sampler.observe(ctx, groups)
        history.append(places)
    return history


def resumes(make, policy, *, pool, num=3, cut=4, steps=9):
    """True when a sampler restored from its state (through JSON) after `cut` steps draws what the uninterrupted one draws."""
    import json

    whole = simulate(make(), pool(), policy, steps=steps, num=num, total=steps)
    one, before = make(), pool()
    head = simulate(one, before, policy, steps=cut, num=num, total=steps)
    other, after = make(), pool()
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    if hasattr(one, "state_dict"):
        other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    tail = simulate(other, after, policy, steps=steps - cut, num=num, total=steps, first=cut)
    return head + tail == whole
