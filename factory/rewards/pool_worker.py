"""One worker of the pool: `python -m factory.rewards.pool_worker SOCKET_FD PARENT_PID MEMORY_MIB PACK`.

It loads the pack's verifiers once, then judges call after call until its socket closes. It answers each call at once, so
that the parent always knows which call is running; time is kept, and the worker killed, by the parent.
"""

from __future__ import annotations

import copy
import importlib
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from factory.contracts import Sample, Status, Verdict
from factory.errors import FactoryError, PluginError
from factory.plugins import load_pack
from factory.rewards.pool_isolation import deny_network, die_with_parent, forbid_torch, limit_resources
from factory.rewards.pool_wire import MAX_REASON, FrameReader, checked_verdict, pack_frame, verdict_to_json

_CHUNK = 1 << 20


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


def judge(verifier: Any, completion: str, sample: Sample, memory_mib: int) -> tuple[Verdict, bool]:
    """One verdict, and whether the worker should retire after it. Whatever the verifier raises becomes `error`."""
    try:
        # A copy per call: a verifier that changes its sample must not change what the next one sees.
        own = replace(sample, reference=copy.deepcopy(sample.reference), meta=copy.deepcopy(sample.meta))
        return checked_verdict(verifier(completion, own)), False
    except MemoryError:
        return Verdict(0.0, Status.error, f"needed more memory than pool.memory_mib={memory_mib} allows"), True
    except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit) as err:
        return Verdict(0.0, Status.error, f"{type(err).__name__}: {_text_of(err)}"), False


def _text_of(err: BaseException) -> str:
    try:
        return str(err)[:MAX_REASON]
    except Exception as second:  # a message that itself raises is the verifier's fault, and still only its own
        return f"(its message raised {type(second).__name__})"


def serve(channel: socket.socket, verifiers: Mapping[str, Any], memory_mib: int) -> None:
    """Judge until the socket closes."""
    reader = FrameReader()
    while chunk := channel.recv(_CHUNK):
        for batch in reader.feed(chunk):
            samples = [Sample.from_json(row) for row in batch["samples"]]
            for name, completion, index in batch["calls"]:
                started = time.monotonic()
                verdict, retire = judge(verifiers[name], completion, samples[index], memory_mib)
                reply = {"verdict": verdict_to_json(verdict), "seconds": time.monotonic() - started, "retire": retire}
                channel.sendall(pack_frame(reply))
                if retire:
                    return


def main(argv: list[str]) -> int:
    """Entry point of the process."""
    descriptor, parent_pid, memory_mib, pack = int(argv[0]), int(argv[1]), int(argv[2]), argv[3]
    network = deny_network()
    die_with_parent(parent_pid)
    forbid_torch()
    channel = socket.socket(fileno=descriptor)
    try:
        verifiers = load_verifiers(pack)
    except FactoryError as err:
        channel.sendall(pack_frame({"fatal": str(err)}))
        return err.exit_code
    except Exception as err:  # reported to the parent, which raises it as a PluginError
        channel.sendall(pack_frame({"fatal": f"loading the verifiers of '{pack}' raised {type(err).__name__}: {err}"}))
        return 1
    limit_resources(memory_mib)
    channel.sendall(pack_frame({"ready": {name: str(v.version) for name, v in verifiers.items()}, "network": network}))
    serve(channel, verifiers, memory_mib)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
