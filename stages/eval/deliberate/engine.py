"""The engine of a loaded model: encodes, samples with an explicit stream of random draws for each purpose, decodes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from factory.stages.eval.deliberate.protocol import Draw, Request
from factory.stages.models.codec import Encoded
from factory.stages.models.generate import generate
from factory.stages.models.loaded import LoadedModel


class ModelEngine:
    """`deliberate.protocol.Engine` over a model.

    Each purpose has a generator of its own, seeded by (`seed`, `label`, purpose), and samples take their draws from it in order:
    which texts are drawn does not depend on how the samples are cut into batches, nor on what else is generated.
    """

    def __init__(self, loaded: LoadedModel, *, seed: int, label: str, batch_size: int) -> None:
        """`label` tells the splits apart; `batch_size` rows are decoded together."""
        self.loaded, self.seed, self.label, self.batch_size = loaded, seed, label, batch_size
        self._streams: dict[str, torch.Generator] = {}

    def generate(
        self, requests: Sequence[Request], *, purpose: str, max_new_tokens: int, temperature: float, num_return: int = 1,
        stop: str = "",
    ) -> list[list[Draw]]:  # fmt: skip
        """See `Engine`. A `stop` mark that is one token ends a draw; one of several tokens is written over."""
        drawn: list[list[Draw]] = []
        stops = self._stops(stop)
        for start in range(0, len(requests), self.batch_size):
            prompts = [self._encoded(request) for request in requests[start : start + self.batch_size]]
            done = generate(
                self.loaded, prompts, num_return=num_return, max_new_tokens=max_new_tokens, temperature=temperature,
                generator=self._stream(purpose), stop_ids=stops, max_rows=self.batch_size,
            )  # fmt: skip
            rows: list[list[Draw | None]] = [[None] * num_return for _ in prompts]
            for found in done:
                text = self.loaded.codec.completion(found.ids)
                rows[found.prompt_index][found.sample_index] = Draw(text, len(found.ids), found.finished, tuple(found.ids))
            drawn += [[draw for draw in row if draw is not None] for row in rows]
        return drawn

    def _encoded(self, request: Request) -> Encoded:
        codec = self.loaded.codec
        row = codec.prompt(request.messages, request.media)
        for piece in request.opening:
            ids = list(piece.ids) if not isinstance(piece, str) else codec.chat.plain_ids(piece) if piece else []
            row.ids += ids
            row.loss_mask += [0] * len(ids)
        return row

    def _stops(self, stop: str) -> tuple[int, ...]:
        ends = tuple(self.loaded.codec.eos_ids)
        mark = self.loaded.codec.chat.plain_ids(stop) if stop else []
        return (*ends, mark[0]) if len(mark) == 1 else ends

    def _stream(self, purpose: str) -> torch.Generator:
        if purpose not in self._streams:
            digest = hashlib.sha256(f"{self.seed}|{self.label}|{purpose}".encode()).digest()
            self._streams[purpose] = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        return self._streams[purpose]
