"""An OpenAI-compatible server (`vllm serve`, llama.cpp, ...) as a judge's model. Standard library only.

A call ends by its deadline whatever the server does: the socket's time-out covers a silent server, and a timer closes the
socket of one that drips. Redirects are not followed and proxies are not used: data goes to the named address or nowhere.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from factory.contracts import Message
from factory.errors import ConfigError
from factory.rewards.judges.judge import JudgeFailed, JudgeTimeout
from factory.rewards.judges.settings import JudgeSettings

MAX_REPLY = 4 << 20
"""Bytes of a reply that are read."""
_BUSY = (408, 425, 429, 500, 502, 503, 504)


class Endpoint:
    """`POST <url>/chat/completions` at temperature 0.

    Raises:
        ConfigError: `api_key_env` names a variable that is not set.
    """

    def __init__(self, name: str, settings: JudgeSettings) -> None:
        self._settings = settings
        self._parts = urlsplit(settings.url)
        self._live: set[socket.socket] = set()
        self._is_closed = False
        self._headers = {"Content-Type": "application/json"}
        if settings.api_key_env:
            if settings.api_key_env not in os.environ:
                raise ConfigError(f"judges.{name}.api_key_env: the variable {settings.api_key_env} is not set. Export it.")
            self._headers["Authorization"] = f"Bearer {os.environ[settings.api_key_env]}"

    def complete(self, messages: Sequence[Message]) -> str:
        """The reply's text. Tries again while the server is busy and there is time. Raises JudgeFailed, JudgeTimeout."""
        deadline = time.monotonic() + self._settings.timeout_s
        body = json.dumps({
            "model": self._settings.model, "temperature": 0, "max_tokens": self._settings.max_new_tokens, "seed": 0,
            "messages": [{"role": m.role, "content": m.content} for m in messages],
        }).encode()  # fmt: skip
        for left in range(self._settings.retries, -1, -1):
            try:
                status, reply = self._post(body, deadline)
            except TimeoutError as err:
                raise JudgeTimeout(f"no answer from {self._settings.url} within {self._settings.timeout_s:g} s") from err
            except (OSError, http.client.HTTPException) as err:
                if not left:
                    raise JudgeFailed(f"{self._settings.url}: {type(err).__name__}: {err}") from err
            else:
                if status == 200:
                    return _text_of(reply)
                if not left or status not in _BUSY:
                    raise JudgeFailed(f"{self._settings.url} answered {status}: {reply[:200]!r}")
            time.sleep(max(0.0, min(0.5, deadline - time.monotonic())))
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        """Break off the calls that run; later ones fail."""
        self._is_closed = True
        for sock in tuple(self._live):
            _hang_up(sock)

    def _post(self, body: bytes, deadline: float) -> tuple[int, bytes]:
        """(status, body). Raises TimeoutError at the deadline, OSError or HTTPException otherwise."""
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        if self._is_closed:
            raise ConnectionError("the judge is closed")
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=seconds)
        connection.connect()
        # Kept here: the connection lets go of it while a reply without keep-alive is still being read.
        sock = connection.sock
        is_late = threading.Event()

        def hang_up() -> None:
            is_late.set()
            _hang_up(sock)

        timer = threading.Timer(deadline - time.monotonic(), hang_up)
        timer.daemon = True
        timer.start()
        self._live.add(sock)
        try:
            connection.request("POST", f"{self._parts.path.rstrip('/')}/chat/completions", body, self._headers)
            response = connection.getresponse()
            reply = response.read(MAX_REPLY + 1)
        except (OSError, http.client.HTTPException):
            if is_late.is_set():
                raise TimeoutError from None
            raise
        finally:
            timer.cancel()
            self._live.discard(sock)
            connection.close()
        if is_late.is_set():
            raise TimeoutError
        if len(reply) > MAX_REPLY:
            raise http.client.HTTPException(f"a reply of more than {MAX_REPLY} bytes")
        return response.status, reply


def _hang_up(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # closed already: the reply came in this very moment


def _text_of(reply: bytes) -> str:
    try:
        row: Any = json.loads(reply)
        choice = row["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as err:
        raise JudgeFailed(f"the reply is no chat completion ({type(err).__name__}): {reply[:120]!r}") from err
    if not isinstance(text, str):
        raise JudgeFailed(f"the reply holds no text (finish_reason {choice.get('finish_reason')!r})")
    return text
