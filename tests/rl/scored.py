"""Scored groups for tests of rewards, mixers and weights: verdicts through a real mixture, tokens with a text, no model."""

import random

import pytest

from factory.contracts import Message, Sample, Status, Verdict
from factory.rewards.mixture import Mixture
from factory.stages.rl.context import StepContext
from factory.stages.rl.rollouts import Group, Rollout

EXACT = {"exact": 1.0}


def mixture(weights=None, gate=None, tasks=("t",)):
    """The same verifiers for all tasks."""
    return Mixture(
        {task: {"verifiers": dict(weights or EXACT), "gate": gate} for task in tasks}, known=[*(weights or EXACT), gate]
    )


def sample(name="s", task="t", **meta):
    """A text sample."""
    return Sample(id=name, task=task, messages=(Message("user", f"question {name}"),), reference="a", meta=meta)


def verdict(score):
    """A score; None for a verifier that failed; a mapping for a verdict with parts; `unparsable`."""
    if score is None:
        return Verdict(0.0, Status.error, "broke")
    if score == "unparsable":
        return Verdict(0.0, Status.unparsable, "cannot read it")
    if isinstance(score, dict):
        return Verdict(1.0, Status.ok, "", score)
    return Verdict(score, Status.ok if score == 1 else Status.wrong, "")


def rollout(index=0, tokens=3, text="", mix=None, task="t", **scores):
    """One rollout with these verifier scores; `exact` is 1 unless given."""
    mix = mix or mixture()
    verdicts = {name: verdict(scores.get(name, 1.0)) for name in mix.verifiers_for(task)}
    right = verdicts[mix.main_verifier(task)].status is Status.ok
    return Rollout(0, index, [7] * tokens, [-1.0] * tokens, True, 0, text=text, right=right, reward=mix.combine(task, verdicts))


def group(rows, mix=None, task="t", **meta):
    """A group from rows of keyword arguments for `rollout`."""
    return Group(sample(task=task, **meta), [rollout(i, mix=mix, task=task, **row) for i, row in enumerate(rows)])


def context(step=0, total=100, mix=None, **fields):
    """A step of a run with this mixture."""
    values = {"seed": 0, "max_new_tokens": 64, "group_size": 8, "mixture": mix or mixture()} | fields
    return StepContext(step, total, **values)


def terms(piece, ctx, rows, mix=None):
    """What a group reward adds to each rollout; None where it adds nothing."""
    made = group(rows, mix)
    piece.apply(ctx, made)
    return [one.shaping.get(piece.key) for one in made.rollouts]


def hold_group_laws(piece, ctx, rows, seed, mix=None):
    """The order of the rollouts does not matter, and a masked one neither gets a term nor changes another's. Gives the terms."""
    found = terms(piece, ctx, rows, mix)
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    assert near(terms(piece, ctx, [rows[i] for i in order], mix), [found[i] for i in order])
    at = seed % (len(rows) + 1)
    failed = {"exact": None, "tokens": 1 + seed % 5000, "text": "mask mask mask"}
    with_masked = terms(piece, ctx, [*rows[:at], failed, *rows[at:]], mix)
    assert with_masked.pop(at) is None and near(with_masked, found)
    return found


def near(one, other):
    """Equal to rounding, None equal to None."""
    return all((a is None) == (b is None) and (a is None or abs(a - b) < 1e-9) for a, b in zip(one, other, strict=True))


class Vocabulary:
    """Services of a made-up tokenizer: token i is `pieces[i]`. `failing` texts cannot be verified; `right` ones are right."""

    def __init__(self, pieces, ref=None, right=(), failing=(), vocab=None):
        self.pieces, self.ref, self.right, self.failing, self.vocab = pieces, ref, right, failing, vocab
        self.asked = []

    def encode(self, *texts):
        """Ids of these very pieces."""
        return [self.pieces.index(text) for text in texts]

    def decode(self, ids):
        """Bytes of the tokens, joined; a cut character becomes a replacement character."""
        whole = b"".join(p if isinstance(p, bytes) else p.encode() for p in (self.pieces[i] for i in ids))
        return whole.decode("utf-8", errors="replace")

    def logprobs(self, pairs, of):
        self.asked.append((of, len(pairs)))
        return [[self.ref[i] for i in one.ids] for _, one in pairs]

    def vocab_logprobs(self, asked, rollouts):
        self.asked.append(asked.id)
        return self.vocab(asked, rollouts)

    def dealt(self, items, own):
        return own(list(items))

    def verify(self, pairs):
        for _, one in pairs:
            said = next((word for word in ("right", "wrong") if word in one.text), "")
            one.reward = rollout(exact=None if said in self.failing else float(said == "right")).reward
            one.right = said == "right"


def resumed_equals_whole(run_stage, stop_after=4, steps=5, **changes):
    """Run a stage whole, and again cut and resumed; both must log and end the same. Gives (rows, folder of the whole run)."""
    changes = {"num_steps": steps, "samples": 3} | changes
    whole, logged, _ = run_stage("whole", **changes)
    with pytest.raises(KeyboardInterrupt):
        run_stage("cut", stop_after=stop_after, **changes)
    cut, rest, _ = run_stage("cut", **changes)
    assert 0 < len(rest) < steps, "it must have gone on from a checkpoint"
    timeless = [{k: v for k, v in row.items() if not k.startswith("time") and k != "sampler_gap"} for row in logged]
    again = [{k: v for k, v in row.items() if not k.startswith("time") and k != "sampler_gap"} for row in rest]
    assert again == timeless[-len(rest) :]
    files = sorted(path.name for path in (whole / "model").glob("*.safetensors"))
    assert files and all((whole / "model" / name).read_bytes() == (cut / "model" / name).read_bytes() for name in files)
    return logged, whole
