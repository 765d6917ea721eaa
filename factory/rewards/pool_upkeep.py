"""What one call may change in its worker and the next must not see: put back after every call, or the worker is given up.

Put back: working folder, environment, built-ins, import path, standard streams, trace hooks, recursion limit, signal handlers,
signal mask, timer, decimal context, garbage collection, and the random generators (every call starts from the same state).
Not seen: changes inside other modules. A verifier that patches those can spoil what shares its worker, until it is recycled.
"""

from __future__ import annotations

import builtins
import gc
import os
import random
import resource
import signal
import sys
import threading
from typing import Any

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGALRM", "SIGCHLD", "SIGINT", "SIGPIPE", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGVTALRM")
)
_LIMITS = (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE, resource.RLIMIT_STACK)
_MAX_OUTPUT = 1 << 20
"""Bytes of printed text that are kept; then the file is begun anew, long before its size limit makes `print` fail."""
MAX_LEFT = 8
"""Threads (or child processes) left behind by calls that are borne before the worker is given up."""
_SEED = 0

# Our own references: a call may replace the names in the modules.
_getcwd, _chdir, _fstat, _waitid, _gettrace = os.getcwd, os.chdir, os.fstat, os.waitid, sys.gettrace
_getrlimit, _getsignal, _setitimer = resource.getrlimit, signal.getsignal, signal.setitimer
_sigmask, _seed, _active_count = signal.pthread_sigmask, random.seed, threading.active_count


class Upkeep:
    """The state of a worker before its first call.

    Args:
        descriptor: the worker's socket, which must stay open.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptors = (descriptor, 1, 2)
        self._folder = _getcwd()
        self._environ = dict(os.environ)
        self._raw_environ = dict(_raw(os.environ))
        self._space = builtins.__dict__
        self._builtins = dict(self._space)
        self._path = list(sys.path)
        self._streams = (sys.stdin, sys.stdout, sys.stderr)
        self._recursion_limit = sys.getrecursionlimit()
        self._handlers = [(number, _getsignal(number)) for number in _SIGNALS]
        self._mask = _sigmask(signal.SIG_BLOCK, [])
        self._limits = [_getrlimit(kind) for kind in _LIMITS]
        self._num_threads = _active_count()
        self._decimal: Any = None
        self.has_leftovers = False
        """Whether threads or children of earlier calls are still about, which may disturb later ones."""
        self._seed_generators()

    def restore(self) -> str:
        """Put back what the last call changed. Returns why the worker must be given up, or nothing."""
        space = self._space
        if space != self._builtins:  # first of all: what follows uses them
            space.clear()
            space.update(self._builtins)
        try:
            return self._streams_fault() or self._process_fault() or self._leftovers_fault() or self._put_back()
        except Exception as err:
            return f"its state could not be put back: {type(err).__name__}: {err}"

    def _put_back(self) -> str:
        if _getcwd() != self._folder:
            _chdir(self._folder)
        if _raw(os.environ) != self._raw_environ:
            os.environ.clear()
            os.environ.update(self._environ)
        if sys.path != self._path:
            sys.path[:] = self._path
        if _gettrace() is not None or sys.getprofile() is not None:
            sys.settrace(None)
            sys.setprofile(None)
        if sys.getrecursionlimit() != self._recursion_limit:
            sys.setrecursionlimit(self._recursion_limit)
        for number, handler in self._handlers:
            if _getsignal(number) is not handler:
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        if _sigmask(signal.SIG_BLOCK, []) != self._mask:
            _sigmask(signal.SIG_SETMASK, self._mask)
        _setitimer(signal.ITIMER_REAL, 0)
        if not gc.isenabled():
            gc.enable()
        self._seed_generators()
        return ""

    def _seed_generators(self) -> None:
        _seed(_SEED)
        numpy_random = sys.modules.get("numpy.random")
        if numpy_random is not None:
            numpy_random.seed(_SEED)
        decimal = sys.modules.get("decimal")
        if decimal is not None:
            if self._decimal is None:
                self._decimal = decimal.Context()
            decimal.setcontext(self._decimal.copy())

    def _streams_fault(self) -> str:
        for descriptor in self._descriptors:
            try:
                found = _fstat(descriptor)
            except OSError:
                return f"a call closed file descriptor {descriptor}"
        if found.st_size > _MAX_OUTPUT:
            os.ftruncate(2, 0)
            os.lseek(2, 0, os.SEEK_SET)
        if sys.stdin is not self._streams[0] or sys.stdout is not self._streams[1] or sys.stderr is not self._streams[2]:
            sys.stdin, sys.stdout, sys.stderr = self._streams
        return "a call closed a standard stream" if sys.stdout.closed or sys.stderr.closed else ""

    def _process_fault(self) -> str:
        for kind, before in zip(_LIMITS, self._limits, strict=True):
            if _getrlimit(kind) != before:
                return "a call changed the resource limits"
        return ""

    def _leftovers_fault(self) -> str:
        left = _active_count() - self._num_threads
        self.has_leftovers = left > 0 or _has_children()
        if left > MAX_LEFT:
            return f"calls left {left} threads behind"
        if self.has_leftovers and _num_children() > MAX_LEFT:
            return "calls left child processes behind"
        return ""


def _raw(environ: Any) -> Any:
    """The bytes behind `os.environ`, whose own comparison decodes every variable; itself where there are none."""
    return getattr(environ, "_data", environ)


def _has_children() -> bool:
    try:
        _waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _num_children() -> int:
    """Children of this process, where /proc tells."""
    try:
        with open("/proc/thread-self/children", encoding="ascii") as listed:
            return len(listed.read().split())
    except OSError:
        return 0
