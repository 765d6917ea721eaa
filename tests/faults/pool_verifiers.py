"""Verifiers that do everything a verifier must not, for the pool's fault tests. Imported by worker processes only."""

import ctypes
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.contracts import Status, Verdict
from factory.testing.ear import tell


def right(completion, sample):
    """A score that depends on everything a verifier sees, and on nothing else."""
    text = f"{completion}|{sample.id}|{sample.reference}|{sorted(sample.meta)}".encode("utf-8", "surrogatepass")
    score = hashlib.sha256(text).digest()[0] / 255
    return Verdict(score, Status.ok if score > 0.5 else Status.wrong, f"scored {score:.3f}")


def spin(completion, sample):
    while True:
        pass


def deaf(completion, sample):
    """Sleep in C, holding the interpreter lock, with every signal blocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ctypes.PyDLL(None).sleep(1000)


def bomb(completion, sample):
    hoard = []
    while True:
        hoard.append(bytearray(16 << 20))


def leave(completion, sample):
    print("going now", flush=True)
    os._exit(3)


def leave_if_told(completion, sample):
    """Wait for the file that the reference names; end the process when it says so."""
    file = Path(sample.reference)
    while not file.exists():
        time.sleep(0.01)
    if file.read_text() == "leave":
        os._exit(3)
    return Verdict(1.0, Status.ok, "stayed")


def segfault(completion, sample):
    ctypes.string_at(0)


def raises(completion, sample):
    raise KeyError("no such gold")


class _Rude(Exception):
    def __str__(self):
        raise RuntimeError("no message for you")


def rude(completion, sample):
    raise _Rude


def exits(completion, sample):
    sys.exit("bye")


def _lie(**fields: Any) -> Verdict:
    verdict = Verdict(0.5, Status.ok, "fine")
    for name, value in fields.items():
        object.__setattr__(verdict, name, value)
    return verdict


LIES = {
    "high": lambda: Verdict(1.5, Status.ok, "too much"),
    "sneaky": lambda: _lie(score=1.5),
    "nan": lambda: _lie(score=float("nan")),
    "text": lambda: _lie(score="1"),
    "truth": lambda: _lie(score=True),
    "none": lambda: None,
    "float": lambda: 1.0,
    "row": lambda: {"score": 1.0, "status": "ok", "reason": ""},
    "status": lambda: _lie(status="great"),
    "reason": lambda: _lie(reason=7),
    "parts": lambda: _lie(parts={"x": float("inf")}),
    "parts_type": lambda: _lie(parts=[1]),
}


def lies(completion, sample):
    return LIES[sample.reference]()


def nonsense(completion, sample):
    """Write garbage to the worker's own socket, in the place of an answer."""
    os.write(int(sys.argv[1]), b"\xff" * 64)
    time.sleep(1000)


def _refused(attempt):
    try:
        attempt()
    except OSError as err:
        return Verdict(1.0, Status.ok, f"refused: {type(err).__name__}: {err}")
    return Verdict(0.0, Status.wrong, "connected")


def python_network(completion, sample):
    return _refused(lambda: socket.create_connection(("127.0.0.1", sample.reference), timeout=2))


def datagram_network(completion, sample):
    return _refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", sample.reference)))


def look_up(completion, sample):
    return _refused(lambda: socket.getaddrinfo("localhost", 80))


def c_network(completion, sample):
    """connect(2) without Python's socket module."""
    libc = ctypes.CDLL(None, use_errno=True)
    address = (2).to_bytes(2, sys.byteorder) + int(sample.reference).to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)

    def attempt():
        if libc.connect(libc.socket(2, 1, 0), address, len(address)) != 0:
            raise OSError(ctypes.get_errno(), "connect(2) failed")

    return _refused(attempt)


_SEEN: list[str] = []


def spoilt(completion, sample):
    """Crash unless this process is nearly new: the fault of earlier calls, not of this one."""
    _SEEN.append(completion)
    if len(_SEEN) > 3:
        os._exit(1)
    return right(completion, sample)


def leaks(completion, sample):
    """Keep memory from call to call until it runs out."""
    _SEEN.append("x" * (24 << 20))
    return right(completion, sample)


def vandal(completion, sample):
    """Change the sample; the next call must not see it."""
    seen = "vandal" in sample.meta or "vandal" in sample.reference
    sample.meta["vandal"] = True
    sample.reference.append("vandal")
    return Verdict(float(not seen), Status.wrong if seen else Status.ok, "saw an earlier call" if seen else "clean")


def parent_of_many(completion, sample):
    """Start a child that would outlive us, tell its pid, and hang."""
    subprocess.Popen(["sleep", "1000"])
    # As the machine numbers it: a worker may have a process namespace of its own.
    tell(sample.reference, Path("/proc/thread-self/children").read_text())
    time.sleep(1000)


def waits(completion, sample):
    """Wait until the file named by the reference exists."""
    while not Path(sample.reference).exists():
        time.sleep(0.01)
    return right(completion, sample)


def counted(completion, sample):
    """Say `x` to the `Ear` named by the reference, so that calls can be counted from outside."""
    tell(sample.reference, "x")
    return right(completion, sample)


def flaky(completion, sample):
    """Fail on completions that start with `bad`."""
    if completion.startswith("bad"):
        raise RuntimeError("backend away")
    return right(completion, sample)


def surroundings(completion, sample):
    """What the process is like, as the reason."""
    try:
        import torch
    except ImportError:
        has_torch = False
    else:
        has_torch = torch is not None
    facts = {
        "torch": has_torch, "threads": os.environ["OMP_NUM_THREADS"], "secret": "MY_API_TOKEN" in os.environ,
        "main": sys.modules["__main__"].__spec__.name, "pid": int(os.readlink("/proc/self")), "uid": os.getuid(),
    }  # fmt: skip
    return Verdict(1.0, Status.ok, repr(facts))


def shouts(completion, sample):
    """Print to stdout, which must not disturb the protocol."""
    print("x" * 100_000, flush=True)
    os.write(1, b"raw\n")
    return right(completion, sample)


@dataclass(frozen=True)
class Named:
    function: Any
    name: str
    version: str = "1"

    def __call__(self, completion, sample):
        return self.function(completion, sample)


_FUNCTIONS = (
    right, spin, deaf, bomb, leave, leave_if_told, segfault, raises, rude, exits, lies, nonsense, python_network, datagram_network, look_up,
    c_network, spoilt, leaks, vandal, parent_of_many, waits, counted, flaky, surroundings, shouts,
)  # fmt: skip
VERIFIERS = {function.__name__: Named(function, function.__name__) for function in _FUNCTIONS}
NO_VERSION = {"right": right}
EMPTY: dict[str, Any] = {}


def verifiers():
    """A function may stand for the mapping."""
    return VERIFIERS
