"""One conversation with what training wants of it: the common ground between the row shapes of different trainers."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from factory.contracts import IMAGE, Message
from factory.data.report import RowFault

ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "ABSENT"})()
"""There is no reference answer; None may be one."""


@dataclass(frozen=True)
class Talk:
    """A prompt, and as far as there are: the response, a rejected response, and the reference answer for a verifier."""

    messages: tuple[Message, ...]
    """The prompt; `<image>` in a content stands for the next of `images`."""
    response: str | None = None
    rejected: str | None = None
    reference: Any = ABSENT
    images: tuple[str | bytes, ...] = ()
    """Paths as they stood in the row, or encoded bytes."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Columns of which no shape knows the meaning; they travel as they are."""

    def has(self) -> set[str]:
        """Which of `response`, `rejected`, `reference`, `images` it has."""
        found = {name for name in ("response", "rejected") if getattr(self, name) is not None}
        found |= {"reference"} if self.reference is not ABSENT else set()
        return found | ({"images"} if self.images else set())

    def checked(self) -> Talk:
        """Itself. Raises RowFault when placeholders and images do not match, or there is no prompt."""
        if not self.messages:
            raise RowFault("messages", "there is no prompt.")
        wanted = "\n".join(m.content for m in self.messages).count(IMAGE)
        if wanted != len(self.images):
            raise RowFault("images", f"{len(self.images)} images for {wanted} {IMAGE} placeholders in the prompt.")
        if any(text is not None and IMAGE in text for text in (self.response, self.rejected)):
            raise RowFault("response", f"has a {IMAGE} placeholder; models here write no images.")
        return self


def turns_of(
    value: Any, column: str, roles: Mapping[str, str], keys: tuple[str, str] = ("role", "content")
) -> tuple[Message, ...]:
    """Messages from a list of turns. A content may be text or a list of text and image parts.

    Args:
        roles: name in the row -> our name (`system`, `user`, `assistant`, `tool`, `tool_call`).
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise RowFault(column, f"must be a list of turns, got {type(value).__name__}. Text without turns is not converted.")
    found = []
    for number, turn in enumerate(value):
        where = f"{column}[{number}]"
        if not isinstance(turn, Mapping) or turn.get(keys[0]) not in roles:
            said = turn.get(keys[0]) if isinstance(turn, Mapping) else turn
            raise RowFault(where, f"{keys[0]} is {said!r}; this shape knows {', '.join(roles)}.")
        spare = sorted(key for key, inside in turn.items() if key not in keys and inside is not None)
        if spare:
            raise RowFault(where, f"has {', '.join(spare)} beside {' and '.join(keys)}, which would be lost.")
        found.append(Message(roles[turn[keys[0]]], _content(turn.get(keys[1]), where)))
    return tuple(found)


def _content(value: Any, where: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, Sequence):
        raise RowFault(where, f"content must be text or parts, got {type(value).__name__}.")
    texts = []
    for part in value:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "image":
            texts.append(IMAGE)
        elif kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            raise RowFault(where, f"has a part of type {kind!r}; known are text and image.")
    return "".join(texts)


def parts_of(content: str) -> list[dict[str, str]]:
    """Text with placeholders as a list of text and image parts."""
    found: list[dict[str, str]] = []
    for number, text in enumerate(content.split(IMAGE)):
        if number:
            found.append({"type": "image"})
        if text:
            found.append({"type": "text", "text": text})
    return found or [{"type": "text", "text": ""}]


def images_of(value: Any, column: str = "images") -> tuple[str | bytes, ...]:
    """Paths or encoded bytes from a cell: a list of paths, data: addresses, bytes, or {bytes, path} as datasets writes them."""
    if value is None:
        return ()
    cells = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
    return tuple(_image(cell, f"{column}[{number}]") for number, cell in enumerate(cells))


def _image(cell: Any, where: str) -> str | bytes:
    if isinstance(cell, Mapping):
        inside = cell.get("bytes")
        cell = inside if inside is not None else cell.get("path") or cell.get("image")
    if isinstance(cell, bytes) and cell:
        return cell
    if isinstance(cell, str) and cell.startswith("data:image/"):
        try:
            return base64.b64decode(cell.partition(",")[2], validate=True)
        except binascii.Error as err:
            raise RowFault(where, f"its base64 cannot be read: {err}.") from err
    if isinstance(cell, str) and cell:
        return cell
    raise RowFault(where, f"must be a path or an encoded image, got {type(cell).__name__}.")


def content_id(talk: Talk) -> str:
    """An id for a row that has none: a hash of the prompt and its images."""
    parts = [f"{m.role}\n{m.content}".encode("utf-8", "surrogatepass") for m in talk.messages]
    parts += [one if isinstance(one, bytes) else one.encode("utf-8", "surrogatepass") for one in talk.images]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
