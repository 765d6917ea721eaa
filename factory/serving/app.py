"""The HTTP server: /v1/chat/completions, /v1/completions, /v1/models and /health, with streaming."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

from factory.errors import ConfigError, FactoryError
from factory.serving.answerer import Answerer, Piece, as_json_error, collected
from factory.serving.wire import (
    MAX_BODY_BYTES,
    Asked,
    BadRequest,
    chat_request,
    chunk,
    completion_request,
    new_id,
    usage,
    whole_response,
)

log = logging.getLogger(__name__)

INSTALL = "pip install 'domain-factory[serve]'"


def make_app(answerer: Answerer, model: str, *, api_key: str = "") -> Any:
    """A Starlette application.

    Args:
        model: the name that clients ask for.
        api_key: needed in `Authorization: Bearer ...` when not empty; /health is open.

    Raises:
        ConfigError: starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.responses import JSONResponse
        from starlette.routing import Route
    except ImportError as err:
        raise ConfigError(f"serving needs starlette and uvicorn. Install them: {INSTALL}") from err

    def refused(status: int, message: str, param: str | None = None) -> Any:
        kind = "invalid_request_error" if status < 500 else "server_error"
        return JSONResponse(as_json_error(message, kind, param), status_code=status)

    async def body_of(request: Any) -> Any:
        received = bytearray()
        async for part in request.stream():
            received += part
            if len(received) > MAX_BODY_BYTES:
                raise BadRequest(f"the body is larger than {MAX_BODY_BYTES >> 20} MiB.")
        try:
            return json.loads(bytes(received))
        except (ValueError, RecursionError) as err:
            raise BadRequest(f"the body is not JSON: {err}") from err

    def endpoint(read: Callable[..., Asked], *, is_chat: bool) -> Any:
        async def answer(request: Any) -> Any:
            if not _is_allowed(request, api_key):
                return refused(401, "a valid key is needed: Authorization: Bearer KEY.")
            try:
                # Reading decodes images, which would hold up everyone else.
                asked = await asyncio.to_thread(read, await body_of(request), model=model)
            except BadRequest as err:
                return refused(400, str(err), err.param)
            try:
                if asked.is_streamed:
                    return await _streamed(answerer, asked, model, is_chat=is_chat)
                gone = threading.Event()
                work = asyncio.to_thread(_answers, answerer, asked, gone)
                return JSONResponse(whole_response(model, await _unless_gone(request, work, gone), is_chat=is_chat))
            except FactoryError as err:
                return refused(400, str(err))

        return answer

    async def models(request: Any) -> Any:
        if not _is_allowed(request, api_key):
            return refused(401, "a valid key is needed: Authorization: Bearer KEY.")
        row = {"id": model, "object": "model", "created": started, "owned_by": "factory"}
        return JSONResponse({"object": "list", "data": [row]})

    async def health(request: Any) -> Any:
        return JSONResponse({"status": "ok"})

    started = int(time.time())
    return Starlette(
        routes=[
            Route("/v1/chat/completions", endpoint(chat_request, is_chat=True), methods=["POST"]),
            Route("/v1/completions", endpoint(completion_request, is_chat=False), methods=["POST"]),
            Route("/v1/models", models), Route("/health", health),
        ]
    )  # fmt: skip


def _is_allowed(request: Any, api_key: str) -> bool:
    said = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    return not api_key or hmac.compare_digest(said.encode(), api_key.encode())


def _answers(answerer: Answerer, asked: Asked, gone: threading.Event) -> list[tuple[str, Piece]]:
    """`num` whole answers, each with draws of its own."""
    found = []
    for number in range(asked.num):
        seed = None if asked.wish.seed is None else asked.wish.seed + number
        found.append(collected(answerer.answer(replace(asked.wish, seed=seed), lambda: not gone.is_set())))
    return found


async def _unless_gone(request: Any, work: Any, gone: threading.Event) -> Any:
    """The result of `work`; tells it to stop when the client hangs up."""
    task = asyncio.ensure_future(work)
    while not task.done():
        if await request.is_disconnected():
            gone.set()
        await asyncio.wait({task}, timeout=0.2)
    return task.result()


async def _streamed(answerer: Answerer, asked: Asked, model: str, *, is_chat: bool) -> Any:
    """Server-sent events. The first piece is waited for, so that an unanswerable request is an error and not a stream."""
    from starlette.responses import StreamingResponse

    gone = threading.Event()
    pieces = answerer.answer(asked.wish, lambda: not gone.is_set())
    first = await asyncio.to_thread(next, pieces, None)
    events = _events(pieces, first, asked, model, gone, is_chat=is_chat)
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _events(
    pieces: Iterator[Piece], first: Piece | None, asked: Asked, model: str, gone: threading.Event, *, is_chat: bool
) -> AsyncIterator[str]:
    name, piece, is_first = new_id("chatcmpl" if is_chat else "cmpl"), first, True
    try:
        while piece is not None:
            row = chunk(model, name, piece, is_first=is_first, is_chat=is_chat)
            if asked.wants_usage:
                row["usage"] = None
            yield _event(row)
            if piece.finish and asked.wants_usage:
                yield _event({**row, "choices": [], "usage": usage(piece.prompt_tokens, piece.completion_tokens)})
            is_first, piece = False, await asyncio.to_thread(next, pieces, None)
    except FactoryError as err:
        # The stream has begun with status 200; the error can only be an event.
        yield _event(as_json_error(str(err)))
    finally:
        gone.set()
        await asyncio.shield(asyncio.to_thread(_finish, pieces))
    yield "data: [DONE]\n\n"


def _finish(pieces: Iterator[Piece]) -> None:
    """Run a told-to-stop generation to its end, so that the model is free for the next."""
    for _ in pieces:
        pass


def _event(row: dict[str, Any]) -> str:
    return f"data: {json.dumps(row, ensure_ascii=False)}\n\n"
