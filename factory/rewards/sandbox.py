"""Running programs that a model wrote: in bubblewrap, or not at all. Never in this process.

What a program gets: a fresh user, process, network and mount name space; the interpreter and system libraries read-only; an
empty /tmp in memory; no environment, no home, no network, no more than the limits below; and it dies with its parent. The
program enters by an anonymous memory file, so nothing is written to disk and nothing stays behind.

The kernel exempts root from the limit on processes, also in a user name space that maps another id to root. So where this process
is root, the program becomes a user that nobody else is (an id drawn for each run) before its first line. `find` proves, once for
each process, that the limit binds.

Where bubblewrap is missing, the kernel forbids user name spaces or the limit does not bind, nothing runs and the verdict is `error`
with the reason: such rollouts are masked and counted, never scored as wrong.
"""

from __future__ import annotations

import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from factory.errors import ConfigError, RewardError

PROGRAM = "/program.py"
"""Where the program lies inside."""
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc/alternatives", "/etc/ld.so.cache")
_STARTER = """
import os, resource, sys
cpu, memory, size, processes, user = map(int, sys.argv[1:6])
for kind, value in (("CPU", cpu), ("AS", memory), ("FSIZE", size), ("NPROC", processes), ("NOFILE", 64), ("CORE", 0)):
    kind = getattr(resource, "RLIMIT_" + kind)
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))
sys.argv = sys.argv[6:]
with open(sys.argv[0], encoding="utf-8") as program:
    text = program.read()
if user:
    os.chmod("/tmp", 0o1777)
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
exec(compile(text, sys.argv[0], "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
"""
"""Sets the limits inside the sandbox, where raising them again is not possible, gives up root, then becomes the program."""
_ALL_BUT_USER = ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try")
_SPARE_USERS = range(1 << 28, 1 << 29)
"""Ids of users that no system gives to anybody."""
_PROBE = """
import os, time, json
got = 0
for _ in range(32):
    try:
        if os.fork() == 0:
            time.sleep(5)
            os._exit(0)
    except OSError:
        break
    got += 1
print(got)
"""
"""Reads the library, starts at most 32 processes, and says how many it got."""
_PROBE_LIMIT = 8


class SandboxMissing(RewardError):
    """Model-written programs cannot be run here. The message says why and what to do."""


@dataclass(frozen=True)
class Limits:
    """What one program may use."""

    time_s: float = 5.0
    """Wall seconds; the same number, rounded up, bounds CPU seconds."""
    memory_mib: int = 512
    output_bytes: int = 1 << 20
    """Of standard output, and again of standard error; a program that writes more is stopped."""
    processes: int = 16
    file_mib: int = 16

    def __post_init__(self) -> None:
        if not 0.1 <= self.time_s <= 600 or min(self.memory_mib - 31, self.output_bytes, self.processes, self.file_mib) < 1:
            raise ConfigError(
                f"sandbox limits are {self}; want time_s 0.1 to 600, memory_mib 32 or more, and the others 1 or more."
            )


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    code: int | None
    """Exit status (negative: killed by that signal); None when it was stopped by us."""
    out: bytes
    err: bytes
    stopped: str = ""
    """`time` or `output` when it was stopped by us."""


