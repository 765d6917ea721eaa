"""The data of an RL step: requests go to an engine, rollouts come back, groups are scored. No torch.

Everything else in the stage is a function of these. A rollout crosses process borders (gather) and is stored in replay
buffers, so it is plain data; its prompt and sample stay behind and are found again by its place, or by the sample's id.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from factory.contracts import Media, Sample
from factory.rewards.mixture import Reward

if TYPE_CHECKING:
    from factory.stages.models.codec import Encoded

FRESH, REPLAY, DEMO, EDITED = "fresh", "replay", "demo", "edited"
KINDS = (FRESH, REPLAY, DEMO, EDITED)
"""Where a rollout comes from: sampled in this step, stored earlier, written by a teacher, or sampled and then changed."""

TRAINED_ROLES = ("policy", "demo")
"""Who wrote a span that is trained on. Spans `injected` (by a hook) and `tool` (an environment's answer) never are."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn."""

    group_size: int
    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0


@dataclass(frozen=True)
class Request:
    """One prompt to roll out `group_size` times."""

    place: int
    """Position among the prompts of this draw; names the group."""
    sample: Sample
    prompt: Encoded
    """Token ids (and image patches) of the rendered prompt."""
    of: int = 0
    """Prompts of this draw on all processes together, so that a prompt's draws do not depend on their number; 0: those of the call."""
    seed: int | None = None
    """Of this prompt's own draws; None: they come from the seed of the call."""


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens `start` to `end` (exclusive) of a completion, and who wrote them."""

    start: int
    end: int
    role: str


@dataclass(slots=True)
class Rollout:
    """One completion of one prompt, and what the step's pieces have found out about it."""

    place: int
    """Which prompt of the draw."""
    index: int
    """Which member of the group."""
    ids: list[int]
    """Completion tokens, with the end-of-turn token when it finished."""
    logprobs: list[float]
    """Log-probability of each token under the policy that sampled it, nats: at the sampling temperature, before top-p and
    top-k cut anything. A demonstration has 0 (probability 1); tokens nobody sampled have 0 too."""
    finished: bool
    """False: cut by max_new_tokens."""
    version: int
    """Weight version of the engine that wrote it."""
    entropy: float | None = None
    """Mean entropy of the sampling distribution over its tokens, nats."""
    text: str = ""
    kind: str = FRESH
    spans: list[Span] = field(default_factory=list)
    """Who wrote which tokens; empty: the policy wrote all."""
    images: list[Media] = field(default_factory=list)
    """Images that an environment put into the completion, in the order of their image tokens."""
    fields: dict[str, str] = field(default_factory=dict)
    """What the format read from the text."""
    reward: Reward | None = None
    right: bool = False
    """True when the verifier that weighs most in its task said `ok`."""
    outcome: float | None = None
    """Set by a piece that replaces the mixture's scalar (a vote, a stored result)."""
    shaping: dict[str, float] = field(default_factory=dict)
    """Terms added to the reward, by the piece that set them."""
    mixed: float | None = None
    """Set by the mixer; the advantage is made from it."""
    ref_logprobs: list[float] = field(default_factory=list)
    masked_logprobs: list[float] = field(default_factory=list)
    """Log-probs with part of the image masked."""
    advantage: float = 0.0
    token_advantages: list[float] = field(default_factory=list)
    """One per token where an estimator gives credit token by token; empty: `advantage` for all."""
    token_weights: list[float] = field(default_factory=list)
    """Factors of the policy term, token by token; empty: 1 for all."""
    weight: float = 1.0
    """Factor of the whole rollout's policy term (mixed objectives)."""
    kl_weight: float = 1.0
    """Factor of the KL coefficient."""

    @property
    def is_masked(self) -> bool:
        """True when a verifier failed on it: not in the group's statistics, not in the loss."""
        return self.outcome is None and (self.reward is None or self.reward.masked)

    @property
    def value(self) -> float | None:
        """The mixture's scalar (or what replaced it), None when masked. Filters look at this: shaping makes no group useful."""
        if self.outcome is not None:
            return self.outcome
        return None if self.is_masked else self.reward.value

    @property
    def score(self) -> float | None:
        """What the advantage is made from: the mixer's scalar, else value plus shaping. None when masked."""
        if self.is_masked:
            return None
        return self.mixed if self.mixed is not None else self.value + math.fsum(self.shaping.values())

    @property
    def length(self) -> int:
        """Tokens that the policy (or a teacher) wrote."""
        return sum(self.trained()) if self.spans else len(self.ids)

    def trained(self) -> list[int]:
        """1 for each token that may be trained on, 0 for what a hook or an environment put in. [len(ids)]"""
        if not self.spans:
            return [1] * len(self.ids)
        mask = [0] * len(self.ids)
        for span in self.spans:
            if span.role in TRAINED_ROLES:
                mask[span.start : span.end] = [1] * (span.end - span.start)
        return mask

    def per_token_advantages(self) -> list[float]:
        """The advantage of each token. [len(ids)]"""
        return self.token_advantages or [self.advantage] * len(self.ids)

    def stored(self) -> dict[str, Any]:
        """What a replay buffer keeps, as JSON data; step-specific results are left out."""
        row = {name: getattr(self, name) for name in _STORED}
        return row | {
            "spans": [[s.start, s.end, s.role] for s in self.spans],
            "images": [image.to_json() for image in self.images],
            "reward": asdict(self.reward) if self.reward else None,
            "value": self.value,
        }

    @classmethod
    def restored(cls, row: Mapping[str, Any], *, place: int, index: int, kind: str = REPLAY) -> Rollout:
        """Inverse of `stored`, as a member of another group. Its old log-probs are those it was sampled with."""
        rollout = cls(place=place, index=index, kind=kind, **{name: row[name] for name in _STORED})
        rollout.spans = [Span(*span) for span in row["spans"]]
        rollout.images = [Media.from_json(image) for image in row["images"]]
        rollout.reward = Reward(**row["reward"]) if row["reward"] else None
        rollout.outcome = row["value"]
        return rollout


_STORED = ("ids", "logprobs", "finished", "version", "entropy", "text", "fields", "right", "shaping")


@dataclass
class Group:
    """One prompt and its rollouts, in index order."""

    sample: Sample
    rollouts: list[Rollout]

    def values(self) -> list[float | None]:
        """Mixture scalars, None where masked."""
        return [rollout.value for rollout in self.rollouts]

    def scores(self) -> list[float | None]:
        """What the advantage is made from, None where masked."""
        return [rollout.score for rollout in self.rollouts]

    def live(self) -> list[Rollout]:
        """Rollouts whose verifiers did not fail."""
        return [rollout for rollout in self.rollouts if not rollout.is_masked]

    def pass_rate(self) -> float | None:
        """Share of live rollouts that are right; None without live ones."""
        live = self.live()
        return sum(rollout.right for rollout in live) / len(live) if live else None


def copied(rollout: Rollout) -> Rollout:
    """A copy that pieces may change without touching the original."""
    changed = {f.name: type(v)(v) for f in fields(rollout) if isinstance(v := getattr(rollout, f.name), list | dict)}
    return replace(rollout, **changed)


def regroup(samples: Sequence[Sample], rollouts: Sequence[Rollout]) -> list[Group]:
    """Sort rollouts (of any process, in any order) back to the samples of their draw."""
    members: Mapping[int, list[Rollout]] = {place: [] for place in range(len(samples))}
    for rollout in rollouts:
        members[rollout.place].append(rollout)
    return [Group(sample, sorted(members[place], key=lambda r: r.index)) for place, sample in enumerate(samples)]


def seed_of(*parts: int | str) -> int:
    """A 62-bit seed from the step's coordinates, so that a resumed run samples exactly what the first one did."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8], "big") >> 2
