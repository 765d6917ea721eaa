"""Generate and verify one batch of prompts with the present model, with and without images.

P = prompts of the batch, G = rollouts of each.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from factory.contracts import IMAGE, Message, Sample
from factory.errors import DataError
from factory.rewards.mixture import Mixture
from factory.rewards.pool import VerifierPool
from factory.stages.models.codec import Encoded
from factory.stages.models.generate import Generation, generate
from factory.stages.models.load import LoadedModel
from factory.stages.select.config import SelectConfig
from factory.stages.select.rollouts import Scored

log = logging.getLogger(__name__)


@dataclass
class Roller:
    """Rolls out batches of samples; what it draws depends on the seed and the batch's number only."""

    loaded: LoadedModel
    pool: VerifierPool
    mixture: Mixture
    config: SelectConfig
    seed: int

    def roll_out(self, samples: Sequence[Sample], number: int) -> list[Scored]:
        """Every rollout of a batch: by sample, sighted before blind, by index.

        Raises:
            DataError: a prompt leaves no room to answer; RewardError: verifiers fail too often.
        """
        texts: dict[tuple[int, bool, int], Generation] = {}
        for place, is_blind, generation in self._generate(samples, number):
            texts[place, is_blind, generation.sample_index] = generation
            sample = samples[place]
            text = self.loaded.codec.completion(generation.ids)
            # Judged against the sample as it is: only the model is kept from seeing the images.
            self.pool.submit((place, is_blind, generation.sample_index), text, sample, self.mixture.verifiers_for(sample.task))
        found: dict[tuple[int, bool, int], Scored] = {}
        failed: Counter[str] = Counter()
        for key, verdicts in self.pool.results():
            place, is_blind, index = key
            reward = self.mixture.combine(samples[place].task, verdicts)
            failed.update(f"{name}: {v.status.value} ({v.reason})" for name, v in verdicts.items() if v.status.is_masked)
            generation = texts[key]
            found[key] = Scored(
                samples[place].id, index, is_blind, self.loaded.codec.completion(generation.ids), reward.value, reward.masked,
                len(generation.ids), generation.finished,
            )  # fmt: skip
        for what, times in failed.most_common(3):
            log.warning("%d rollouts masked, verifier %s", times, what)
        return [found[key] for key in sorted(found)]

    def _generate(self, samples: Sequence[Sample], number: int) -> Iterator[tuple[int, bool, Generation]]:
        """(place, is_blind, completion) as completions finish."""
        yield from self._completions(list(enumerate(samples)), self.config.rollouts, f"select-{self.seed}-{number}", False)
        if self.config.blind_rollouts:
            blind = [(place, without_images(sample)) for place, sample in enumerate(samples) if sample.media]
            yield from self._completions(blind, self.config.blind_rollouts, f"select-blind-{self.seed}-{number}", True)

    def _completions(
        self, placed: Sequence[tuple[int, Sample]], num: int, seed: str, is_blind: bool
    ) -> Iterator[tuple[int, bool, Generation]]:
        if not placed:
            return
        generator = torch.Generator().manual_seed(random.Random(seed).getrandbits(62))
        for generation in generate(
            self.loaded, [self._prompt(sample) for _, sample in placed], num_return=num, generator=generator,
            max_new_tokens=self.config.max_new_tokens, temperature=self.config.temperature, top_p=self.config.top_p,
        ):  # fmt: skip
            yield placed[generation.prompt_index][0], is_blind, generation

    def _prompt(self, sample: Sample) -> Encoded:
        encoded = self.loaded.codec.prompt(sample.messages, sample.media)
        context = int(self.loaded.model.config.get_text_config().max_position_embeddings)
        if len(encoded.ids) + self.config.max_new_tokens > context:
            raise DataError(
                f"sample {sample.id!r}: {len(encoded.ids)} prompt tokens and max_new_tokens={self.config.max_new_tokens} exceed "
                f"the model's context of {context}. Shorten the prompt or lower max_new_tokens."
            )
        return encoded


def without_images(sample: Sample) -> Sample:
    """The same question without its images and their placeholders: what is left is guessing from the text (RAP)."""
    messages = tuple(Message(m.role, m.content.replace(IMAGE, "").strip()) for m in sample.messages)
    return replace(sample, messages=messages, media=())
