"""From words and images to tokens and back: prompts, lessons, documents, completions, and batches of them.

Shape letters: B = rows, T = tokens of the longest row, N = patches of all images, D = values per patch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from factory.contracts import IMAGE, Media, Message
from factory.errors import DataError
from factory.stages.models.chat import IMAGE_PAD, VIDEO_PAD, ChatTemplate, find_template
from factory.stages.models.dna.words import DnaReader, read_reader
from factory.stages.models.images import encode_images
from factory.stages.models.positions import Span, image_spans, mrope_positions

Batch = dict[str, torch.Tensor]
"""input_ids, attention_mask, loss_mask [B, T] int64; position_ids [B, T], or [4, B, T] (text, time, height, width) for a
vision-language model, which also has mm_token_type_ids [B, T]; and, when a row has images, pixel_values [N, D] float32 and
image_grid_thw [n, 3] int64."""

_TOKEN_BYTES = 48
"""Of one token of a row: an entry of `ids`, the integer itself, an entry of `loss_mask`."""


@dataclass(eq=False)
class Encoded:
    """One row of tokens. Rows may be lengthened or joined by adding to `ids` and `loss_mask`."""

    ids: list[int]
    loss_mask: list[int]
    """1 on tokens to learn from, aligned with `ids`; 0 on the first token, which nothing predicts."""
    pixels: torch.Tensor | None = None
    """[num_patches, patch_dim] float32, all images of the row in order."""
    grid: torch.Tensor | None = None
    """[n_images, 3] int64: time, height, width in patches."""

    @property
    def num_bytes(self) -> int:
        """Bytes of memory: a token is two list entries and an integer of Python's."""
        tensors = [tensor for tensor in (self.pixels, self.grid) if tensor is not None]
        return _TOKEN_BYTES * len(self.ids) + sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class Codec:
    """Tokenizer, chat template and image processor of one model."""

    def __init__(
        self, tokenizer: Any, image_processor: Any | None = None, *, template: str | None = None, eos_ids: Sequence[int] = (),
        dna: DnaReader | None = None,
    ) -> None:  # fmt: skip
        """`eos_ids`: further tokens that end a completion (from generation_config.json). `dna`: reads `<dna>` spans of texts."""
        self.tokenizer, self.image_processor, self.dna = tokenizer, image_processor, dna
        self.chat = ChatTemplate(tokenizer, template or find_template(tokenizer, None), foreign=dna)
        vocabulary = tokenizer.get_vocab()
        self.image_id: int = vocabulary.get(IMAGE_PAD, -1)
        self.image_ids: tuple[int, ...] = (
            () if image_processor is None else tuple(vocabulary[t] for t in (IMAGE_PAD, VIDEO_PAD) if t in vocabulary)
        )
        self.document_end: int = vocabulary.get("<|endoftext|>", tokenizer.eos_token_id or self.chat.end_of_turn)
        ends = (self.chat.end_of_turn, self.document_end, tokenizer.eos_token_id, *eos_ids)
        self.eos_ids: tuple[int, ...] = tuple(dict.fromkeys(i for i in ends if i is not None))
        self.pad_id: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.document_end

    @property
    def modality(self) -> str:
        """`vl` with an image processor, else `text`."""
        return "text" if self.image_processor is None else "vl"

    def prompt(self, messages: Sequence[Message], media: Sequence[Media] = ()) -> Encoded:
        """The conversation, open for the assistant to write; nothing to learn from.

        Raises DataError: placeholders and media do not match, media for a text-only model, unreadable image.
        """
        self._check_media("\n".join(m.content for m in messages), media)
        ids, pixels, grid, _ = self._with_images(self.chat.prompt_ids(messages), media)
        return Encoded(ids, [0] * len(ids), pixels, grid)

    def lesson(self, messages: Sequence[Message], response: str, media: Sequence[Media] = ()) -> Encoded:
        """A prompt, the response and the end of the turn; only the last two are learned from.

        Prompt and response are tokenised apart, exactly as they are when the model generates. Assistant turns inside
        `messages` are context.
        """
        start = self.prompt(messages, media)
        answer = [*self.chat.plain_ids(response), self.chat.end_of_turn]
        return Encoded(start.ids + answer, start.loss_mask + self._learned(answer), start.pixels, start.grid)

    def reply(self, message: Message, media: Sequence[Media] = ()) -> list[int]:
        """Tokens of a turn that answers the assistant's, up to the opening of its next one; see `ChatTemplate.reply_ids`.

        Image tokens are repeated as in a prompt; `lengthened` takes them with the same media.
        Raises DataError as `prompt` does.
        """
        self._check_media(message.content, media)
        return self._with_images(self.chat.reply_ids(message), media)[0]

    def lengthened(self, row: Encoded, ids: Sequence[int], loss_mask: Sequence[int], media: Sequence[Media] = ()) -> Encoded:
        """`row` with more tokens. `media`: the images whose tokens are among `ids`, in their order.

        Raises:
            DataError: the image tokens in `ids` are not as many as the images have.
        """
        longer = replace(row, ids=[*row.ids, *ids], loss_mask=[*row.loss_mask, *loss_mask])
        if not media:
            return longer
        pixels, grid = encode_images(self.image_processor, media)
        wanted, found = int((grid.prod(dim=1) // self.image_processor.merge_size**2).sum()), list(ids).count(self.image_id)
        if wanted != found:
            raise DataError(
                f"{found} image tokens for {len(media)} images that need {wanted}. Make the tokens with `Codec.reply`."
            )
        if row.pixels is not None and row.grid is not None:
            pixels, grid = torch.cat([row.pixels, pixels]), torch.cat([row.grid, grid])
        return replace(longer, pixels=pixels, grid=grid)

    def document(self, text: str, media: Sequence[Media] = (), add_eos: bool = True) -> Encoded:
        """Plain text without a chat template; learned from, except image tokens and the first token."""
        self._check_media(text, media)
        ids: list[int] = []
        learned: list[int] = []
        for index, piece in enumerate(text.split(IMAGE)):
            if index:
                image = self.tokenizer.convert_tokens_to_ids(["<|vision_start|>", IMAGE_PAD, "<|vision_end|>"])
                ids, learned = ids + image, learned + [0] * 3
            words = self.chat.plain_ids(piece) if piece else []
            ids, learned = ids + words, learned + self._learned(words)
        if add_eos:
            ids, learned = [*ids, self.document_end], [*learned, 1]
        if learned:
            learned[0] = 0
        ids, pixels, grid, counts = self._with_images(ids, media)
        return Encoded(ids, [bit for bit, n in zip(learned, counts, strict=True) for _ in range(n)], pixels, grid)

    def _learned(self, ids: Sequence[int]) -> list[int]:
        """1 for each token that can be learned: DNA is read, never written."""
        return [1] * len(ids) if self.dna is None else [int(not self.dna.is_dna(token)) for token in ids]

    def completion(self, ids: Sequence[int]) -> str:
        """Text of sampled tokens up to the first end token, without special tokens."""
        kept = list(itertools.takewhile(lambda i: i not in self.eos_ids, ids))
        return self.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def collate(self, rows: Sequence[Encoded], *, left: bool = False, device: torch.device | str | None = None) -> Batch:
        """Pad rows to one batch, on the right, or on the `left` for generation."""
        longest = max(len(row.ids) for row in rows)
        shape = (len(rows), longest)
        ids, real, learned = np.full(shape, self.pad_id, dtype=np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        positions = np.zeros((4, *shape), dtype=np.int64)
        for index, row in enumerate(rows):
            length = len(row.ids)
            span = slice(longest - length, longest) if left else slice(0, length)
            ids[index, span], real[index, span], learned[index, span] = row.ids, 1, row.loss_mask
            positions[:, index, span] = self.positions(row)
        batch = {"input_ids": ids, "attention_mask": real, "loss_mask": learned, "position_ids": positions[0]}
        if self.modality == "vl":
            batch |= {"position_ids": positions, "mm_token_type_ids": (ids == self.image_id) & (real == 1)}
        tensors = {key: torch.from_numpy(np.ascontiguousarray(value)).long() for key, value in batch.items()}
        if any(row.pixels is not None for row in rows):
            tensors["pixel_values"] = torch.cat([row.pixels for row in rows if row.pixels is not None])
            tensors["image_grid_thw"] = torch.cat([row.grid for row in rows if row.grid is not None])
        return {key: value.to(device) for key, value in tensors.items()} if device is not None else tensors

    def positions(self, row: Encoded) -> np.ndarray:
        """[4, T] int64: place in the row, then time, height and width as a vision-language model counts them."""
        return np.vstack([np.arange(len(row.ids)), mrope_positions(len(row.ids), self._spans(row))])

    def _spans(self, row: Encoded) -> tuple[Span, ...]:
        if row.grid is None:
            return ()
        return image_spans(row.ids, self.image_id, row.grid.tolist(), self.image_processor.merge_size)

    def _with_images(
        self, ids: list[int], media: Sequence[Media]
    ) -> tuple[list[int], torch.Tensor | None, torch.Tensor | None, list[int]]:
        """Repeat each image token as often as its image has merged patches; also how often each token was repeated."""
        if not media:
            return ids, None, None, [1] * len(ids)
        if ids.count(self.image_id) != len(media):
            raise DataError(
                f"the model's chat template wrote {ids.count(self.image_id)} image tokens for {len(media)} images. "
                "Does it accept images in these roles? Put the images into user messages."
            )
        pixels, grid = encode_images(self.image_processor, media)
        sizes = iter((grid.prod(dim=1) // self.image_processor.merge_size**2).tolist())
        counts = [next(sizes) if token == self.image_id else 1 for token in ids]
        return [token for token, n in zip(ids, counts, strict=True) for _ in range(n)], pixels, grid, counts

    def _check_media(self, text: str, media: Sequence[Media]) -> None:
        if text.count(IMAGE) != len(media):
            raise DataError(
                f"{text.count(IMAGE)} {IMAGE} placeholders for {len(media)} media items, in {text[:60]!r}. "
                "Write one placeholder per item."
            )
        if media and self.image_processor is None:
            raise DataError(
                "the sample has images, but the model reads text only. "
                "Choose a vision-language base, for example --base embedded-vl."
            )


def load_codec(folder: Path, *, is_vl: bool, eos_ids: Sequence[int] = ()) -> Codec:
    """The codec of a model folder. Raises ModelError: no tokenizer, no chat template, no image settings."""
    from factory.stages.models.images import load_image_processor
    from factory.stages.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(folder)
    processor = load_image_processor(folder) if is_vl else None
    return Codec(
        tokenizer, processor, template=find_template(tokenizer, folder), eos_ids=eos_ids, dna=read_reader(folder, tokenizer)
    )
