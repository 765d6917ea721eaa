"""The calls that the engine makes of a vLLM server, over HTTP with the standard library. No torch, no vllm package.

Tried with vLLM 0.32.0. Paths under `/v1` are the OpenAI API with vLLM's additions (token ids in and out); the others need
VLLM_SERVER_DEV_MODE=1: `collective_rpc` (reload of weights), `reset_prefix_cache`, `update_weight_version`, `weight_info`, `sleep`.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from factory.errors import ConfigError, TrainingError

BASE_NAME = "policy"
"""Name under which the server offers the base weights."""
TRIED = ("0.32.0",)
"""Versions of vLLM that the engine was run with."""
QUICK_S = 20.0
"""Seconds for calls that compute nothing."""


class ServerGone(Exception):
    """The server is dead, hangs or broke off: the same call may succeed once it is back."""


class ServerSilent(ServerGone):
    """No answer within the time given."""


@dataclass(frozen=True)
class Choice:
    """One sampled completion."""

    index: int
    ids: list[int]
    logprobs: list[float]
    finished: bool


class VllmApi:
    """A client of one server; safe to use from several threads (each call has its own connection).

    Args:
        url: `http://host:port`. timeout_s: seconds for one call that generates or loads.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or not parts.port:
            raise ConfigError(f"launch.vllm.url={url!r} must look like http://HOST:PORT.")
        self.url, self._host, self._port, self._timeout_s = url.rstrip("/"), parts.hostname, parts.port, timeout_s

    def is_up(self) -> bool:
        """True when the server answers."""
        try:
            self._call("GET", "/health", timeout_s=QUICK_S)
        except (ServerGone, TrainingError):
            return False
        return True

    def version(self) -> str:
        """Version of vLLM."""
        return str(self._call("GET", "/version", timeout_s=QUICK_S)["version"])

    def weight_version(self) -> int | None:
        """The number last given to `set_weight_version`; None when the server was given none."""
        told = str(self._call("GET", "/weight_info", timeout_s=QUICK_S)["weight_version"])
        return int(told) if told.isdecimal() else None

    def set_weight_version(self, version: int) -> None:
        """Let the server carry the number of the weights it has."""
        self._call("POST", "/update_weight_version", {"new_version": str(version)}, timeout_s=QUICK_S)

    def reload(self, folder: str) -> None:
        """Read all weights from a model folder, in place, and forget what was cached of the old ones."""
        self._call("POST", "/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": folder}})
        self._call("POST", "/reset_prefix_cache", {})

    def load_adapter(self, name: str, folder: str) -> None:
        """Serve a LoRA adapter beside the base, under a name of its own."""
        self._call("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": folder})

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter."""
        self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name})

    def sleep(self) -> None:
        """Move the weights to the CPU and give up the cache, so that the GPU is free for training."""
        self._call("POST", "/sleep?level=1", {})

    def wake(self) -> None:
        """Undo `sleep`."""
        self._call("POST", "/wake_up", {})

    def complete(self, model: str, prompt: Sequence[int], settings: Mapping[str, Any]) -> list[Choice]:
        """Sample completions of one prompt; its `n` share the prompt's cache.

        Raises:
            ServerGone: try again. TrainingError: the server refused, or its answer lacks token ids or log-probs.
        """
        body = {"model": model, "prompt": list(prompt), "logprobs": 0, "return_token_ids": True, **settings}
        reply = self._call("POST", "/v1/completions", body)
        try:
            return [
                Choice(
                    int(row["index"]), [int(i) for i in row["token_ids"]], [float(p) for p in row["logprobs"]["token_logprobs"]],
                    row["finish_reason"] == "stop",
                )
                for row in reply["choices"]
            ]  # fmt: skip
        except (KeyError, TypeError, ValueError) as err:
            raise self._strange(f"lacks {err!r}") from err

    def prompt_logprobs(self, model: str, ids: Sequence[int]) -> list[float]:
        """Log-probability of each token of `ids` but the first, at temperature 1, nats. [len(ids) - 1]"""
        body = {"model": model, "prompt": list(ids), "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        try:
            found = self._call("POST", "/v1/completions", body)["choices"][0]["prompt_logprobs"]
            return [float(row[str(token)]["logprob"]) for token, row in zip(ids[1:], found[1:], strict=True)]
        except (KeyError, TypeError, ValueError, IndexError) as err:
            raise self._strange(f"has no log-probs of the prompt: {err!r}") from err

    def _strange(self, what: str) -> TrainingError:
        return TrainingError(
            f"rl: the answer of the vLLM server at {self.url} {what}. The engine was run with vLLM {', '.join(TRIED)}: "
            "install that version (`factory doctor` prints how)."
        )

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float | None = None) -> Any:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s or self._timeout_s)
        payload = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, path, payload, {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
        except TimeoutError as err:
            raise ServerSilent(f"{path}: no answer within {timeout_s or self._timeout_s:g} s") from err
        except (OSError, http.client.HTTPException) as err:
            raise ServerGone(f"{path}: {type(err).__name__}: {err}") from err
        finally:
            connection.close()
        if response.status >= 500:
            raise ServerGone(f"{path} answered {response.status}: {text[:300]}")
        if response.status >= 400:
            raise TrainingError(f"rl: the vLLM server at {self.url} refused {path} ({response.status}): {text[:500]}")
        try:
            return json.loads(text) if text.strip().startswith(("{", "[")) else {}
        except ValueError as err:
            raise ServerGone(f"{path}: the answer is cut off ({err})") from err
