"""The thread that owns the workers: hands out calls, collects verdicts, kills what hangs and starts what is missing.

A verdict depends on its own call only, whatever the order and number of workers: a worker that dies (or runs out of memory)
after it has served other calls may have been spoilt by them, so the call that was running is tried once more, first and alone,
in a fresh worker. All workers are started by this one thread, because on Linux they die with the thread that started them.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from factory.contracts import Status, Verdict
from factory.errors import FactoryError, PluginError, RewardError
from factory.rewards.pool_process import Call, WorkerProcess, describe_exit
from factory.rewards.pool_wire import verdict_from_json

MAX_BATCH = 32
"""Most calls in one message."""
_MAX_START_FAILURES = 3


@dataclass(frozen=True)
class DispatchConfig:
    """Limits of the workers."""

    pack: str
    workers: int
    timeout_s: float
    memory_mib: int
    recycle_after: int
    start_timeout_s: float


class Dispatcher(threading.Thread):
    """Runs calls in worker processes.

    Args:
        config: the limits.
        on_ready: called once with {verifier: version} and the kind of network isolation, when the first worker has loaded.
        on_verdict: called with each call and its verdict, from this thread.
        on_failure: called once with the error when nothing more can be judged.
    """

    def __init__(
        self,
        config: DispatchConfig,
        on_ready: Callable[[dict[str, str], str], None],
        on_verdict: Callable[[Call, Verdict], None],
        on_failure: Callable[[FactoryError], None],
    ) -> None:
        super().__init__(name="verifier-pool", daemon=True)
        self._config = config
        self._on_ready, self._on_verdict, self._on_failure = on_ready, on_verdict, on_failure
        self._queue: deque[Call] = deque()
        self._suspects: deque[Call] = deque()
        self._workers: list[WorkerProcess] = []
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._is_closing = False
        self._num_start_failures = 0

    def add(self, calls: list[Call]) -> None:
        """Queue calls. May be called from any thread."""
        self._queue.extend(calls)
        self._wake()

    def stop(self) -> None:
        """Kill the workers and end the thread; queued calls are dropped. Idempotent."""
        self._is_closing = True
        self._wake()
        if self.is_alive() and threading.current_thread() is not self:
            self.join()

    def worker_pids(self) -> list[int]:
        """Process ids of the workers of this moment."""
        return [worker.process.pid for worker in list(self._workers)]

    def run(self) -> None:
        """Body of the thread."""
        self._selector.register(self._wake_out, selectors.EVENT_READ, None)
        try:
            while not self._is_closing:
                while len(self._workers) < self._config.workers:
                    self._start_worker()
                self._hand_out()
                self._wait()
                self._expire()
        except FactoryError as err:
            self._on_failure(err)
        except Exception as err:  # a fault of ours or of the machine must reach the trainer, not end in a silent thread
            failure = RewardError(f"the verifier pool of '{self._config.pack}' failed: {type(err).__name__}: {err}. "
                                  "Check free processes and memory, then run the same command again.")  # fmt: skip
            failure.__cause__ = err
            self._on_failure(failure)
        finally:
            for worker in list(self._workers):
                self._drop(worker)
            self._selector.close()
            self._wake_in.close()
            self._wake_out.close()

    def _wake(self) -> None:
        # Full: it is awake already. Closed: there is nobody to wake.
        with contextlib.suppress(OSError):
            self._wake_in.send(b"x")

    def _start_worker(self) -> None:
        worker = WorkerProcess.start(self._config.pack, self._config.memory_mib)
        self._workers.append(worker)
        self._selector.register(worker.channel, selectors.EVENT_READ, worker)

    def _drop(self, worker: WorkerProcess, *, grace_s: float = 0.0) -> int:
        self._workers.remove(worker)
        self._selector.unregister(worker.channel)
        return worker.kill(grace_s=grace_s)

    def _hand_out(self) -> None:
        for worker in list(self._workers):
            if not worker.is_idle or not (self._queue or self._suspects):
                continue
            if self._suspects and worker.num_done == 0:
                batch = [self._suspects.popleft()]
            else:
                size = -(-len(self._queue) // (2 * self._config.workers))
                batch = [self._queue.popleft() for _ in range(min(size, MAX_BATCH))]
            if not batch:
                continue
            try:
                worker.send(batch, max(self._config.timeout_s, 5.0))
            except OSError:
                # It died or stopped reading while idle; none of these calls has begun.
                self._queue.extendleft(reversed(batch))
                worker.calls.clear()
                self._drop(worker)
                worker.last_output()

    def _wait(self) -> None:
        now = time.monotonic()
        deadlines = [self._deadline(worker) for worker in self._workers if not worker.is_idle]
        # Rounded up, so that the deadline has passed when the wait is over.
        timeout = max(0.0, min(deadlines) - now) + 0.002 if deadlines else None
        if len(self._workers) < self._config.workers:
            timeout = 0.0
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                self._wake_out.recv(4096)
            elif key.data in self._workers:
                self._read(key.data)

    def _deadline(self, worker: WorkerProcess) -> float:
        return worker.since + (self._config.timeout_s if worker.is_ready else self._config.start_timeout_s)

    def _expire(self) -> None:
        for worker in list(self._workers):
            if worker.is_idle or time.monotonic() < self._deadline(worker):
                continue
            self._read(worker)  # this thread may have been kept waiting itself: what has arrived in time counts
            if worker not in self._workers or worker.is_idle or time.monotonic() < self._deadline(worker):
                continue
            self._drop(worker)
            if not worker.is_ready:
                self._start_failed(f"not ready after {self._config.start_timeout_s:g} s", worker)
                continue
            running, *rest = worker.calls
            self._queue.extendleft(reversed(rest))
            worker.last_output()
            self._on_verdict(running, self._timeout_verdict())

    def _timeout_verdict(self) -> Verdict:
        reason = f"no verdict within pool.timeout_s={self._config.timeout_s:g} s; its worker was killed"
        return Verdict(0.0, Status.timeout, reason)

    def _read(self, worker: WorkerProcess) -> None:
        try:
            for message in worker.receive():
                self._take(worker, message)
                if worker not in self._workers:
                    return
        except EOFError:
            self._died(worker, describe_exit(self._drop(worker, grace_s=1.0)))
        except (ValueError, KeyError, TypeError, IndexError) as err:
            self._drop(worker)
            self._died(worker, f"nonsense on its socket ({err})")

    def _take(self, worker: WorkerProcess, message: dict[str, object]) -> None:
        if "fatal" in message:
            raise PluginError(str(message["fatal"]))
        if "ready" in message:
            worker.is_ready = True
            self._on_ready(dict(message["ready"]), str(message["network"]))  # type: ignore[call-overload]
            return
        verdict = verdict_from_json(message["verdict"])  # type: ignore[arg-type]
        call = worker.calls.pop(0)
        if float(message["seconds"]) > self._config.timeout_s:  # type: ignore[arg-type]
            verdict = self._timeout_verdict()
        self._num_start_failures = 0
        was_fresh = worker.num_done == 0
        worker.num_done += 1
        if message["retire"] or (not worker.calls and worker.num_done >= self._config.recycle_after):
            self._drop(worker)
            self._queue.extendleft(reversed(worker.calls))
            worker.last_output()
        if message["retire"] and not was_fresh and call.num_tries == 0:
            self._try_again(call)
        else:
            self._on_verdict(call, verdict)

    def _try_again(self, call: Call) -> None:
        call.num_tries += 1
        self._suspects.append(call)

    def _died(self, worker: WorkerProcess, how: str) -> None:
        """The worker is gone and was not told to go."""
        if not worker.is_ready or not (worker.calls or worker.num_done):
            self._start_failed(how, worker)
            return
        said = worker.last_output()
        if not worker.calls:
            return  # killed from outside while idle: it is replaced
        running, *rest = worker.calls
        self._queue.extendleft(reversed(rest))
        if worker.num_done > 0 and running.num_tries == 0:
            self._try_again(running)
            return
        last = f"; it last printed: {said}" if said else ""
        self._on_verdict(running, Verdict(0.0, Status.error, f"its worker ended with {how}{last}"))

    def _start_failed(self, how: str, worker: WorkerProcess) -> None:
        self._num_start_failures += 1
        said = worker.last_output()
        if self._num_start_failures >= _MAX_START_FAILURES:
            printed = f"The last one printed: {said}. " if said else ""
            raise RewardError(
                f"{self._num_start_failures} workers of '{self._config.pack}' in a row ended before their first call: {how}. "
                f"{printed}Load the pack's verifiers in a plain Python to see why."
            )
