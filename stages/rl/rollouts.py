"""The data of an RL step: requests go to an engine, rollouts come back, groups are scored. No torch.

Everything else in the stage is a function of these. A rollout crosses process borders (gather), so it is plain data;
its prompt and sample stay behind and are found again by its place among the step's draws.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from factory.contracts import Sample

if TYPE_CHECKING:
    from factory.rewards.mixture import Reward
    from factory.stages.models.codec import Encoded


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


@dataclass(slots=True)
class Rollout:
    """One sampled completion. All its tokens were written by the policy."""

    place: int
    """Which prompt of the draw."""
    index: int
    """Which member of the group."""
    ids: list[int]
    """Completion tokens, with the end-of-turn token when it finished."""
    logprobs: list[float]
    """Sampler's log-probability of each token, nats: at the sampling temperature, before top-p and top-k cut anything."""
    finished: bool
    """False: cut by max_new_tokens."""
    version: int
    """Weight version of the engine that wrote it."""
    entropy: float | None = None
    """Mean entropy of the sampling distribution over its tokens, nats."""
    text: str = ""
    reward: Reward | None = None
    shaping: float = 0.0
    """Overlong punishment and KL, added to the reward."""
    ref_logprobs: list[float] = field(default_factory=list)
    advantage: float = 0.0

    @property
    def is_masked(self) -> bool:
        """True when a verifier failed on it: not in the group's statistics, not in the loss."""
        return self.reward is None or self.reward.masked

    @property
    def value(self) -> float | None:
        """The mixture's scalar, None when masked."""
        return None if self.is_masked else self.reward.value

    @property
    def score(self) -> float | None:
        """What the advantage is made from: value plus shaping."""
        return None if self.is_masked else self.reward.value + self.shaping


@dataclass
class Group:
    """One prompt and its rollouts, in index order."""

    sample: Sample
    rollouts: list[Rollout]

    def values(self) -> list[float | None]:
        """Mixture scalars, None where masked. The filter looks at these: shaping alone never makes a group useful."""
        return [rollout.value for rollout in self.rollouts]

    def scores(self) -> list[float | None]:
        """Values with shaping, None where masked."""
        return [rollout.score for rollout in self.rollouts]


def regroup(samples: Sequence[Sample], rollouts: Sequence[Rollout]) -> list[Group]:
    """Sort rollouts (of any process, in any order) back to the samples of their draw."""
    members: Mapping[int, list[Rollout]] = {place: [] for place in range(len(samples))}
    for rollout in rollouts:
        members[rollout.place].append(rollout)
    return [Group(sample, sorted(members[place], key=lambda r: r.index)) for place, sample in enumerate(samples)]


def seed_of(*parts: int | str) -> int:
    """A 62-bit seed from the step's coordinates, so that a resumed run samples exactly what the first one did."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8], "big") >> 2
