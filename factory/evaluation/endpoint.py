"""A model behind an OpenAI-compatible address: text and images in, text out; retries, no redirects, and no key in any message.

Only the standard library. A loopback address needs no permission; any other needs `online`.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from factory.contracts import IMAGE, Media, Message
from factory.data.images import data_address
from factory.errors import ConfigError, ModelError

log = logging.getLogger(__name__)
TRIES = 6
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request is sent again."""
MAX_ANSWER_BYTES = 32 << 20


@dataclass(frozen=True)
class Answer:
    """One completion."""

    text: str
    tokens: int
    """As the server counted them; 0 when it does not say."""
    finished: bool
    """False: cut off by the token limit."""


@dataclass(frozen=True)
class Asking:
    """How answers are sampled."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0


def is_address(name: str) -> bool:
    """True for what `factory eval` takes for an endpoint."""
    return name.startswith(("http://", "https://"))


@dataclass(frozen=True)
class Endpoint:
    """`base` ends in /v1 as the servers print it."""

    base: str
    model: str
    api_key: str = field(default="", repr=False)
    timeout_s: float = 300.0
    wait: Callable[[float], None] = field(default=time.sleep, repr=False)

    def ask(self, messages: Sequence[Message], media: Sequence[Media], asking: Asking, seed: int) -> Answer:
        """One completion of a conversation.

        Raises:
            ModelError: the server refuses the request, or fails TRIES times.
        """
        body = {
            "model": self.model, "messages": as_parts(messages, media), "max_tokens": asking.max_new_tokens,
            "temperature": asking.temperature, "top_p": asking.top_p, "seed": seed,
        }  # fmt: skip
        said = self._post("/chat/completions", body)
        try:
            choice = said["choices"][0]
            text = choice["message"]["content"] or ""
            return Answer(
                text, int((said.get("usage") or {}).get("completion_tokens") or 0), choice.get("finish_reason") != "length"
            )
        except (KeyError, IndexError, TypeError, AttributeError) as err:
            raise ModelError(f"{self.base}: its answer is not in OpenAI's form ({err!r}): {json.dumps(said)[:300]}") from err

    def models(self) -> list[str]:
        """Names that the server lists. Raises ModelError."""
        return [str(row.get("id")) for row in self._post("/models", None).get("data", [])]

    def _post(self, path: str, body: Any) -> Any:
        last = ""
        for attempt in range(TRIES):
            status, told, after = self._once(path, body)
            if status == 200:
                return told
            last = f"{status or 'no connection'}: {told}"
            if status and status not in AGAIN:
                raise ModelError(
                    f"{self.base}{path} refused the request ({last}). Mend it (name of the model, key, length) and run again."
                )
            if attempt + 1 < TRIES:
                pause = after if after is not None else min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**attempt) * random.uniform(0.5, 1.0)
                log.info("%s%s: %s; again in %.1f s", self.base, path, last[:200], pause)
                self.wait(pause)
        raise ModelError(
            f"{self.base}{path} failed {TRIES} times (last: {last}). What was answered is kept: the same command goes on."
        )

    def _once(self, path: str, body: Any) -> tuple[int, Any, float | None]:
        """(status, JSON or what went wrong, seconds the server asks to wait). Status 0: no connection."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.api_key}"} if self.api_key else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base.rstrip('/')}{path}", data, headers)
        try:
            with _OPENER.open(request, timeout=self.timeout_s) as answer:
                return answer.status, json.loads(answer.read(MAX_ANSWER_BYTES)), None
        except urllib.error.HTTPError as err:
            after = err.headers.get("Retry-After", "")
            told = err.read(2000).decode("utf-8", "replace")
            return err.code, self._redacted(told), min(LONGEST_WAIT_S, float(after)) if after.isdecimal() else None
        except (urllib.error.URLError, OSError, ValueError) as err:
            return 0, self._redacted(str(getattr(err, "reason", err))), None

    def _redacted(self, text: str) -> str:
        return text.replace(self.api_key, "***") if self.api_key else text


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could carry key and questions to someone else."""

    def redirect_request(self, *args: Any, **options: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect())


def open_endpoint(
    base: str, model: str | None, *, key_env: str | None, online: bool, env: Mapping[str, str] | None = None
) -> Endpoint:
    """An endpoint that may be asked.

    Args:
        model: name to ask for; without one the server must list exactly one.
        key_env: environment variable that holds the key.

    Raises:
        ConfigError: a far address without `online`, an unset variable, a key over plain http, several models and no name.
        ModelError: the server does not answer.
    """
    parts, key = urlsplit(base), ""
    is_near = is_loopback(parts.hostname or "")
    if parts.username or parts.password or parts.query:
        raise ConfigError("the address holds a name, password or query. Give the bare address, and the key by --api-key-env.")
    if not is_near and not online:
        raise ConfigError(f"{base} is another machine and the network is off. Add --online to send the questions there.")
    if key_env is not None:
        key = (os.environ if env is None else env).get(key_env, "")
        if not key:
            raise ConfigError(f"--api-key-env {key_env}: the variable is not set or empty.")
        if parts.scheme == "http" and not is_near:
            raise ConfigError(f"{base}: the key would travel unencrypted. Use https://.")
    found = Endpoint(base.rstrip("/"), model or "", key)
    if model:
        return found
    names = found.models()
    if len(names) != 1:
        raise ConfigError(f"{base} has the models {', '.join(names) or 'none'}. Say which with --name.")
    return Endpoint(found.base, names[0], key)


def is_loopback(host: str) -> bool:
    """True for this machine's own addresses."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def as_parts(messages: Sequence[Message], media: Sequence[Media]) -> list[dict[str, Any]]:
    """Messages in OpenAI's form; images as data: addresses where their placeholders stand."""
    images, found = iter(media), []
    for message in messages:
        texts = message.content.split(IMAGE)
        if len(texts) == 1:
            found.append({"role": message.role, "content": message.content})
            continue
        parts: list[dict[str, Any]] = []
        for number, text in enumerate(texts):
            if number:
                parts.append({"type": "image_url", "image_url": {"url": data_address(next(images).read())}})
            if text:
                parts.append({"type": "text", "text": text})
        found.append({"role": message.role, "content": parts})
    return found