def command(
    bwrap: str, arguments: Sequence[str], limits: Limits, descriptor: int, interpreter: str, roots: Sequence[str], user: int = 0
) -> list[str]:
    """The bubblewrap command line for one program.

    Args:
        descriptor: open file that holds the program's text.
        roots: folders of the interpreter, bound read-only at their own place.
        user: id that the program takes (this process must be root); 0: this process's own, in a user name space.
    """
    words = [bwrap, *(_ALL_BUT_USER if user else ("--unshare-all", "--unshare-user"))]
    words += ["--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    words += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if user else []
    for folder in _SYSTEM:
        words += ["--ro-bind-try", folder, folder]
    for folder in roots:
        # Made by themselves, the folders above would be closed to other users where this one's home is.
        for above in reversed(Path(folder).parents[:-1]):
            words += ["--dir", str(above)]
        words += ["--ro-bind", folder, folder]
    words += ["--proc", "/proc", "--dev", "/dev", "--size", str(limits.file_mib << 20), "--tmpfs", "/tmp"]
    words += ["--ro-bind-data", str(descriptor), PROGRAM, "--remount-ro", "/", "--chdir", "/tmp", "--hostname", "sandbox"]
    words += ["--setenv", "HOME", "/tmp", "--setenv", "PATH", "/usr/bin:/bin", "--setenv", "PYTHONHASHSEED", "0"]
    words += ["--setenv", "OMP_NUM_THREADS", "1", "--setenv", "OPENBLAS_NUM_THREADS", "1"]
    numbers = (int(-(-limits.time_s // 1)), limits.memory_mib << 20, limits.file_mib << 20, limits.processes, user)
    return [*words, "--", interpreter, "-I", "-S", "-B", "-c", _STARTER, *map(str, numbers), PROGRAM, *arguments]


def spare_user() -> int:
    """An id to run a program as, which nobody else has; 0 when this process is not root or may not become another.

    Where a container maps few ids, its root is no root outside, and the limits bind it as they bind any user.
    """
    if os.geteuid() != 0:
        return 0
    for name in ("uid_map", "gid_map"):
        rows = [line.split() for line in Path(f"/proc/self/{name}").read_text().splitlines()]
        if not any(int(first) <= _SPARE_USERS.start and int(first) + int(count) >= _SPARE_USERS.stop for first, _, count in rows):
            return 0
    return _SPARE_USERS.start + secrets.randbelow(len(_SPARE_USERS))


@lru_cache(maxsize=1)
def find() -> str:
    """Path of a bubblewrap that works here and limits processes. Raises SandboxMissing with the reason and the remedy."""
    path = shutil.which("bwrap")
    remedy = "Install bubblewrap (apt install bubblewrap) and allow unprivileged user name spaces, or leave this task out."
    if sys.platform != "linux" or path is None:
        raise SandboxMissing(f"model-written programs run only in bubblewrap, and there is no 'bwrap' here. {remedy}")
    try:
        tried = _run(path, _PROBE, b"", (), Limits(time_s=20, processes=_PROBE_LIMIT))
    except OSError as err:
        raise SandboxMissing(f"{path} cannot be started: {err}. {remedy}") from err
    if tried.code != 0:
        said = (tried.err.decode(errors="replace").strip().splitlines() or [tried.stopped or "no message"])[-1]
        raise SandboxMissing(f"{path} does not work here: {said} {remedy}")
    if int(tried.out) >= _PROBE_LIMIT:
        raise SandboxMissing(
            f"{path}: the limit on processes does not bind here, so a program could starve this machine ({int(tried.out)} were "
            f"started where fewer than {_PROBE_LIMIT} may be). Run as a user other than root, or leave this task out."
        )
    return path


def python_roots() -> tuple[str, tuple[str, ...]]:
    """This interpreter's real path, and the folders it needs that are no system folders."""
    base = Path(sys.base_prefix).resolve()
    interpreter = Path(getattr(sys, "_base_executable", sys.executable) or sys.executable).resolve()
    inside = any(base == Path(folder) or Path(folder) in base.parents for folder in _SYSTEM)
    roots = () if inside else (str(base),)
    if roots and not interpreter.is_relative_to(base):
        interpreter = base / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    return str(interpreter), roots


def run_program(text: str, *, stdin: bytes = b"", arguments: Sequence[str] = (), limits: Limits = Limits()) -> Ended:
    """Run one Python program in the sandbox and wait for its end, at most `limits.time_s` and a moment.

    Raises:
        SandboxMissing: there is no working sandbox; nothing was run.
    """
    return _run(find(), text, stdin, arguments, limits)


def _run(bwrap: str, text: str, stdin: bytes, arguments: Sequence[str], limits: Limits) -> Ended:
    interpreter, roots = python_roots()
    descriptor = os.memfd_create("program", 0)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(text.encode("utf-8", errors="replace"))
        os.lseek(descriptor, 0, os.SEEK_SET)
        words = command(bwrap, arguments, limits, descriptor, interpreter, roots, spare_user())
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            pass_fds=(descriptor,), env={}, close_fds=True, start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(descriptor)
    try:
        return _attend(process, stdin, limits)
    finally:
        # Its own session, so this ends bubblewrap, and by --die-with-parent and the process name space all inside.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None and not stream.closed:
                stream.close()


def _attend(process: subprocess.Popen[bytes], stdin: bytes, limits: Limits) -> Ended:
    """Feed the program and read it until it ends, writes too much, or has used its time."""
    assert process.stdin and process.stdout and process.stderr
    until = time.monotonic() + limits.time_s
    kept = {process.stdout: bytearray(), process.stderr: bytearray()}
    rest = memoryview(stdin)
    for stream in (process.stdin, *kept):
        os.set_blocking(stream.fileno(), False)

    def ended(code: int | None, stopped: str = "") -> Ended:
        return Ended(code, bytes(kept[process.stdout]), bytes(kept[process.stderr]), stopped)  # type: ignore[index]

    with selectors.DefaultSelector() as watcher:
        for stream in kept:
            watcher.register(stream, selectors.EVENT_READ)
        watcher.register(process.stdin, selectors.EVENT_WRITE)
        while watcher.get_map():
            left = until - time.monotonic()
            if left <= 0:
                return ended(None, "time")
            for key, _ in watcher.select(left):
                if key.fileobj is process.stdin:
                    rest = _feed(process.stdin, rest)
                    if not rest:
                        watcher.unregister(process.stdin)
                        process.stdin.close()
                    continue
                chunk = os.read(key.fd, 1 << 16)
                kept[key.fileobj] += chunk  # type: ignore[index]
                if not chunk:
                    watcher.unregister(key.fileobj)
                elif len(kept[key.fileobj]) > limits.output_bytes:  # type: ignore[index]
                    return ended(None, "output")
    try:
        return ended(process.wait(timeout=max(0.05, until - time.monotonic())))
    except subprocess.TimeoutExpired:
        return ended(None, "time")


def _feed(stream, rest: memoryview) -> memoryview:
    """Write what fits; empty when all is written or the program has closed its input."""
    try:
        return rest[os.write(stream.fileno(), rest[: 1 << 16]) :] if rest else rest
    except BlockingIOError:
        return rest
    except BrokenPipeError:
        return rest[:0]
