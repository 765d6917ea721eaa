"""A loaded model that answers one conversation at a time, token by token, rendered exactly as in training."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.contracts import Media, Message
from factory.errors import DataError


@dataclass(frozen=True)
class Wish:
    """One conversation to be continued, and how."""

    messages: tuple[Message, ...]
    media: tuple[Media, ...] = ()
    max_new_tokens: int = 0
    """0: what the context still holds."""
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    """Texts that end the answer; not part of it."""


@dataclass(frozen=True)
class Piece:
    """Text that has become certain; the last piece of an answer says why it ended."""

    text: str
    finish: str = ""
    """`stop` or `length` on the last piece."""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Answerer:
    """Holds the model. Threads take turns: one answer is generated at a time."""

    def __init__(self, folder: Path, *, precision: str = "auto") -> None:
        """Load. Raises ModelError when the folder cannot be loaded."""
        from factory.stages.models.facts import model_facts
        from factory.stages.models.load import load

        self._loaded = load(folder, precision=precision)
        self.context = model_facts(str(folder)).context
        self.modality = self._loaded.modality
        self._turn = threading.Lock()

    def answer(self, wish: Wish, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[Piece]:
        """Yield text as it is generated.

        Args:
            is_wanted: asked before each token; False ends the generation (the client has gone).

        Raises:
            DataError: images that cannot be read or do not fit the placeholders, or a prompt that leaves no room to answer.
        """
        with self._turn:
            yield from self._answer(wish, is_wanted)

    def _answer(self, wish: Wish, is_wanted: Callable[[], bool]) -> Iterator[Piece]:
        import torch

        from factory.stages.models.generate import stream

        codec = self._loaded.codec
        prompt = codec.prompt(wish.messages, wish.media)
        room = self.context - len(prompt.ids)
        if room < 1:
            raise DataError(f"the prompt has {len(prompt.ids)} tokens and the model's context is {self.context}. Shorten it.")
        limit = min(wish.max_new_tokens or room, room)
        generator = torch.Generator()
        generator.manual_seed(wish.seed) if wish.seed is not None else generator.seed()
        tokens = stream(
            self._loaded, prompt, max_new_tokens=limit, temperature=wish.temperature, top_p=wish.top_p, top_k=wish.top_k,
            generator=generator,
        )  # fmt: skip
        ids: list[int] = []
        shown, has_stopped = "", False
        for token in tokens:
            if not is_wanted():
                tokens.close()
                return
            if token in codec.eos_ids:
                has_stopped = True
                break
            ids.append(token)
            text, has_stopped = _cut(codec.completion(ids), wish.stop)
            certain = text if has_stopped else _certain(text, wish.stop)
            if len(certain) > len(shown):
                yield Piece(certain[len(shown) :])
                shown = certain
            if has_stopped:
                break
        tokens.close()
        text, _ = _cut(codec.completion(ids), wish.stop)
        yield Piece(text[len(shown) :], "stop" if has_stopped else "length", len(prompt.ids), len(ids))


def _cut(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """The text before the first stop text, and whether there was one."""
    places = [place for one in stop if (place := text.find(one)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def _certain(text: str, stop: Sequence[str]) -> str:
    """The text without an end that may still change: half of a character, or the beginning of a stop text."""
    text = text.rstrip("\ufffd")
    for length in range(max(map(len, stop), default=1) - 1, 0, -1):
        if any(one.startswith(text[-length:]) for one in stop if len(text) >= length):
            return text[:-length]
    return text


def collected(pieces: Iterator[Piece]) -> tuple[str, Piece]:
    """The whole text and the last piece. Raises DataError like `answer`."""
    texts, last = [], Piece("")
    for piece in pieces:
        texts.append(piece.text)
        last = piece
    return "".join(texts), last


def as_json_error(message: str, kind: str = "invalid_request_error", param: str | None = None) -> dict[str, Any]:
    """The body of an error in OpenAI's form."""
    return {"error": {"message": message, "type": kind, "param": param, "code": None}}
