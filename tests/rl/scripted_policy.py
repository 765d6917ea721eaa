"""Services for tests of hooks: a tokenizer of characters, a policy that writes what the script says, a verifier that compares.

Ids are code points; 0 ends a turn; 1 is an image token.
"""

from dataclasses import dataclass, field, replace

from factory.rewards.mixture import Reward
from factory.stages.rl.context import Continuation
from factory.stages.rl.rollouts import Rollout

END, IMAGE_ID = 0, 1


def coded(text):
    """Ids of a text; `\\0` is the end of a turn."""
    return [ord(letter) for letter in text]


def plain(ids):
    """Text up to the end of the turn."""
    return "".join(chr(i) for i in ids).split("\0")[0].replace("\1", "")


class Codec:
    """What `transcript` asks of a codec."""

    class tokenizer:
        @staticmethod
        def decode(ids, skip_special_tokens):
            return "".join(chr(i) for i in ids if i > IMAGE_ID)

    completion = staticmethod(plain)


@dataclass
class Scripted:
    """`continuations`: text -> what the policy writes after a rollout whose text ends so (the end of turn included)."""

    continuations: dict = field(default_factory=dict)
    form: object = None
    right: str = "B"
    room_left: int = 1000
    fails: str = "?"
    """A completion with this mark in it makes the verifier fail."""
    calls: list = field(default_factory=list)
    answers: dict = field(default_factory=dict)
    eos_ids = (END,)

    def encode(self, text):
        return coded(text)

    def decode(self, ids):
        return plain(ids)

    def room(self, sample, rollout):
        return self.room_left - len(rollout.ids)

    def reply(self, text, images=(), *, role="user"):
        return coded(f"[{role}]{text}".replace("<image>", "\1" * 4))

    def extend(self, pairs, *, max_new_tokens, temperature, seeds):
        self.calls.append((len(pairs), max_new_tokens, temperature, seeds))
        found = []
        for _, rollout in pairs:
            said = "".join(map(chr, rollout.ids))
            text = next(text for end, text in self.continuations.items() if said.endswith(end))[:max_new_tokens]
            found.append(Continuation(coded(text), [-0.25] * len(text), text.endswith("\0")))
        return found

    def read(self, rollout):
        from factory.stages.rl.transcript import transcript

        rollout.text = transcript(rollout, Codec)
        rollout.fields = dict(self.form.read(rollout.text)) if self.form else {}

    def verify(self, pairs):
        from factory.rewards.formats import parse

        for _, rollout in pairs:
            text = self.form.judged(rollout.text) if self.form else rollout.text
            answer = parse(text, "think_answer").answer or parse(text, "boxed").answer
            status = "error" if self.fails in rollout.text else "ok" if answer == self.right else "wrong"
            rollout.reward = Reward(float(status == "ok"), status == "error", False, {}, {"exact": status}, {"exact": ""})
            rollout.right = status == "ok"

    def ask(self, prompts, *, max_new_tokens, temperature, seed, model="policy"):
        self.calls.append((prompts, max_new_tokens, temperature, seed))
        return [next(said for part, said in self.answers.items() if part in messages[-1].content) for messages, _ in prompts]


def rollout(text, *, index=0, services=None, **fields):
    """A rollout that the scripted policy wrote; finished when its text ends with `\\0`. Verified when services are given."""
    ids = coded(text)
    one = Rollout(
        place=0, index=index, ids=ids, logprobs=[-0.5] * len(ids), finished=text.endswith("\0"), version=0, text=plain(ids)
    )  # fmt: skip
    if services is not None:
        services.read(one)
        services.verify([(None, one)])
    return replace(one, **fields)


def covers(one):
    """True when the spans cover the tokens exactly once, in order, and nobody's tokens but the policy's have log-probs."""
    places = [place for span in one.spans for place in range(span.start, span.end)]
    sampled = all(one.logprobs[p] == 0.0 for span in one.spans if span.role != "policy" for p in range(span.start, span.end))
    return places == list(range(len(one.ids))) and len(one.ids) == len(one.logprobs) and sampled
