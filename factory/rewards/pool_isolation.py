"""What a worker process gives up before it runs foreign verifiers: network, other processes, memory, outliving its parent.

This is protection against faulty and greedy verifiers, not a jail for hostile ones: code that sets out to escape may still read
what the user may read. What holds, and how far (`Isolation` names the kind, `probe` tells it for this machine):

- network `namespace`: nothing is reachable, C code included. `audit-hook`: Python code is refused Internet sockets and name
  look-ups by a hook that it cannot remove; C code that calls connect(2) itself is not stopped. Unix sockets stay usable.
- files `read-only`: nothing can be written, changed or removed but below the worker's scratch folder, C code included (a mount
  name space of its own). `open`: verifiers may write whatever the user may write.
- processes `namespace`: the worker is the first process of its own, so it can neither see nor signal any other, and when it
  ends the kernel ends all that it started, daemons too. `group`: the hook refuses Python's kill of processes outside the
  worker's group; the pool kills the group, and those that left it by their environment.
- memory: RLIMIT_AS above what the loaded pack takes, for each process. File size and core dumps are limited too.
- processes per call: Python code may start MAX_STARTS; in a user namespace RLIMIT_NPROC binds C code as well (not root's).
- parent's death: PR_SET_PDEATHSIG (Linux). Elsewhere a worker ends when it next reads its closed socket.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1
_PR_SET_PDEATHSIG = 1
_MAX_FILE_BYTES = 64 << 20
MAX_STARTS = 64
"""Processes that one call may start."""
_MAX_TASKS = 256
"""RLIMIT_NPROC (processes and threads) in a user namespace."""
_COUNTS_BY_NAMESPACE = (5, 14)
"""Linux version from which RLIMIT_NPROC counts a user namespace by itself."""

_SOCKET_EVENTS = frozenset({"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"})
_LOOKUP_EVENTS = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"})
_START_EVENTS = frozenset({"os.fork", "os.forkpty", "os.posix_spawn", "subprocess.Popen"})
_ADVICE = "use data that the sample carries, or set pool.network=true"


@dataclass(frozen=True)
class Isolation:
    """How a worker is cut off."""

    network: str
    """`namespace`, `audit-hook`, or `allowed`."""
    processes: str
    """`namespace` or `group`."""
    has_own_user: bool = False
    """True in a user namespace."""
    files: str = "open"
    """`read-only` or `open`."""


class StartCounter:
    """Counts processes started since `reset`, in memory that forked children share."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 8)

    def reset(self) -> None:
        """Begin a new call."""
        self._shared[:8] = bytes(8)

    def add(self) -> None:
        """One more start. Raises BlockingIOError above MAX_STARTS."""
        count = int.from_bytes(self._shared[:8], "little") + 1
        self._shared[:8] = count.to_bytes(8, "little")
        if count > MAX_STARTS:
            raise BlockingIOError(errno.EAGAIN, f"a verifier may start {MAX_STARTS} processes in one call")


def isolate(*, allow_network: bool, scratch: Path) -> tuple[Isolation, StartCounter]:
    """Cut the process off, as far as the kernel lets us; `scratch` stays writable. Call before any thread starts.

    With processes `namespace` the caller must go on in `first_process()`: the namespace begins with the next child.
    """
    found = _unshare(allow_network=allow_network, scratch=scratch)
    counter = StartCounter()
    sys.addaudithook(_hook(found, counter))
    return found, counter


def _hook(found: Isolation, counter: StartCounter) -> Any:
    # Numbers and functions of our own, so that the hook imports nothing and a patched module does not change it.
    af_unix, getpid, getpgid = 1, os.getpid, os.getpgid
    allows_network, guards_signals = found.network == "allowed", found.processes == "group"

    def refuse(event: str, args: tuple[Any, ...]) -> None:
        if event in _START_EVENTS:
            counter.add()
        elif event == "os.kill" or event == "os.killpg":
            if guards_signals and not _is_ours(event, args[0], getpid(), getpgid):
                raise PermissionError(f"verifiers may not signal other processes ({event} of {args[0]} refused)")
        elif allows_network:
            return
        elif event in _LOOKUP_EVENTS:
            raise PermissionError(f"verifiers may not use the network (name look-up refused); {_ADVICE}")
        elif event in _SOCKET_EVENTS and args[0].family != af_unix:
            raise PermissionError(f"verifiers may not use the network ({event} refused); {_ADVICE}")

    return refuse


def _is_ours(event: str, target: int, own: int, getpgid: Any) -> bool:
    """Whether a signal stays in the worker's own process group."""
    group = getpgid(0)
    if event == "os.killpg":
        return target in (0, group)
    if target <= 0:
        return target in (0, -group)
    try:
        return target == own or getpgid(target) == group
    except ProcessLookupError:
        return True


def _unshare(*, allow_network: bool, scratch: Path) -> Isolation:
    """The best of what the kernel allows, all namespaces first."""
    network = "allowed" if allow_network else "audit-hook"
    if sys.platform != "linux":
        return Isolation(network, "group")
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    net = 0 if allow_network else _CLONE_NEWNET
    for flags in (_CLONE_NEWNS | _CLONE_NEWPID | net, _CLONE_NEWPID | net, _CLONE_NEWNS | net, net):
        for user in (0, _CLONE_NEWUSER) if uid == 0 else (_CLONE_NEWUSER,):
            if not flags or libc.unshare(user | flags) != 0:
                continue
            if user:
                _keep_ids(uid, gid)
            return Isolation(
                "namespace" if net else network, "namespace" if flags & _CLONE_NEWPID else "group", bool(user),
                "read-only" if flags & _CLONE_NEWNS and _lock_files(libc, scratch) else "open",
            )  # fmt: skip
    return Isolation(network, "group")


