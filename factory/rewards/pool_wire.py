"""What goes over the socket between the pool and its workers: length-prefixed JSON frames. No pickle.

Frames (parent -> worker)
    {"samples": [sample JSON, ...], "calls": [[number, verifier, completion, sample index], ...]}
Frames (worker -> parent)
    {"ready": {verifier: version}, "code": str, "network": str, "processes": str, "files": str, "pid": int}   once, after the pack is loaded
    {"fatal": text}                                                             the pack could not be loaded
    {"replies": [[number, verdict, seconds, has_leftovers, retire], ...]}       one reply per call, in order

A verifier shares its worker's socket and may write anything to it, so the parent believes nothing that it reads: every field
is checked, a reply must carry the number of the call that is running, and whatever else comes makes that call an `error`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from factory.contracts import Status, Verdict

_PREFIX = 4
MAX_FRAME = 1 << 30
"""Bytes of one message to a worker."""
MAX_REPLY = 8 << 20
"""Bytes of one message from a worker; a longer one means that something else wrote to its socket."""
MAX_REASON = 1000
"""Characters of a reason that are kept."""
MAX_PARTS = 256
"""Parts of one verdict."""


def pack_frame(message: Mapping[str, Any]) -> bytes:
    """One message as bytes. ASCII JSON, so that lone surrogates and NUL in completions survive."""
    body = json.dumps(message, ensure_ascii=True).encode("ascii")
    return len(body).to_bytes(_PREFIX, "big") + body


class FrameReader:
    """Cuts a byte stream into messages of at most `max_frame` bytes."""

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._buffer = bytearray()
        self._max_frame = max_frame

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Yield each message that `data` completes. Raises ValueError when the stream is not ours."""
        self._buffer += data
        cursor = 0
        try:
            while len(self._buffer) - cursor >= _PREFIX:
                size = int.from_bytes(self._buffer[cursor : cursor + _PREFIX], "big")
                if size > self._max_frame:
                    raise ValueError(f"a frame of {size} bytes")
                if len(self._buffer) - cursor - _PREFIX < size:
                    break
                start, cursor = cursor + _PREFIX, cursor + _PREFIX + size
                message = _parse(self._buffer[start:cursor])
                if not isinstance(message, dict):
                    raise ValueError(f"a frame that holds a {type(message).__name__}")
                yield message
        finally:
            del self._buffer[:cursor]


def _parse(body: bytearray) -> Any:
    try:
        return json.loads(body)
    except RecursionError as err:
        raise ValueError("a frame nested too deep") from err


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """A plain mapping; inverse of `verdict_from_json`."""
    return {
        "score": float(verdict.score), "status": Status(verdict.status).value, "reason": clean_text(verdict.reason),
        "parts": {clean_text(name): float(score) for name, score in verdict.parts.items()},
    }  # fmt: skip


def verdict_from_json(row: Any) -> Verdict:
    """The verdict of a row. Raises ValueError when it is none, whatever it is."""
    if not isinstance(row, dict) or set(row) != {"score", "status", "reason", "parts"}:
        raise ValueError("a row that is no verdict")
    status = row["status"]
    if not isinstance(status, str) or status not in Status.__members__:
        raise ValueError(f"the status {clean_text(repr(status), 80)}")
    if not isinstance(row["parts"], dict) or not is_score(row["score"]):
        raise ValueError(f"the score {clean_text(repr(row['score']), 80)}")
    verdict = Verdict.__new__(Verdict)
    for name, value in (("score", row["score"]), ("status", Status(status)), ("reason", row["reason"]), ("parts", row["parts"])):
        object.__setattr__(verdict, name, value)
    return checked_verdict(verdict)


def is_score(value: Any) -> bool:
    """Whether a value is a number in [0, 1]. Integers too large for a float are not."""
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value <= 1


def is_finite(value: Any) -> bool:
    """Whether a value is a finite number. Never raises for a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def clean_text(text: str, limit: int = MAX_REASON) -> str:
    """At most `limit` characters, in which a lone surrogate (which no file takes) is replaced by a question mark."""
    return str.encode(str.__getitem__(text, slice(limit)), "utf-8", "replace").decode("utf-8")


def checked_verdict(returned: Any) -> Verdict:
    """A verifier's answer as a plain Verdict. Raises ValueError saying what is wrong with it: it then counts as `error`."""
    if not isinstance(returned, Verdict):
        raise ValueError(f"returned a {type(returned).__name__}, not a Verdict")
    score, parts = returned.score, returned.parts
    if not is_score(score):
        raise ValueError(f"returned the score {_shown(score)}, which is not a number in [0, 1]")
    if not isinstance(returned.status, Status):
        raise ValueError(f"returned the status {_shown(returned.status)}, which is not a Status")
    if not isinstance(returned.reason, str):
        raise ValueError(f"returned the reason {_shown(returned.reason)}, which is not a text")
    if not isinstance(parts, Mapping):
        raise ValueError(f"returned parts of type {type(parts).__name__}, not a mapping")
    plain: dict[str, float] = {}
    for name, value in parts.items():
        if len(plain) >= MAX_PARTS:
            raise ValueError(f"returned more than {MAX_PARTS} parts")
        if not isinstance(name, str) or not is_finite(value):
            raise ValueError(f"returned the part {_shown(name)} = {_shown(value)}, which is not a finite number under a text")
        plain[clean_text(name)] = float(value)
    reason = clean_text(returned.reason)
    if returned.status.is_masked:
        return Verdict(0.0, returned.status, reason, {})
    return Verdict(float(score), returned.status, reason, plain)


def _shown(value: Any) -> str:
    try:
        return repr(value)[:200]
    except Exception as err:  # a value of the verifier's own making
        return f"(a {type(value).__name__} whose repr raises {type(err).__name__})"


@dataclass(frozen=True, slots=True)
class Reply:
    """A worker's answer to one call."""

    verdict: Verdict
    seconds: float
    has_leftovers: bool
    """Threads or children of earlier calls are still about."""
    retire: str
    """Why the worker wants to be replaced; `memory` when the verdict itself may be its fault; empty to go on."""


def reply_from_json(row: Any, wanted: int) -> Reply:
    """The reply to call number `wanted`. Raises ValueError when it is none, or that of another call."""
    if not isinstance(row, list) or len(row) != 5:
        raise ValueError("a reply that is none")
    number, verdict, seconds, has_leftovers, retire = row
    if type(number) is not int or number != wanted:
        raise ValueError("a reply to another call")
    if not is_finite(seconds) or not isinstance(has_leftovers, bool) or not isinstance(retire, str):
        raise ValueError("a reply with wrong fields")
    return Reply(verdict_from_json(verdict), float(seconds), has_leftovers, clean_text(retire, 200))


@dataclass(frozen=True, slots=True)
class Ready:
    """What a worker says of itself when it has loaded the pack."""

    versions: dict[str, str]
    code: str
    """Hash of the code that its verifiers are made of."""
    network: str
    processes: str
    files: str
    pid: int


def ready_from_json(message: Mapping[str, Any]) -> Ready:
    """Raises ValueError when the message does not say that."""
    versions, pid = message.get("ready"), message.get("pid")
    if not isinstance(versions, dict) or not versions or type(pid) is not int or pid <= 1:
        raise ValueError("no list of verifiers")
    texts = [str(message.get(name, "")) for name in ("code", "network", "processes", "files")]
    return Ready({str(name): str(version) for name, version in versions.items()}, *texts, pid)
