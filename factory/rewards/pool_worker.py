"""One worker of the pool: `python -m factory.rewards.pool_worker SOCKET_FD PARENT_PID MEMORY_MIB NETWORK SCRATCH PACK`.

It loads the pack's verifiers once, then judges call after call until its socket closes. Time is kept, and the worker killed,
by the parent; which call is running, the parent reads from memory that both share (`pool_progress`), so that replies to quick
calls may travel together.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factory.contracts import Sample, Status, Verdict
from factory.errors import FactoryError, PluginError
from factory.plugins import load_pack
from factory.rewards.pool_isolation import (
    StartCounter,
    die_with_parent,
    first_process,
    forbid_torch,
    isolate,
    limit_resources,
    outer_pid,
)
from factory.rewards.pool_progress import Progress
from factory.rewards.pool_upkeep import Upkeep
from factory.rewards.pool_wire import MAX_REASON, FrameReader, checked_verdict, pack_frame, verdict_to_json

_CHUNK = 1 << 20
FLUSH_S = 0.025
"""Wall seconds after which replies are sent at the latest, when a call ends."""
_FIXED = (str, int, float, bool, type(None))
MEMORY = "memory"
"""Reason to retire: the worker ran out of memory, which may be the doing of earlier calls."""


def load_verifiers(pack: str) -> dict[str, Any]:
    """The verifiers of a pack, or of a target `module:attribute`: a mapping, a pack, or a function that returns a mapping.

    Raises PluginError: unknown, broken, or no mapping of names to callables with a version.
    """
    if ":" not in pack:
        found: Any = load_pack(pack).verifiers()
    else:
        module, _, attribute = pack.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as err:
            raise PluginError(f"verifiers '{pack}' cannot be imported: {err}. Write MODULE:ATTRIBUTE.") from err
        found = found.verifiers() if hasattr(found, "verifiers") else found
        found = found() if callable(found) else found
    if not isinstance(found, Mapping) or not found:
        raise PluginError(f"'{pack}' supplies no verifiers: want a mapping of names to verifiers, got {type(found).__name__}.")
    for name, verifier in found.items():
        if not callable(verifier) or not isinstance(getattr(verifier, "version", None), str):
            raise PluginError(f"verifier '{name}' of '{pack}' must be callable and have a text `version`. Mend the pack.")
    return dict(found)


def code_hash(pack: str, verifiers: Mapping[str, Any]) -> str:
    """SHA-256 of the loaded source files of the factory and of the verifiers' own packages.

    It goes into the cache's key, so that an edited verifier is run again even if its author forgot to raise the version.
    """
    owners = {"factory", pack.partition(":")[0].partition(".")[0]} if ":" in pack else {"factory"}
    for verifier in verifiers.values():
        owners |= {str(getattr(part, "__module__", "")).partition(".")[0] for part in (verifier, type(verifier))}
    owners -= {"", "builtins", "functools"}
    found = hashlib.sha256()
    for name, module in sorted(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if name.partition(".")[0] in owners and path and path.endswith(".py"):
            found.update(name.encode() + b"\0" + hashlib.sha256(Path(path).read_bytes()).digest())
    return found.hexdigest()


def judge(verifier: Any, completion: str, sample: Sample, memory_mib: int) -> tuple[dict[str, Any], str]:
    """One verdict as JSON, and why the worker should retire after it. Whatever the verifier raises becomes `error`."""
    try:
        return verdict_to_json(checked_verdict(verifier(completion, _own(sample)))), ""
    except MemoryError:
        reason, retire = f"needed more memory than pool.memory_mib={memory_mib} allows", MEMORY
    except BaseException as err:  # SystemExit and the like too: nothing that a verifier raises may end the worker
        reason, retire = f"{type(err).__name__}: {_text_of(err)}", ""
    return verdict_to_json(Verdict(0.0, Status.error, reason)), retire


def _own(sample: Sample) -> Sample:
    """A copy for one call: a verifier that changes its sample must not change what the next one sees."""
    reference, meta = sample.reference, sample.meta
    is_flat = all(type(value) in _FIXED for value in meta.values())
    return Sample(
        sample.id, sample.task, sample.messages, reference if type(reference) in _FIXED else copy.deepcopy(reference),
        sample.media, dict(meta) if is_flat else copy.deepcopy(meta), sample.split, sample.source,
    )  # fmt: skip


def _text_of(err: BaseException) -> str:
    try:
        return str(err)[:MAX_REASON]
    except BaseException as second:  # a message that itself raises is the verifier's fault, and still only its own
        return f"(its message raised {type(second).__name__})"


class Server:
    """Judges batch after batch.

    Args:
        channel: the socket to the pool.
        verifiers: by name.
        memory_mib: for the reason of a verdict that ran out of it.
        progress: where the number of the running call is written.
        starts: counter of started processes, begun anew for every call.
    """

    def __init__(
        self, channel: socket.socket, verifiers: Mapping[str, Any], memory_mib: int, progress: Progress, starts: StartCounter
    ) -> None:
        self._channel, self._verifiers, self._memory_mib = channel, verifiers, memory_mib
        self._progress, self._starts = progress, starts
        self._upkeep = Upkeep(channel.fileno())
        self._replies: list[list[Any]] = []
        self._flushed = time.monotonic()

    def serve(self) -> None:
        """Judge until the socket closes, or this worker must retire."""
        reader = FrameReader()
        while chunk := self._channel.recv(_CHUNK):
            for batch in reader.feed(chunk):
                self._flushed = time.monotonic()
                samples = [Sample.from_json(row) for row in batch["samples"]]
                for number, name, completion, index in batch["calls"]:
                    if self._answer(number, self._verifiers[name], completion, samples[index]):
                        return
                self._flush()

    def _answer(self, number: int, verifier: Any, completion: str, sample: Sample) -> bool:
        """Judge one call. True when the worker must retire; its replies are sent then."""
        self._starts.reset()
        started = self._progress.begin(number)
        verdict, retire = judge(verifier, completion, sample, self._memory_mib)
        seconds = time.monotonic() - started
        retire = retire or self._upkeep.restore()
        self._replies.append([number, verdict, seconds, self._upkeep.has_leftovers, retire])
        if retire or time.monotonic() - self._flushed > FLUSH_S:
            self._flush()
        return bool(retire)

    def _flush(self) -> None:
        if self._replies:
            self._channel.sendall(pack_frame({"replies": self._replies}))
            self._replies = []
        self._flushed = time.monotonic()


def main(argv: list[str]) -> int:
    """Entry point of the process."""
    descriptor, progress_descriptor, parent_pid, memory_mib = (int(text) for text in argv[:4])
    may_use_network, scratch, pack = argv[4] == "network", Path(argv[5]), argv[6]
    isolation, starts = isolate(allow_network=may_use_network, scratch=scratch)
    die_with_parent(parent_pid)
    if isolation.processes == "namespace":
        first_process(descriptor, scratch)
    forbid_torch()
    progress = Progress(progress_descriptor)
    channel = socket.socket(fileno=descriptor)
    try:
        verifiers = load_verifiers(pack)
    except FactoryError as err:
        channel.sendall(pack_frame({"fatal": str(err)}))
        return err.exit_code
    except Exception as err:  # reported to the parent, which raises it as a PluginError
        channel.sendall(pack_frame({"fatal": f"loading the verifiers of '{pack}' raised {type(err).__name__}: {err}"}))
        return 1
    os.chdir(scratch)
    code = code_hash(pack, verifiers)
    limit_resources(memory_mib, isolation)
    server = Server(channel, verifiers, memory_mib, progress, starts)
    ready = {name: str(verifier.version) for name, verifier in verifiers.items()}
    channel.sendall(pack_frame({
        "ready": ready, "code": code, "network": isolation.network, "processes": isolation.processes,
        "files": isolation.files, "pid": outer_pid(),
    }))  # fmt: skip
    server.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