class _MountAttr(ctypes.Structure):
    """`struct mount_attr` of mount_setattr(2), Linux 5.12 and later."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64), ("attr_clr", ctypes.c_uint64), ("propagation", ctypes.c_uint64), ("userns_fd", ctypes.c_uint64)
    )  # fmt: skip


def _lock_files(libc: Any, scratch: Path) -> bool:
    """Make every mount read-only in this mount namespace, `scratch` excepted. False where the kernel cannot."""
    folder = os.fsencode(scratch)
    if libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) != 0:
        return False
    if libc.mount(folder, folder, None, _MS_BIND, None) != 0:
        return False
    return _set_mount(libc, b"/", _MountAttr(attr_set=_MOUNT_ATTR_RDONLY), _AT_RECURSIVE) and _set_mount(
        libc, folder, _MountAttr(attr_clr=_MOUNT_ATTR_RDONLY), 0
    )


def _set_mount(libc: Any, path: bytes, change: _MountAttr, flags: int) -> bool:
    arguments = (ctypes.c_long(_AT_FDCWD), ctypes.c_char_p(path), ctypes.c_ulong(flags))
    size = ctypes.c_size_t(ctypes.sizeof(change))
    return libc.syscall(ctypes.c_long(_MOUNT_SETATTR), *arguments, ctypes.byref(change), size) == 0


def _keep_ids(uid: int, gid: int) -> None:
    """Keep our own ids inside the new user namespace; without a map they would read as `nobody`."""
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    except OSError as err:
        print(f"the worker runs without an id map: {err}", file=sys.stderr)


def first_process(descriptor: int, scratch: Path) -> None:
    """Go on as the first process of the new namespace. The process of before waits outside and ends as this one does.

    Only the new process returns; the other gives up the socket `descriptor`. Should the pool be killed, it ends the namespace
    and removes the folder `scratch`.
    """
    child = os.fork()
    if child == 0:
        _ask_for_signal(signal.SIGKILL)
        return
    os.close(descriptor)

    def clear_up(*_: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)
        remove_tree(scratch)
        os._exit(1)

    signal.signal(signal.SIGTERM, clear_up)
    _ask_for_signal(signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def remove_tree(folder: Path) -> None:
    """Remove a folder in which a verifier may have forbidden that."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        for parent, folders, _ in os.walk(folder):
            for path in (parent, *(os.path.join(parent, name) for name in folders)):
                if not os.path.islink(path):
                    os.chmod(path, 0o700)
        shutil.rmtree(folder, ignore_errors=True)


def die_with_parent(parent_pid: int) -> None:
    """Be killed when the thread that started this process ends. Call after `isolate`, which would clear the setting."""
    _ask_for_signal(signal.SIGKILL)
    if os.getppid() != parent_pid:
        # The parent died between starting us and the line above.
        os._exit(1)


def _ask_for_signal(number: int) -> None:
    """Get this signal when the thread that started this process ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def limit_resources(memory_mib: int, isolation: Isolation) -> None:
    """Allow `memory_mib` MiB of address space on top of what is in use now; beyond it, Python raises MemoryError."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_AS, _address_space() + (memory_mib << 20))
    _lower(resource.RLIMIT_FSIZE, _MAX_FILE_BYTES)
    if isolation.has_own_user and _linux_version() >= _COUNTS_BY_NAMESPACE:
        _lower(resource.RLIMIT_NPROC, _MAX_TASKS)


def _lower(kind: int, limit: int) -> None:
    _, hard = resource.getrlimit(kind)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(kind, (limit, limit))


def _linux_version() -> tuple[int, int]:
    major, _, rest = os.uname().release.partition(".")
    minor = rest.partition(".")[0]
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else (0, 0)


def _address_space() -> int:
    """Bytes of address space in use now; 0 where /proc does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def outer_pid() -> int:
    """This process's id as the pool sees it (/proc is that of the machine)."""
    try:
        return int(os.readlink("/proc/self"))
    except OSError:
        return os.getpid()


def forbid_torch() -> None:
    """Make `import torch` fail here: a worker starts in a fraction of a second and takes no accelerator memory."""
    sys.modules["torch"] = None  # type: ignore[assignment]


def probe(*, allow_network: bool = False) -> Isolation:
    """What workers get on this machine, found out in a process of its own. Raises OSError when none can be started."""
    code = (
        "import sys, pathlib; from factory.rewards.pool_isolation import isolate; "
        f"found, _ = isolate(allow_network={allow_network!r}, scratch=pathlib.Path(sys.argv[1])); "
        "print(found.network, found.processes, int(found.has_own_user), found.files)"
    )
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    with tempfile.TemporaryDirectory(prefix="factory-probe-") as scratch:
        done = subprocess.run(
            [sys.executable, "-c", code, scratch], capture_output=True, text=True, check=False,
            env=os.environ | {"PYTHONPATH": path},
        )  # fmt: skip
    if done.returncode:
        raise OSError(f"the probe of worker isolation ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    network, processes, has_own_user, files = done.stdout.split()
    return Isolation(network, processes, has_own_user == "1", files)
