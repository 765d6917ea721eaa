"""What pieces may ask of the run (`context.Services`), on the Learner's model and the stage's engine.

`shared` work is dealt out to the processes by position and gathered, so every process must ask the same thing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from factory.contracts import Media, Message, Sample
from factory.errors import TrainingError
from factory.stages.batches import share_of
from factory.stages.rl.context import Continuation, Pairs, StepContext
from factory.stages.rl.engines.protocol import RolloutEngine
from factory.stages.rl.logprobs import completion_logprobs, vocab_logprobs
from factory.stages.rl.objective import Row
from factory.stages.rl.reference import MovingReference, Reference
from factory.stages.rl.rollouts import Request, Rollout, Sampling

if TYPE_CHECKING:
    from factory.stages.learner import Learner
    from factory.stages.models.codec import Encoded

_SCORED = ("text", "fields", "reward", "right", "shaping")
"""What `score` sets on a rollout."""

FEW_ROWS = 64
"""Prompts answered together by `ask`."""


@dataclass
class RunServices:
    """The services of one run."""

    learner: Learner
    engine: RolloutEngine
    reference: Reference | MovingReference | None
    prompt: Callable[[Sample], Encoded]
    verify_pairs: Callable[[Pairs], None]
    sampling: Sampling
    seed: int
    demonstrations: Mapping[str, str] = field(default_factory=dict)
    mask_view: Callable[[str, Encoded], Encoded] | None = None
    """Sample id and prompt -> the prompt with part of its image hidden. Set every step by the piece that wants the view."""
    score_pairs: Callable[[StepContext, Pairs], None] | None = None
    read_rollout: Callable[[Rollout], None] | None = None
    sample_of: Callable[[str], Sample] | None = None
    """Sample id -> the pool's sample as it is rolled out. Raises KeyError."""
    _others: dict[str, Any] = field(default_factory=dict)

    def logprobs(self, pairs: Pairs, of: str) -> list[list[float]]:
        """See `context.Services`. Raises TrainingError for `reference` without one: the piece did not declare its need."""
        return self.dealt(pairs, lambda mine: self._own_logprobs(mine, of))

    def entropies(self, pairs: Pairs) -> list[float]:
        """See `context.Services`."""
        from factory.stages.rl.logprobs import completion_entropies

        def own(mine: Pairs) -> list[float]:
            rows = self.rows(mine)
            return completion_entropies(rows, self.learner.model, self.learner, temperature=self.sampling.temperature)

        return self.dealt(pairs, own)

    def vocab_logprobs(self, sample: Sample, rollouts: Sequence[Rollout]) -> torch.Tensor:
        """See `context.Services`."""
        rows = self.rows([(sample, rollout) for rollout in rollouts])
        return vocab_logprobs(rows, self.learner.model, self.learner, temperature=self.sampling.temperature)

    def extend(self, pairs: Pairs, *, max_new_tokens: int, temperature: float, seeds: Sequence[int]) -> list[Continuation]:
        """See `context.Services`."""
        requests = []
        for place, (sample, rollout) in enumerate(pairs):
            row = Row(self.prompt(sample), rollout).encoded(self.learner.loaded.codec)
            requests.append(Request(place, sample, replace(row, loss_mask=[0] * len(row.ids)), seed=seeds[place]))
        sampling = Sampling(1, max_new_tokens, temperature, self.sampling.top_p, self.sampling.top_k)
        found = {one.place: one for one in self.engine.generate(requests, sampling, seed=0)} if requests else {}
        return [Continuation(found[i].ids, found[i].logprobs, found[i].finished) for i in range(len(requests))]

    def ask(
        self, prompts: Sequence[tuple[Sequence[Message], Sequence[Media]]], *, max_new_tokens: int, temperature: float, seed: int,
        model: str = "policy",
    ) -> list[str]:  # fmt: skip
        """See `context.Services`. Raises ModelError when the folder `model` cannot be loaded."""
        from factory.stages.models.generate import generate

        loaded = self.learner.loaded if model == "policy" else self._other(model)
        encoded = [loaded.codec.prompt(messages, media) for messages, media in prompts]
        texts = [""] * len(encoded)
        with self.learner.autocast():
            found = generate(
                loaded, encoded, max_new_tokens=max_new_tokens, temperature=temperature,
                generator=torch.Generator().manual_seed(seed), max_rows=FEW_ROWS,
            )  # fmt: skip
            for one in found:
                texts[one.prompt_index] = loaded.codec.completion(one.ids)
        return texts

    def verify(self, pairs: Pairs) -> None:
        """See `context.Services`."""
        self.verify_pairs(pairs)

    def score(self, ctx: StepContext, pairs: Pairs) -> None:
        """See `context.Services`."""

        def own(mine: Pairs) -> list[tuple[Any, ...]]:
            assert self.score_pairs is not None, "set by the stage"
            self.score_pairs(ctx, mine)
            return [tuple(getattr(rollout, name) for name in _SCORED) for _, rollout in mine]

        for (_, rollout), found in zip(pairs, self.dealt(pairs, own), strict=True):
            for name, value in zip(_SCORED, found, strict=True):
                setattr(rollout, name, value)

    def sample(self, sample_id: str) -> Sample:
        """See `context.Services`."""
        assert self.sample_of is not None, "set by the stage"
        try:
            return self.sample_of(sample_id)
        except KeyError as err:
            raise TrainingError(
                f"rl: a stored rollout answers the sample {sample_id!r}, which is not in the pool any more. "
                "Restore the data, or delete the stage's checkpoints to start with an empty buffer."
            ) from err

    def fingerprint(self, sample: Sample) -> str:
        """See `context.Services`."""
        parts = [self._vocabulary, json.dumps(self.prompt(sample).ids), *(media.sha256() for media in sample.media)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @cached_property
    def _vocabulary(self) -> str:
        """Hash of the token ids' meaning; read once, because a vocabulary is large."""
        words = sorted(self.learner.loaded.codec.tokenizer.get_vocab().items())
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()

    def room(self, sample: Sample, rollout: Rollout) -> int:
        """See `context.Services`."""
        return self.learner.max_context - len(self.prompt(sample).ids) - len(rollout.ids)

    def reply(self, text: str, images: Sequence[Media] = (), *, role: str = "user") -> list[int]:
        """See `context.Services`. Raises DataError when the chat template refuses the turn."""
        return self.learner.loaded.codec.reply(Message(role, text), images)

    def read(self, rollout: Rollout) -> None:
        """See `context.Services`."""
        assert self.read_rollout is not None, "set by the stage"
        self.read_rollout(rollout)

    def demonstration(self, sample: Sample) -> str | None:
        """See `context.Services`."""
        return self.demonstrations.get(sample.id)

    def turn(self, text: str) -> list[int]:
        """See `context.Services`."""
        chat = self.learner.loaded.codec.chat
        return [*chat.plain_ids(text), chat.end_of_turn]

    def encode(self, text: str) -> list[int]:
        """See `context.Services`."""
        return list(self.learner.loaded.codec.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """See `context.Services`."""
        return self.learner.loaded.codec.completion(list(ids))

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """See `context.Services`."""
        return self.learner.loaded.codec.eos_ids

    def rows(self, pairs: Pairs) -> list[Row]:
        """Rollouts with their rendered prompts."""
        return [Row(self.prompt(sample), rollout) for sample, rollout in pairs]

    def dealt(self, items: Sequence[Any], own: Callable[[list[Any]], list[Any]]) -> list[Any]:
        """See `context.Services`. Each process does every world_size-th item."""
        places = list(range(len(items)))
        mine = share_of(places, self.learner.rank, self.learner.world_size)
        found = own([items[i] for i in mine])
        results: list[Any] = [None] * len(items)
        for share in self.learner.gather(list(zip(mine, found, strict=True))):
            for i, result in share:
                results[i] = result
        return results

    def _own_logprobs(self, pairs: Pairs, of: str) -> list[list[float]]:
        rows, temperature = self.rows(pairs), self.sampling.temperature
        if of == "policy":
            return completion_logprobs(rows, self.learner.model, self.learner, temperature=temperature)
        if of == "masked_view":
            if self.mask_view is None:
                raise TrainingError(
                    "rl: a piece asked for the masked view, and no piece says how to mask. Add a piece that does."
                )
            rows = [Row(self.mask_view(sample.id, row.prompt), row.rollout) for (sample, _), row in zip(pairs, rows, strict=True)]
            return completion_logprobs(rows, self.learner.model, self.learner, temperature=temperature)
        if self.reference is None:
            raise TrainingError(
                f"rl: a piece asked for log-probs of {of!r} and did not declare the need, so there is no reference."
            )
        with self.reference.model(self.learner.device) as model:
            return completion_logprobs(rows, model, self.learner, temperature=temperature)

    def _other(self, folder: str) -> Any:
        from factory.stages.models.load import load

        if folder not in self._others:
            self._others[folder] = load(Path(folder), precision="fp32", device=self.learner.device)
            self._others[folder].model.eval()
        return self._others[folder]
