"""What a pack's probe may ask of a trained model: image features and continuation log-probabilities, as numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from factory.contracts import IMAGE, DataRequest, Media
from factory.errors import ConfigError
from factory.stages.models.codec import Encoded
from factory.stages.models.forward import token_logprobs
from factory.stages.models.load import LoadedModel


class TorchModelView:
    """`factory.contracts.ModelView` over a loaded transformers model; no gradients, batches of `batch_size`."""

    def __init__(
        self,
        loaded: LoadedModel,
        batch_size: int = 64,
        request: DataRequest | None = None,
        answers: Mapping[str, str] | None = None,
    ) -> None:
        self.loaded, self.batch_size = loaded, batch_size
        self.request, self.answers = request or DataRequest(), answers or {}

    @torch.no_grad()
    def image_features(self, images: Sequence[Media]) -> np.ndarray:
        """[N, D] float32: the mean over image tokens of what the vision tower hands to the language model."""
        if self.loaded.modality != "vl":
            raise ConfigError("this model has no vision tower; image probes need a vision-language base (--base embedded-vl)")
        rows = []
        for start in range(0, len(images), self.batch_size):
            encoded = [
                self.loaded.codec.document(IMAGE, (image,), add_eos=False) for image in images[start : start + self.batch_size]
            ]
            batch = self.loaded.codec.collate(encoded, device=self._device())
            output = self.loaded.model.get_image_features(batch["pixel_values"].to(self._dtype()), batch["image_grid_thw"])
            features = getattr(output, "pooler_output", output)
            rows += [
                part.float().mean(dim=0)
                for part in (features[0] if isinstance(features, tuple) and len(features) == 2 else features)
            ]
        return torch.stack(rows).cpu().numpy()

    @torch.no_grad()
    def continuation_logprobs(self, prompts: Sequence[tuple[str, tuple[Media, ...]]], continuations: Sequence[str]) -> np.ndarray:
        """[N] summed log-probability of each continuation after its plain-text prompt."""
        scores = []
        for start in range(0, len(prompts), self.batch_size):
            stop = start + self.batch_size
            encoded = [self._joined(*pair) for pair in zip(prompts[start:stop], continuations[start:stop], strict=True)]
            batch = self.loaded.codec.collate(encoded, device=self._device())
            logprobs, _ = token_logprobs(self.loaded.model, batch)
            scores.append(logprobs.float().sum(dim=1).cpu())
        return torch.cat(scores).numpy() if scores else np.zeros(0, dtype=np.float32)

    def _joined(self, prompt: tuple[str, tuple[Media, ...]], continuation: str) -> Encoded:
        """Prompt and continuation are tokenised apart, so that the border is the same for every continuation."""
        text, media = prompt
        head = self.loaded.codec.document(text, media, add_eos=False)
        tail = self.loaded.codec.document(continuation, (), add_eos=False)
        return Encoded(
            ids=head.ids + tail.ids, loss_mask=[0] * len(head.ids) + [1] * len(tail.ids), pixels=head.pixels, grid=head.grid
        )

    def _device(self) -> torch.device:
        return next(self.loaded.model.parameters()).device

    def _dtype(self) -> torch.dtype:
        return next(self.loaded.model.parameters()).dtype
