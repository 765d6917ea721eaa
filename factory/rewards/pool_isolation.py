"""What a worker process gives up before it runs foreign verifiers: network, memory, threads, outliving its parent.

This is protection against faulty and greedy verifiers, not a jail for hostile ones: code that sets out to escape may read
what the user may read. What holds, and how far:

- network: where the kernel allows it, a network namespace of its own (nothing reachable, C code included); always an audit
  hook, which Python code cannot remove, that refuses Internet sockets and name look-ups. Without the namespace, C code
  that calls connect(2) itself is not stopped. Unix sockets stay usable.
- memory: RLIMIT_AS above what the loaded pack takes. File size and core dumps are limited too.
- parent's death: PR_SET_PDEATHSIG (Linux). Elsewhere a worker ends when it next reads its closed socket.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_MAX_FILE_BYTES = 64 << 20

_SOCKET_EVENTS = frozenset({"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"})
_LOOKUP_EVENTS = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"})


def deny_network() -> str:
    """Cut the process off from the network. Returns `namespace` or `audit-hook`. Call before any thread starts."""
    # The number, so that the hook itself imports nothing: AF_UNIX is 1 on every system that has it.
    af_unix = 1

    def refuse(event: str, args: tuple[Any, ...]) -> None:
        if event in _LOOKUP_EVENTS:
            raise PermissionError("verifiers may not use the network (name look-up refused); use data that the sample carries")
        if event in _SOCKET_EVENTS and args[0].family != af_unix:
            raise PermissionError(f"verifiers may not use the network ({event} refused); use data that the sample carries")

    sys.addaudithook(refuse)
    return "namespace" if _unshare_network() else "audit-hook"


def _unshare_network() -> bool:
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    if uid == 0 and libc.unshare(_CLONE_NEWNET) == 0:
        return True
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return False
    try:
        # Keep our own ids inside the new user namespace; without a map they would read as `nobody`.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    except OSError as err:
        print(f"the worker runs without an id map: {err}", file=sys.stderr)
    return True


def die_with_parent(parent_pid: int) -> None:
    """Be killed when the thread that started this process ends. Call after `deny_network`, which would clear the setting."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        # The parent died between starting us and the line above.
        os._exit(1)


def limit_resources(memory_mib: int) -> None:
    """Allow `memory_mib` MiB of address space on top of what is in use now; beyond it, Python raises MemoryError."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = _address_space() + (memory_mib << 20)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = _MAX_FILE_BYTES if hard == resource.RLIM_INFINITY else min(_MAX_FILE_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _address_space() -> int:
    """Bytes of address space in use now; 0 where /proc does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def forbid_torch() -> None:
    """Make `import torch` fail here: a worker starts in a fraction of a second and takes no accelerator memory."""
    sys.modules["torch"] = None  # type: ignore[assignment]
