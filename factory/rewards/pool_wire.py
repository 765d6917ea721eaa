"""What goes over the socket between the pool and its workers: length-prefixed JSON frames. No pickle.

Frames (parent -> worker)
    {"samples": [sample JSON, ...], "calls": [[verifier, completion, sample index], ...]}
Frames (worker -> parent)
    {"ready": {verifier: version}, "network": str}   once, after the pack is loaded
    {"fatal": text}                                  the pack could not be loaded
    {"verdict": {...}, "seconds": float, "retire": bool}   one per call, in order, as soon as it is known
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from factory.contracts import Status, Verdict

_PREFIX = 4
MAX_FRAME = 1 << 30
"""Bytes; a longer frame from a worker means that something else wrote to its socket."""
MAX_REASON = 1000
"""Characters of a reason that are kept."""


def pack_frame(message: Mapping[str, Any]) -> bytes:
    """One message as bytes. ASCII JSON, so that lone surrogates and NUL in completions survive."""
    body = json.dumps(message, ensure_ascii=True).encode("ascii")
    return len(body).to_bytes(_PREFIX, "big") + body


class FrameReader:
    """Cuts a byte stream into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Yield each message that `data` completes. Raises ValueError when the stream is not ours."""
        self._buffer += data
        cursor = 0
        try:
            while len(self._buffer) - cursor >= _PREFIX:
                size = int.from_bytes(self._buffer[cursor : cursor + _PREFIX], "big")
                if size > MAX_FRAME:
                    raise ValueError(f"a frame of {size} bytes")
                if len(self._buffer) - cursor - _PREFIX < size:
                    break
                start, cursor = cursor + _PREFIX, cursor + _PREFIX + size
                message = json.loads(self._buffer[start:cursor])
                if not isinstance(message, dict):
                    raise ValueError(f"a frame that holds a {type(message).__name__}")
                yield message
        finally:
            del self._buffer[:cursor]


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """A plain mapping; inverse of `verdict_from_json`."""
    return {
        "score": float(verdict.score), "status": Status(verdict.status).value, "reason": verdict.reason[:MAX_REASON],
        "parts": {str(name): float(score) for name, score in verdict.parts.items()},
    }  # fmt: skip


def verdict_from_json(row: Mapping[str, Any]) -> Verdict:
    """Raises ValueError, KeyError or TypeError when the row is no verdict."""
    return Verdict(float(row["score"]), Status(row["status"]), str(row["reason"]), dict(row["parts"]))


def checked_verdict(returned: Any) -> Verdict:
    """What a verifier returned, if it is a sound Verdict. Raises ValueError saying what is wrong: it then counts as `error`."""
    if not isinstance(returned, Verdict):
        raise ValueError(f"returned a {type(returned).__name__}, not a Verdict")
    score, parts = returned.score, returned.parts
    if isinstance(score, bool) or not isinstance(score, int | float) or not (math.isfinite(score) and 0.0 <= score <= 1.0):
        raise ValueError(f"returned the score {score!r}, which is not a number in [0, 1]")
    if not isinstance(returned.status, Status):
        raise ValueError(f"returned the status {returned.status!r}, which is not a Status")
    if not isinstance(returned.reason, str):
        raise ValueError(f"returned the reason {returned.reason!r}, which is not a text")
    if not isinstance(parts, Mapping):
        raise ValueError(f"returned parts of type {type(parts).__name__}, not a mapping")
    for name, value in parts.items():
        if not isinstance(name, str) or isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"returned the part {name!r} = {value!r}, which is not a finite number under a text")
    if returned.status.is_masked:
        return Verdict(0.0, returned.status, returned.reason, {})
    return returned
