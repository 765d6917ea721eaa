"""Sampling with our own decode loop: prompts are prefilled once, finished rows leave, every token has its log-probability.

Shape letters: P = prompts of one decode batch, R = P * num_return rows, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from factory.errors import ConfigError
from factory.stages.models.codec import Encoded
from factory.stages.models.forward import model_inputs
from factory.stages.models.load import LoadedModel

_DROP_SHARE = 0.25
"""Finished rows are dropped when they are more than this share of the batch: copying the cache costs about as much as a step."""


@dataclass(frozen=True)
class Generation:
    """One sampled completion."""

    prompt_index: int
    sample_index: int
    ids: list[int]
    """Sampled tokens, with the stop token when `finished`."""
    logprobs: list[float]
    """Of each token under the temperature-scaled distribution (temperature 1 for greedy), before top-p, top-k and banned
    tokens cut it: what `token_logprobs` at the same temperature gives."""
    finished: bool
    """False: cut off by `max_new_tokens`."""
    entropy: float
    """Mean entropy, in nats, of the distributions (as for `logprobs`) the tokens were drawn from."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen."""

    max_new_tokens: int
    temperature: float
    top_p: float = 1.0
    top_k: int = 0
    banned: tuple[int, ...] = ()
    """Tokens that are never chosen: a written image token would stand for an image that is not there."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.temperature < 0 or not 0 < self.top_p <= 1 or self.top_k < 0:
            raise ConfigError(
                f"{self}: needs max_new_tokens >= 1, temperature >= 0, 0 < top_p <= 1 and top_k >= 0. Mend the sampling settings."
            )


@torch.no_grad()
def generate(
    loaded: LoadedModel, prompts: Sequence[Encoded], *, num_return: int = 1, max_new_tokens: int, temperature: float,
    top_p: float = 1.0, top_k: int = 0, generator: torch.Generator | None = None, draws: Tensor | None = None,
    stop_ids: Collection[int] | None = None, max_rows: int = 0,
) -> Iterator[Generation]:  # fmt: skip
    """Yield completions as they finish; `num_return` per prompt, in no fixed order (see the indices).

    Args:
        temperature: 0 is greedy.
        generator: all uniform draws are taken from it at the start, one per row and step, so a row's tokens do not depend
            on which other rows have finished. A CPU generator gives the same draws on every device.
        draws: [P, num_return, max_new_tokens] float64 in [0, 1), in place of a generator. Greedy decoding needs neither.
        stop_ids: default `loaded.codec.eos_ids`.
        max_rows: rows decoded together; 0 means all. Prompts are sorted by length first, so that little is padding.

    A model with experts is asked in parts, each by whoever accepts its prompts; a row's draws do not depend on that.
    The model is in eval mode until the iterator is exhausted or closed; do not train in between.
    Raises ConfigError for impossible settings.
    """
    sampling = Sampling(max_new_tokens, temperature, top_p, top_k, banned=loaded.codec.image_ids)
    stops = torch.tensor(sorted(loaded.codec.eos_ids if stop_ids is None else stop_ids), dtype=torch.long)
    uniforms = draws
    if temperature == 0:
        uniforms = torch.zeros(len(prompts), num_return, 0)
    elif uniforms is None:
        assert generator is not None, "sampling needs a generator or draws"
        uniforms = uniform_draws(generator, len(prompts), num_return, max_new_tokens)
    if loaded.experts is not None:
        below = replace(loaded, experts=None)
        with _in_eval_mode(loaded), closing(loaded.experts.parts(loaded.codec, prompts)) as parts:
            for places, going_on in parts:
                for one in generate(
                    below, going_on, num_return=num_return, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p,
                    top_k=top_k, draws=uniforms[places], stop_ids=stop_ids, max_rows=max_rows,
                ):  # fmt: skip
                    yield replace(one, prompt_index=places[one.prompt_index])
        return
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids))
    size = max(1, max_rows // num_return) if max_rows else max(1, len(order))
    with _in_eval_mode(loaded):
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            rows = _Rows(loaded, [prompts[i] for i in chosen], uniforms[chosen].flatten(0, 1), sampling, stops)
            for row, ids, logprobs, finished, entropy in rows.run(num_return):
                yield Generation(chosen[row // num_return], row % num_return, ids, logprobs, finished, entropy)


@contextmanager
def _in_eval_mode(loaded: LoadedModel) -> Iterator[None]:
    was_training = loaded.model.training
    loaded.model.eval()
    try:
        yield
    finally:
        loaded.model.train(was_training)


@torch.no_grad()
def stream(
    loaded: LoadedModel, prompt: Encoded, *, max_new_tokens: int, temperature: float, top_p: float = 1.0, top_k: int = 0,
    generator: torch.Generator,
) -> Iterator[int]:  # fmt: skip
    """Yield the tokens of one completion as they are chosen, the end token included; for an answer that someone watches.

    As `generate` with one prompt, which yields whole completions. Raises ConfigError for impossible settings.
    """
    sampling = Sampling(max_new_tokens, temperature, top_p, top_k, banned=loaded.codec.image_ids)
    if loaded.experts is not None:
        with _in_eval_mode(loaded), closing(loaded.experts.parts(loaded.codec, [prompt])) as parts:
            for _, (going_on,) in parts:
                yield from stream(
                    replace(loaded, experts=None), going_on, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p,
                    top_k=top_k, generator=generator,
                )  # fmt: skip
        return
    with _in_eval_mode(loaded):
        rows = _Rows(loaded, [prompt], torch.zeros(1, 0), sampling, torch.zeros(0, dtype=torch.long))
        logits = rows.prefill(1)
        for step in range(max_new_tokens):
            uniform = uniform_draws(generator, 1).to(loaded.device) if temperature > 0 else None
            token, _, _ = choose(logits, sampling, uniform)
            yield int(token)
            if int(token) in loaded.codec.eos_ids:
                return
            if step + 1 < max_new_tokens:
                logits = rows.decode(token)


def uniform_draws(generator: torch.Generator, *shape: int) -> Tensor:
    """float64 in [0, 1), on the generator's device."""
    return torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)


