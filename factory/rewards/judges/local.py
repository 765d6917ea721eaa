"""A local model as a judge's backend, in a process of its own: it can be killed, and the trainer never loads a second model.

The process is reached by name, so that rewards need not import stages:
`factory.stages.models.judging:Generative` answers messages, `:Scalar` scores (sample, completion).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from factory.contracts import Message, Sample
from factory.rewards.judges.judge import JudgeFailed, JudgeTimeout
from factory.rewards.judges.settings import JudgeSettings

TARGETS = {"local": "factory.stages.models.judging:Generative", "scalar": "factory.stages.models.judging:Scalar"}
START_S = 900.0
"""Wall seconds for the process to load its model."""


class _Child:
    """One process: JSON lines over a socket, one request at a time."""

    def __init__(self, target: str, settings: JudgeSettings) -> None:
        ours, theirs = socket.socketpair()
        self._socket, self._rest = ours, b""
        command = [
            sys.executable,
            "-m",
            "factory.rewards.judges.child",
            str(theirs.fileno()),
            target,
            json.dumps(asdict(settings)),
        ]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        with theirs:
            self._process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, env=environment)
        ready = self.read(time.monotonic() + START_S)
        if "ready" not in ready:
            self.kill()
            raise JudgeFailed(f"the model cannot be loaded: {ready.get('failed')}")

    def ask(self, request: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        """One answer. Raises TimeoutError, or OSError when the process has ended."""
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        self._socket.sendall(json.dumps(request).encode("ascii") + b"\n")
        return self.read(deadline)

    def read(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._rest:
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                raise TimeoutError
            self._socket.settimeout(seconds)
            chunk = self._socket.recv(1 << 16)
            if not chunk:
                raise ConnectionError(f"the judge's process ended with code {self._process.wait(timeout=10)}")
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._socket.close()


class LocalModel:
    """A generative (`complete`) or scalar (`score`) model in its own process, started at the first call, again after a kill."""

    def __init__(self, settings: JudgeSettings, target: str = "") -> None:
        self._settings = settings
        self._target = target or TARGETS[settings.kind]
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._is_closed = False
        self._refusal = ""

    def close(self) -> None:
        """Kill the process. Idempotent; a call that runs in another thread fails."""
        self._is_closed = True
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def _ask(self, request: Mapping[str, Any]) -> Any:
        """The time limit starts when the model is free: waiting for other calls does not count."""
        with self._lock:
            if self._is_closed:
                raise JudgeFailed("the judge is closed")
            if self._refusal:
                # A model that cannot be loaded is tried once, not for every rollout.
                raise JudgeFailed(self._refusal)
            try:
                if self._child is None:
                    self._child = _Child(self._target, self._settings)
                reply = self._child.ask(request, time.monotonic() + self._settings.timeout_s)
            except TimeoutError as err:
                self._drop()
                raise JudgeTimeout(f"no answer within {self._settings.timeout_s:g} s; its process was killed") from err
            except JudgeFailed as err:
                self._refusal = str(err)
                raise
            except (OSError, ValueError) as err:
                self._drop()
                raise JudgeFailed(f"{type(err).__name__}: {err}") from err
        if "failed" in reply:
            raise JudgeFailed(str(reply["failed"]))
        return reply["answer"]

    def _drop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()


class LocalText(LocalModel):
    """A generative model."""

    def complete(self, messages: Sequence[Message]) -> str:
        """See `TextBackend`."""
        return str(self._ask({"messages": [{"role": m.role, "content": m.content} for m in messages]}))


class LocalScorer(LocalModel):
    """A scalar model."""

    def score(self, completion: str, sample: Sample) -> float:
        """See `ScoreBackend`."""
        return float(self._ask({"sample": sample.to_json(), "completion": completion}))
