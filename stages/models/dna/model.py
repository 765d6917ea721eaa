"""The DNA language model as a transformers model: Qwen3 with an encoder and one linear projection in front of its embeddings.

Shape letters: B = rows, T = tokens, S = distinct sequences of a batch, L = tokens of the longest, E and H = width of encoder and
language model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

MODEL_TYPE = "dna_qwen3"


class DnaQwen3Config(Qwen3Config):
    """Qwen3's settings, and `dna_encoder`: the encoder's config as a mapping with its `model_type`, and `dna_pad`."""

    model_type = MODEL_TYPE
    dna_encoder: dict | None = None
    dna_pad: int = 0


class DnaQwen3ForCausalLM(Qwen3ForCausalLM):
    """Tokens from `config.vocab_size` on are the encoder's; their embeddings are its projected last hidden states."""

    config_class = DnaQwen3Config

    def __init__(self, config: DnaQwen3Config) -> None:
        super().__init__(config)
        settings = dict(config.dna_encoder or {})
        encoder = AutoConfig.for_model(settings.pop("model_type"), **settings)
        self.dna_encoder = encoder_of(encoder)
        self.dna_projector = nn.Linear(encoder.hidden_size, config.hidden_size)
        self.post_init()

    def forward(self, input_ids: Tensor | None = None, inputs_embeds: Tensor | None = None, **rest: Any) -> Any:
        """As Qwen3's. [B, T] tokens may be DNA."""
        if inputs_embeds is None and input_ids is not None:
            inputs_embeds = self.embed_words_and_dna(input_ids)
        return super().forward(inputs_embeds=inputs_embeds, **rest)

    def embed_words_and_dna(self, input_ids: Tensor) -> Tensor:
        """[B, T] tokens to [B, T, H] embeddings."""
        is_dna = input_ids >= self.config.vocab_size
        embeds = self.get_input_embeddings()(input_ids.masked_fill(is_dna, 0))
        if not is_dna.any():
            return embeds + self._no_dna() if self.training else embeds
        sequences, mask, origin = dna_spans(input_ids - self.config.vocab_size, is_dna, self.config.dna_pad)
        states = self.dna_encoder(input_ids=sequences, attention_mask=mask).last_hidden_state
        projected = self.dna_projector(states.to(self.dna_projector.weight.dtype))[origin][mask[origin].bool()]
        return embeds.masked_scatter(is_dna[..., None], projected.to(embeds.dtype))

    def _no_dna(self) -> Tensor:
        """Zero, with gradients of zero for encoder and projection: every process of a step must use every weight."""
        nothing = torch.full((1, 1), self.config.dna_pad, device=self.dna_projector.weight.device)
        states = self.dna_encoder(input_ids=nothing, attention_mask=torch.ones_like(nothing)).last_hidden_state
        return 0.0 * self.dna_projector(states.to(self.dna_projector.weight.dtype)).sum()


def dna_spans(numbers: Tensor, is_dna: Tensor, pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """The distinct sequences of a batch: the completions of one prompt share theirs.

    Args:
        numbers: [B, T] tokens as the encoder counts them, where `is_dna`.

    Returns:
        sequences [S, L] int64 padded on the right, their mask [S, L] int64, and for every span of the batch, in the order of
        its tokens, the row of its sequence.
    """
    before = torch.zeros_like(is_dna)
    before[:, 1:] = is_dna[:, :-1]
    begins = (is_dna & ~before)[is_dna]
    lengths = torch.bincount(begins.long().cumsum(0) - 1).tolist()
    spans = numbers[is_dna].split(lengths)
    places: dict[tuple[int, ...], int] = {}
    origin = [places.setdefault(tuple(span.tolist()), len(places)) for span in spans]
    longest = max(len(words) for words in places)
    rows = [[*words, *[pad] * (longest - len(words))] for words in places]
    real = [[1] * len(words) + [0] * (longest - len(words)) for words in places]
    as_tensor = lambda values: torch.tensor(values, device=numbers.device)  # noqa: E731
    return as_tensor(rows), as_tensor(real), as_tensor(origin)


def encoder_of(config: Any) -> nn.Module:
    """A transformers encoder from its config, without heads whose weights nothing would use."""
    try:
        encoder = AutoModel.from_config(config, add_pooling_layer=False)
    except TypeError:  # an architecture that has no such layer
        encoder = AutoModel.from_config(config)
    if hasattr(encoder, "contact_head"):  # ESM's, for contacts of residues
        del encoder.contact_head
    return encoder


def register() -> None:
    """Make the model known to transformers' auto classes."""
    AutoConfig.register(MODEL_TYPE, DnaQwen3Config, exist_ok=True)
    AutoModelForCausalLM.register(DnaQwen3Config, DnaQwen3ForCausalLM, exist_ok=True)
