"""Critical-token entropy: how undecided a model is where a reasoning step opens ("Wait", "Alternatively").

Skywork-R1V3 (arXiv 2507.06167; techniques B12.2): among checkpoints, the one with the higher entropy at these tokens reasons;
one that merely recites its openers is sure of them. The entropy (nats) is that of the distribution from which the first token of the word
was drawn, at temperature 1; the figure is its mean over all such words in all completions.

Shape letters: B = completions of one batch, T = tokens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from factory.stages.models.codec import Codec, Encoded
from factory.stages.models.forward import token_logprobs
from factory.stages.models.loaded import LoadedModel

_OPENERS = ".!?:;>\n"
"""A word after one of these (and white space or quotes) opens a sentence, a line, or what follows a tag."""


@dataclass(frozen=True)
class CriticalEntropy:
    """The figure of one model."""

    mean: float | None
    """Nats; None when no completion holds a critical word."""
    count: int
    """Critical words found."""
    completions: int
    """Completions that hold at least one."""


def critical_starts(text: str, words: Sequence[str], *, sentence_start: bool) -> list[int]:
    """Where the critical words begin in `text` (characters), in order. Whole words, any case."""
    wanted = sorted({word.strip() for word in words if word.strip()}, key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, wanted))})(?!\w)", re.IGNORECASE)
    return [hit.start() for hit in pattern.finditer(text) if not sentence_start or _opens(text[: hit.start()])]


def _opens(before: str) -> bool:
    # A line break opens, so it must not be stripped with the other white space.
    before = before.rstrip(" \t\r\"'*_(")
    return not before or before[-1] in _OPENERS


def critical_positions(ids: Sequence[int], codec: Codec, words: Sequence[str], *, sentence_start: bool) -> list[int]:
    """Indices into `ids` of the tokens with which critical words begin (a token may begin with the space before the word)."""

    def length(num_tokens: int) -> int:
        return len(codec.tokenizer.decode(ids[:num_tokens], skip_special_tokens=True, clean_up_tokenization_spaces=False))

    starts = critical_starts(codec.completion(ids), words, sentence_start=sentence_start)
    return sorted({_first_reaching(start + 1, len(ids), length) - 1 for start in starts})


def _first_reaching(wanted: int, most: int, length: Callable[[int], int]) -> int:
    """The fewest tokens whose text has `wanted` characters; text never shrinks as tokens are added."""
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if length(middle) >= wanted else (middle + 1, high)
    return low


@torch.no_grad()
def critical_entropy(
    loaded: LoadedModel, prompts: Sequence[Encoded], completions: Sequence[Sequence[int]], words: Sequence[str], *,
    sentence_start: bool = True, batch_size: int = 64,
) -> CriticalEntropy:  # fmt: skip
    """Mean entropy of the model at the critical words of its completions.

    Args:
        prompts, completions: the encoded prompt and the sampled tokens of each completion, in the same order.
        words: the critical words.

    One more forward pass over the completions that hold such a word; only the critical positions cost logits.
    """
    rows = []
    for prompt, ids in zip(prompts, completions, strict=True):
        critical = set(critical_positions(ids, loaded.codec, words, sentence_start=sentence_start))
        if critical:
            mask = [int(index in critical) for index in range(len(ids))]
            rows.append(Encoded([*prompt.ids, *ids], [0] * len(prompt.ids) + mask, prompt.pixels, prompt.grid))
    found: list[float] = []
    for start in range(0, len(rows), batch_size):
        batch = loaded.codec.collate(rows[start : start + batch_size], device=loaded.device)
        _, entropy_BT = token_logprobs(loaded.model, batch, with_entropy=True)
        assert entropy_BT is not None
        found += entropy_BT[batch["loss_mask"].bool()].double().tolist()
    return CriticalEntropy(math.fsum(found) / len(found) if found else None, len(found), len(rows))