class _Rows:
    """One decode batch. `alive` maps the rows still in the cache to the R rows that began."""

    def __init__(
        self, loaded: LoadedModel, prompts: Sequence[Encoded], uniforms: Tensor, sampling: Sampling, stops: Tensor
    ) -> None:
        self.model, self.sampling, self.prompts = loaded.model, sampling, prompts
        self.device = loaded.device
        self.codec, self.uniforms, self.stops = loaded.codec, uniforms.to(self.device), stops.to(self.device)

    def run(self, num_return: int) -> Iterator[tuple[int, list[int], list[float], bool, float]]:
        """Yield (row, ids, logprobs, finished, mean entropy) as rows finish."""
        logits = self.prefill(num_return)
        num_rows, steps = logits.shape[0], self.sampling.max_new_tokens
        ids = torch.zeros(num_rows, steps, dtype=torch.long, device=self.device)
        logprobs, entropies = torch.zeros(num_rows, steps, device=self.device), torch.zeros(num_rows, steps, device=self.device)
        alive = torch.arange(num_rows, device=self.device)
        is_open = torch.ones(num_rows, dtype=torch.bool, device=self.device)
        for step in range(steps):
            uniform = self.uniforms[alive, step] if self.sampling.temperature > 0 else None
            tokens, logprobs[alive, step], entropies[alive, step] = choose(logits, self.sampling, uniform)
            ids[alive, step] = tokens
            has_stopped = torch.isin(tokens, self.stops)
            leaving = is_open & (has_stopped if step + 1 < steps else torch.ones_like(is_open))
            stopped = set(alive[has_stopped].tolist())
            for row in alive[leaving].tolist():
                n = step + 1
                yield row, ids[row, :n].tolist(), logprobs[row, :n].tolist(), row in stopped, float(entropies[row, :n].mean())
            is_open = is_open & ~leaving
            if not is_open.any():
                return
            if (~is_open).sum() > _DROP_SHARE * len(is_open):
                alive, tokens, is_open = self._drop(is_open, alive, tokens)
            logits = self.decode(tokens)

    def prefill(self, num_return: int) -> Tensor:
        """Run each prompt once, then repeat its cache. Returns logits [R, V] of the first token."""
        from transformers import DynamicCache

        batch = self.codec.collate(list(self.prompts), left=True, device=self.device)
        self.cache = DynamicCache(config=self.model.config)
        out = self.model(**model_inputs(batch), past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        self.cache = out.past_key_values
        if num_return > 1:
            self.cache.batch_repeat_interleave(num_return)
        self.attention = batch["attention_mask"].repeat_interleave(num_return, dim=0)
        positions = batch["position_ids"]
        if positions.dim() == 3:
            # After an image, the three M-RoPE positions go on from the largest of them, not from the number of tokens.
            following = torch.stack([positions[0].amax(dim=1), *[positions[1:].amax(dim=(0, 2))] * 3]) + 1
            self.position = following.repeat_interleave(num_return, dim=1)
        else:
            self.position = (positions.amax(dim=1) + 1).repeat_interleave(num_return, dim=0)
        return out.logits[:, -1].float().repeat_interleave(num_return, dim=0)

    def decode(self, tokens: Tensor) -> Tensor:
        """Feed one token per row; logits [rows, V] of the next."""
        self.attention = torch.cat([self.attention, self.attention.new_ones(len(tokens), 1)], dim=1)
        inputs: dict[str, Any] = {
            "input_ids": tokens[:, None],
            "attention_mask": self.attention,
            "position_ids": self.position[..., None],
        }
        out = self.model(**inputs, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        self.position = self.position + 1
        return out.logits[:, -1].float()

    def _drop(self, keep: Tensor, alive: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take finished rows out of the cache; the remaining rows, their tokens, and that all of them are open."""
        index = keep.nonzero().squeeze(-1)
        self.cache.batch_select_indices(index)
        self.attention, self.position = self.attention[index], self.position[..., index]
        return alive[index], tokens[index], keep[index]


def choose(logits: Tensor, sampling: Sampling, uniform: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Pick the next token of each row: (tokens [R] int64, logprobs [R], entropies [R] of the uncut distribution).

    Args:
        logits: [R, V] float32.
        uniform: [R] float64 in [0, 1), one draw per row; None for greedy.
    """
    logprobs = (logits / (sampling.temperature or 1.0)).log_softmax(dim=-1)
    probabilities = logprobs.exp()
    entropy = -(probabilities * logprobs).nan_to_num(0.0).sum(dim=-1)
    allowed = probabilities.index_fill(-1, torch.tensor(sampling.banned, device=logits.device, dtype=torch.long), 0.0)
    tokens = allowed.argmax(dim=-1) if uniform is None else _draw(_cut(allowed, sampling), uniform)
    return tokens, logprobs.gather(-1, tokens[:, None]).squeeze(-1), entropy


def _cut(probabilities: Tensor, sampling: Sampling) -> Tensor:
    """Zero everything outside the top-k, then outside the smallest set that holds `top_p`; not renormalised."""
    if sampling.top_k and sampling.top_k < probabilities.shape[-1]:
        smallest = probabilities.topk(sampling.top_k, dim=-1).values[:, -1:]
        probabilities = probabilities.masked_fill(probabilities < smallest, 0.0)
    if sampling.top_p < 1.0:
        ordered, index = probabilities.sort(dim=-1, descending=True)
        ordered = ordered / ordered.sum(dim=-1, keepdim=True)
        before = ordered.cumsum(dim=-1) - ordered
        outside = torch.zeros_like(before, dtype=torch.bool).scatter(-1, index, before >= sampling.top_p)
        probabilities = probabilities.masked_fill(outside, 0.0)
    return probabilities


def _draw(weights: Tensor, uniform: Tensor) -> Tensor:
    """Inverse-CDF draw. Float64, because a float32 running sum over 150 k tokens loses the rare ones."""
    running = weights.double().cumsum(dim=-1)
    total = running[:, -1]
    # Strictly below the total, so that rounding never selects a token of weight zero at the end.
    point = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(running, point[:, None], right=True).squeeze(-1)
