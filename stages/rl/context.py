"""What a piece is told of the step, and what it may ask the run for. No torch at import."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from factory.contracts import Media, Message, Sample
from factory.stages.rl.rollouts import Rollout, seed_of

if TYPE_CHECKING:
    from torch import Tensor

Pairs = Sequence[tuple[Sample, Rollout]]


@dataclass(frozen=True)
class Continuation:
    """What the policy wrote after a rollout's tokens."""

    ids: list[int]
    logprobs: list[float]
    """Log-probability of each new token in its context, nats."""
    finished: bool


class Services(Protocol):
    """Lazy, cached work of the run. `shared` ones must be called on every process with the same pairs; each process does its
    share and all get all results. `own` ones work on this process's rollouts only (hooks)."""

    def dealt(self, items: Sequence[Any], own: Callable[[list[Any]], list[Any]]) -> list[Any]:
        """shared. Let each process do its share of `items` through `own`; one result per item, all of them on all processes."""

    def logprobs(self, pairs: Pairs, of: str) -> list[list[float]]:
        """shared. One list per rollout: log-probs of its tokens under `policy` (as it is now), `reference` or `masked_view`."""

    def entropies(self, pairs: Pairs) -> list[float]:
        """shared. Mean entropy of the current policy over each rollout's trained tokens, nats."""

    def vocab_logprobs(self, sample: Sample, rollouts: Sequence[Rollout]) -> Tensor:
        """own. [G, T, V] log-probs of the whole vocabulary at each completion position; rows end-padded with `-log V`."""

    def extend(self, pairs: Pairs, *, max_new_tokens: int, temperature: float, seeds: Sequence[int]) -> list[Continuation]:
        """own. Let the policy write on after each rollout's present `ids` (whose image tokens stand for its `images`).

        `seeds`: one for the draws of each rollout, so that they do not depend on the others or on the number of processes."""

    def room(self, sample: Sample, rollout: Rollout) -> int:
        """Tokens that the model's context still holds after prompt and rollout; `extend` must not be asked for more."""

    def reply(self, text: str, images: Sequence[Media] = (), *, role: str = "user") -> list[int]:
        """Token ids of an environment's turn (`<image>` in `text` for each image) and the opening of the policy's next one.

        They follow a rollout that ends with the end of turn; the images go to `rollout.images`."""

    def read(self, rollout: Rollout) -> None:
        """Set `text` and `fields` from the tokens: after a hook changed them."""

    def ask(
        self, prompts: Sequence[tuple[Sequence[Message], Sequence[Media]]], *, max_new_tokens: int, temperature: float, seed: int,
        model: str = "policy",
    ) -> list[str]:  # fmt: skip
        """own. Plain answers to other prompts, by the policy or by the local model folder `model`."""

    def verify(self, pairs: Pairs) -> None:
        """own. Score rollouts again (after a hook changed their text): sets `reward` and `right`."""

    def score(self, ctx: StepContext, pairs: Pairs) -> None:
        """shared. Score rollouts that this step did not sample: sets `text`, `fields`, `reward`, `right` and the added terms."""

    def sample(self, sample_id: str) -> Sample:
        """The pool's sample of that id, as it is rolled out. Raises TrainingError when the pool has none."""

    def fingerprint(self, sample: Sample) -> str:
        """Hash of tokenizer, rendered prompt and media: tokens stored under another one mean something else now."""

    def demonstration(self, sample: Sample) -> str | None:
        """A teacher's worked response to the sample, or None when there is none."""

    def turn(self, text: str) -> list[int]:
        """Token ids of a whole response: the text, in which special tokens have no power, and the end of the turn."""

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text, no special tokens added."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of completion tokens, up to the end of turn."""

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Tokens that end a turn."""


@dataclass
class StepContext:
    """One RL step as pieces see it: where in the run it is, its random numbers, its limits and the run's services."""

    step: int
    """0-based RL step."""
    total: int
    """RL steps of the stage."""
    seed: int
    max_new_tokens: int
    group_size: int
    temperature: float = 1.0
    """At which rollouts are sampled."""
    kl_coef: float = 0.0
    """Coefficient of the KL piece at this step, after its schedule; 0 without one."""
    measured_kl: float | None = None
    """Set after the updates: mean KL to the reference per trained token, nats; None where none was measured."""
    services: Services | None = None
    aggregator: str = ""
    """Key of the aggregator piece: what per-token losses are divided by."""
    mixture: Any = None
    """The `factory.rewards.mixture.Mixture` of the run (weights, gates and verifiers by task)."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Figures that pieces want to see in metrics.jsonl, by name."""
    counts: Counter[str] = field(default_factory=Counter)
    """Counts over this process's own rollouts; summed over the processes into `metrics` after each draw."""

    @property
    def progress(self) -> float:
        """`step / total`, in [0, 1)."""
        return self.step / self.total

    def rng(self, purpose: str) -> random.Random:
        """A generator for one purpose of this step; the same on every process and after a resume."""
        return random.Random(seed_of(self.seed, purpose, self.step))

    def seed_for(self, purpose: str) -> int:
        """A seed for one purpose of this step."""
        return seed_of(self.seed, purpose, self.step)
