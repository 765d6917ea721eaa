"""Fake services for replay pieces: samples by name, entropies by text, other models' answers from a list. No model."""

import json
from dataclasses import dataclass, field

import torch

from factory.contracts import Message, Sample
from factory.rewards.mixture import Reward
from factory.stages.rl.tokens import KIND_CODES, TokenBatch

END = 0


@dataclass
class Shelf:
    """What pieces ask of a run. Every character is a token, and 0 ends a turn."""

    demonstrations: dict = field(default_factory=dict)
    entropy: dict = field(default_factory=dict)
    """Text -> mean entropy under the present policy."""
    print_of: str = "one tokenizer"
    answers: list = field(default_factory=list)
    """What `ask` gives, in order."""
    asked: list = field(default_factory=list)
    eos_ids: tuple = (END,)

    def sample(self, sample_id):
        return Sample(id=sample_id, task="t", messages=(Message("user", f"question {sample_id}"),), reference="a")

    def fingerprint(self, sample):
        return f"{self.print_of}/{sample.text()}"

    def entropies(self, pairs):
        return [self.entropy[rollout.text] for _, rollout in pairs]

    def demonstration(self, sample):
        return self.demonstrations.get(sample.id)

    def turn(self, text):
        return [*map(ord, text), END]

    def encode(self, text):
        return list(map(ord, text))

    def decode(self, ids):
        return "".join(chr(i) for i in ids if i != END)

    def verify(self, pairs):
        """`right...` is right, `broken...` makes the verifier fail, all else is wrong."""
        for _, rollout in pairs:
            rollout.right, broken = rollout.text.startswith("right"), rollout.text.startswith("broken")
            rollout.reward = Reward(float(rollout.right), broken, False, {}, {}, {})

    def score(self, ctx, pairs):
        for _, rollout in pairs:
            rollout.text = self.decode(rollout.ids)
        self.verify(pairs)

    def ask(self, prompts, *, max_new_tokens, temperature, seed, model="policy"):
        self.asked += [messages[0].content for messages, _ in prompts]
        taken, self.answers = self.answers[: len(prompts)], self.answers[len(prompts) :]
        return taken


def as_json(state):
    """Through JSON and back, as a checkpoint does."""
    return json.loads(json.dumps(state))


def token_batch(logp, old, advantages, kinds, *, mask=None, weights=None, totals=None):
    """A TokenBatch of lists [B][T]."""
    logp = logp if isinstance(logp, torch.Tensor) else torch.tensor(logp, dtype=torch.float64)
    zeros = torch.zeros_like(logp).detach()

    def full(values):
        return torch.as_tensor(values, dtype=logp.dtype).expand(logp.shape)

    mask = zeros + 1 if mask is None else full(mask)
    found = {"tokens": float(mask.sum()), "sequences": float(len(logp))} | (totals or {})
    return TokenBatch(
        logp=logp, old=full(old), ref=zeros, masked=zeros, mask=mask, advantages=full(advantages),
        weights=zeros + 1 if weights is None else full(weights), kl_weights=zeros + 1, flags=zeros,
        kinds=torch.tensor([KIND_CODES[kind] for kind in kinds]), totals=found,
    )  # fmt: skip
