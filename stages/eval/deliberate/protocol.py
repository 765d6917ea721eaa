"""What a way of deliberating is given and gives back. A deliberator never sees the model, only an engine that writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from factory.contracts import IMAGE, Media, Message, Sample


@dataclass(frozen=True)
class Draw:
    """One text that the model wrote."""

    text: str
    tokens: int
    finished: bool
    """False: cut off at the token limit."""
    ids: tuple[int, ...] = ()
    """The sampled tokens, so that writing can go on exactly where it stopped; empty in scripts."""


Piece = str | Draw
"""Part of an assistant turn that is already there: inserted text, or what the model wrote."""


@dataclass(frozen=True)
class Request:
    """One conversation to answer; with an `opening`, the assistant's turn goes on after it."""

    messages: tuple[Message, ...]
    media: tuple[Media, ...] = ()
    opening: tuple[Piece, ...] = ()

    @classmethod
    def of(cls, sample: Sample, *more: Message, opening: tuple[Piece, ...] = ()) -> Request:
        """The sample's question, further turns after it, and the opening. `<image>` in a further turn is text, not an image."""
        spoken = tuple(Message(turn.role, turn.content.replace(IMAGE, "")) for turn in more)
        return cls((*sample.messages, *spoken), sample.media, opening)


class Engine(Protocol):
    """Writes answers. Equal calls in equal order give equal texts."""

    def generate(
        self, requests: Sequence[Request], *, purpose: str, max_new_tokens: int, temperature: float, num_return: int = 1,
        stop: str = "",
    ) -> list[list[Draw]]:  # fmt: skip
        """`num_return` draws for each request, in order.

        Args:
            purpose: names the stream of random draws; streams do not disturb each other.
            temperature: 0 is greedy.
            stop: a mark after which a draw may end early; it may also be written over.
        """


@dataclass(frozen=True)
class Deliberated:
    """The answer that a deliberator settled on, and what it took."""

    text: str
    """What verifiers judge."""
    tokens: int
    """Tokens that models generated for it, kept or not; inserted text is free."""
    finished: bool
    votes: Mapping[str, int] = field(default_factory=dict)
    """Answer -> votes (`majority`)."""
    scores: tuple[float | None, ...] = ()
    """The judge's score of each draw (`best_of`); None where it failed."""
    trace: tuple[str, ...] = ()
    """Everything written on the way, in order, inserted text included."""


class Deliberator(Protocol):
    """One way to answer with more effort."""

    def answer(self, engine: Engine, samples: Sequence[Sample]) -> list[Deliberated]:
        """One answer per sample, in order."""
