"""Requests and responses of OpenAI's chat and completion endpoints, in and out of our own types. No network address is followed."""

from __future__ import annotations

import base64
import binascii
import math
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from factory.contracts import IMAGE, Media, Message
from factory.data.images import check_image
from factory.data.rows import RowFault
from factory.serving.answerer import Piece, Wish

MAX_BODY_BYTES = 32 << 20
MAX_CHOICES = 16
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
UNSUPPORTED = ("tools", "tool_choice", "functions", "function_call", "response_format", "logit_bias", "logprobs", "top_logprobs",
               "audio", "modalities", "best_of", "suffix", "echo", "web_search_options")  # fmt: skip
"""Fields that would change the answer and that this server cannot honour: refused unless empty, never passed over."""


class BadRequest(ValueError):
    """What is wrong with a request: the message, and the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True)
class Asked:
    """A request that can be answered."""

    wish: Wish
    num: int = 1
    is_streamed: bool = False
    wants_usage: bool = False
    """Of a stream: a last chunk with the token counts."""


def chat_request(body: Any, *, model: str) -> Asked:
    """A body of /v1/chat/completions. Raises BadRequest."""
    _check_top(body, model)
    turns = body.get("messages")
    if not isinstance(turns, list) or not turns:
        raise BadRequest("messages must be a list with at least one turn.", "messages")
    messages: list[Message] = []
    media: list[Media] = []
    for number, turn in enumerate(turns):
        message, images = _turn(turn, f"messages[{number}]")
        messages.append(message)
        media += images
    if messages[-1].role != "user":
        raise BadRequest(f"the last turn is from the {messages[-1].role}; it must be the user's.", "messages")
    return _asked(body, tuple(messages), tuple(media))


def completion_request(body: Any, *, model: str) -> Asked:
    """A body of /v1/completions: the prompt becomes the one user turn of a chat, because the model knows no other form. Raises BadRequest."""
    _check_top(body, model)
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str) or not prompt.strip():
        raise BadRequest("prompt must be one text.", "prompt")
    return _asked(body, (Message("user", prompt.replace(IMAGE, "<image >")),), ())


def _check_top(body: Any, model: str) -> None:
    if not isinstance(body, Mapping):
        raise BadRequest("the body must be a JSON object.")
    asked = body.get("model")
    if asked not in (None, "", model):
        raise BadRequest(f"this server has the model {model!r}, not {asked!r}.", "model")
    for name in UNSUPPORTED:
        if body.get(name) not in (None, [], {}, False, "", 0):
            raise BadRequest(f"{name} is not supported by this server; leave it out.", name)


def _asked(body: Mapping[str, Any], messages: tuple[Message, ...], media: tuple[Media, ...]) -> Asked:
    stop = body.get("stop") or []
    stop = [stop] if isinstance(stop, str) else stop
    if not isinstance(stop, list) or not all(isinstance(one, str) and one for one in stop) or len(stop) > 16:
        raise BadRequest("stop must be a text or a list of at most 16 texts.", "stop")
    limit = body.get("max_completion_tokens") if body.get("max_completion_tokens") is not None else body.get("max_tokens")
    options = body.get("stream_options") or {}
    wish = Wish(
        messages, media, max_new_tokens=_number(limit, 0, "max_tokens", low=1, whole=True),
        temperature=_number(body.get("temperature"), 1.0, "temperature", low=0.0, high=2.0),
        top_p=_number(body.get("top_p"), 1.0, "top_p", low=1e-6, high=1.0),
        top_k=max(0, _number(body.get("top_k"), 0, "top_k", low=-1, whole=True)),
        seed=None if body.get("seed") is None else _number(body["seed"], 0, "seed", low=0, whole=True), stop=tuple(stop),
    )  # fmt: skip
    num = _number(body.get("n"), 1, "n", low=1, high=MAX_CHOICES, whole=True)
    is_streamed = bool(body.get("stream"))
    if is_streamed and num > 1:
        raise BadRequest("a streamed answer is one answer; ask with n=1, or without stream.", "n")
    return Asked(wish, num, is_streamed, isinstance(options, Mapping) and bool(options.get("include_usage")))


def _number(value: Any, default: Any, name: str, *, low: float, high: float = math.inf, whole: bool = False) -> Any:
    if value is None:
        return default
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not low <= value <= high or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise BadRequest(f"{name} is {value!r}; want {kind} from {low:g}{'' if math.isinf(high) else f' to {high:g}'}.", name)
    return int(value) if whole else float(value)


def _turn(turn: Any, where: str) -> tuple[Message, list[Media]]:
    if not isinstance(turn, Mapping) or turn.get("role") not in ROLES:
        raise BadRequest(f"{where} needs a role, one of {', '.join(ROLES)}.", where)
    content = turn.get("content")
    if isinstance(content, str):
        # A placeholder in someone's text is text: images come as parts of their own.
        return Message(ROLES[turn["role"]], content.replace(IMAGE, "<image >")), []
    if not isinstance(content, list):
        raise BadRequest(f"{where}.content must be a text or a list of parts.", where)
    texts, images = [], []
    for number, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"].replace(IMAGE, "<image >"))
        elif kind == "image_url":
            images.append(_image(part.get("image_url"), f"{where}.content[{number}]"))
            texts.append(IMAGE)
        else:
            raise BadRequest(f"{where}.content[{number}] is of type {kind!r}; known are text and image_url.", where)
    return Message(ROLES[turn["role"]], "".join(texts)), images


def _image(value: Any, where: str) -> Media:
    """An image in a data: address. Others are refused: this server opens no address and no file that a client names."""
    url = value.get("url") if isinstance(value, Mapping) else value
    head, comma, data = str(url or "").partition(",")
    if not head.startswith("data:image/") or not head.endswith(";base64") or not comma:
        raise BadRequest(f"{where}: send the image itself as data:image/png;base64,...; addresses are not opened.", where)
    try:
        encoded = base64.b64decode(data, validate=True)
        check_image(encoded)
    except (binascii.Error, RowFault) as err:
        raise BadRequest(f"{where}: {err}", where) from err
    return Media(data=encoded)


def new_id(kind: str) -> str:
    """`chatcmpl-...` or `cmpl-...`."""
    return f"{kind}-{uuid.uuid4().hex[:24]}"


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Token counts in OpenAI's form."""
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}


def whole_response(model: str, answers: list[tuple[str, Piece]], *, is_chat: bool) -> dict[str, Any]:
    """The response to a request without `stream`; `answers` holds (text, last piece)."""
    choices = []
    for index, (text, last) in enumerate(answers):
        said = {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
        choices.append({"index": index, **said, "logprobs": None, "finish_reason": last.finish})
    counts = usage(answers[0][1].prompt_tokens, sum(last.completion_tokens for _, last in answers))
    kind = ("chatcmpl", "chat.completion") if is_chat else ("cmpl", "text_completion")
    return {
        "id": new_id(kind[0]),
        "object": kind[1],
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": counts,
    }


def chunk(model: str, name: str, piece: Piece, *, is_first: bool, is_chat: bool) -> dict[str, Any]:
    """One event of a stream."""
    if is_chat:
        said: dict[str, Any] = {
            "delta": ({"role": "assistant"} if is_first else {}) | ({"content": piece.text} if piece.text else {})
        }
    else:
        said = {"text": piece.text}
    choice = {"index": 0, **said, "logprobs": None, "finish_reason": piece.finish or None}
    kind = "chat.completion.chunk" if is_chat else "text_completion"
    return {"id": name, "object": kind, "created": int(time.time()), "model": model, "choices": [choice]}
