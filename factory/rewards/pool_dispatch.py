"""The thread that owns the workers: hands out calls, collects verdicts, kills what hangs and starts what is missing.

A verdict depends on its own call only, whatever the order and number of workers: a worker that dies (or runs out of memory)
after it has served other calls may have been spoilt by them, so the call that was running is tried once more, first and alone,
in a fresh worker; so is a call that was too slow while threads or children of earlier calls were about. Batches are sized by
time, and a worker gets the next one before it has finished; what waits behind a slow call is recalled when others are idle.
While a call is beyond half of its limit there is one worker more, so that it keeps nobody waiting for as long as its limit.
All workers are started by this one thread, because on Linux they die with the thread that started them.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
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
from factory.rewards.pool_wire import Ready, Reply, ready_from_json, reply_from_json

log = logging.getLogger(__name__)

MAX_BATCH = 128
"""Most calls in one message."""
MAX_BATCH_CHARACTERS = 1 << 22
"""Characters of completions in one message, unless a single one is longer."""
BATCH_S = 0.1
"""Wall seconds of work that a batch should hold."""
RECALL_S = 0.2
"""Wall seconds of one call after which those that wait behind it are given to idle workers."""
MEMORY = "memory"
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
    network: bool = False


class Dispatcher(threading.Thread):
    """Runs calls in worker processes.

    Args:
        config: the limits.
        on_ready: called with what the first worker that has loaded says of itself.
        on_verdicts: called with calls and their verdicts, from this thread.
        on_failure: called once with the error when nothing more can be judged.
    """

    def __init__(
        self,
        config: DispatchConfig,
        on_ready: Callable[[Ready], None],
        on_verdicts: Callable[[list[tuple[Call, Verdict]]], None],
        on_failure: Callable[[FactoryError], None],
    ) -> None:
        super().__init__(name="verifier-pool", daemon=True)
        self._config = config
        self._on_ready, self._on_verdicts, self._on_failure = on_ready, on_verdicts, on_failure
        self._queue: deque[Call] = deque()
        self._suspects: deque[Call] = deque()
        self._workers: list[WorkerProcess] = []
        self._found: list[tuple[Call, Verdict]] = []
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._is_woken = False
        self._is_closing = False
        self._num_start_failures = 0
        self._next_number = 0
        self._mean_s = BATCH_S
        self._warned: set[str] = set()

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
        return [worker.pid for worker in list(self._workers)]

    def run(self) -> None:
        """Body of the thread."""
        self._selector.register(self._wake_out, selectors.EVENT_READ, None)
        try:
            while not self._is_closing:
                self._make_room()
                while len(self._workers) < self._num_wanted():
                    self._start_worker()
                self._hand_out()
                self._wait()
                self._expire()
                self._recall()
                self._tell()
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
                worker.last_output()
            self._selector.close()
            self._wake_in.close()
            self._wake_out.close()

    def _tell(self) -> None:
        if self._found:
            found, self._found = self._found, []
            self._on_verdicts(found)

    def _wake(self) -> None:
        """Make the thread look at its queue. One byte at a time is enough; it is given after the queue, and taken before it is read."""
        if not self._is_woken:
            self._is_woken = True
            with contextlib.suppress(OSError):  # closed: there is nobody to wake
                self._wake_in.send(b"x")

    def _start_worker(self) -> None:
        worker = WorkerProcess.start(self._config.pack, self._config.memory_mib, network=self._config.network)
        self._workers.append(worker)
        self._selector.register(worker.channel, selectors.EVENT_READ, worker)

    def _drop(self, worker: WorkerProcess, *, grace_s: float = 0.0) -> int:
        self._workers.remove(worker)
        self._selector.unregister(worker.channel)
        return worker.kill(grace_s=grace_s)

    def _slow_at(self, worker: WorkerProcess) -> float:
        """When a worker counts as slow: half of the limit after its call began. Infinite without a call."""
        return worker.running()[1] + self._config.timeout_s / 2 if worker.ready and worker.is_busy else math.inf

    def _num_wanted(self) -> int:
        """Workers; one more while one is slow, so that the others need not wait for its end and for its successor's start."""
        now = time.monotonic()
        return self._config.workers + any(self._slow_at(worker) <= now for worker in self._workers)

    def _make_room(self) -> None:
        """A call that is tried again wants a fresh worker. Where all have served and one is idle, a fresh one takes its place.

        They can be as many as are wanted although one has just died: one more was started because that one was slow.
        """
        if self._suspects and all(worker.first is not None for worker in self._workers):
            idle = next((worker for worker in self._workers if not worker.is_busy), None)
            if idle is not None:
                self._drop(idle)
                idle.last_output()

    # --- handing out ----------------------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        num_free = self._num_wanted() - sum(worker.ready is not None and worker.is_busy for worker in self._workers)
        for worker in self._workers:
            if worker.ready is None or worker.has_unsent or worker.recalled or not (self._queue or self._suspects):
                continue
            if not worker.is_busy:
                if num_free <= 0:
                    continue
                num_free -= 1
            if self._suspects and worker.first is None:
                self._send(worker, [self._suspects.popleft()])
            elif self._queue and self._may_take_more(worker):
                self._send(worker, self._next_batch(self._config.recycle_after - worker.num_sent))

    def _may_take_more(self, worker: WorkerProcess) -> bool:
        if worker.num_sent >= self._config.recycle_after:
            return False
        # The next batch is there before the last call of this one ends; a call that is tried again stays alone.
        is_alone = any(call.num_tries for call in worker.calls.values())
        return not worker.calls or (not is_alone and len(worker.calls) * self._mean_s < BATCH_S / 2)

    def _next_batch(self, room: int) -> list[Call]:
        fair = -(-len(self._queue) // (2 * self._config.workers))
        size = max(1, min(fair, room, MAX_BATCH, int(BATCH_S / max(self._mean_s, 1e-6))))
        batch: list[Call] = []
        characters = 0
        while self._queue and len(batch) < size:
            characters += len(self._queue[0].completion)
            if batch and characters > MAX_BATCH_CHARACTERS:
                break
            batch.append(self._queue.popleft())
        return batch

    def _send(self, worker: WorkerProcess, batch: list[Call]) -> None:
        worker.send(list(enumerate(batch, start=self._next_number)))
        self._next_number += len(batch)
        self._watch(worker)

    def _watch(self, worker: WorkerProcess) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.has_unsent else 0)
        self._selector.modify(worker.channel, events, worker)

    # --- waiting --------------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        now = time.monotonic()
        busy = [worker for worker in self._workers if worker.is_busy]
        deadlines = [self._deadline(worker) for worker in busy]
        if len(busy) < len(self._workers):  # an idle worker may take over what waits behind a slow call
            deadlines += [max(worker.running()[1] + RECALL_S, now + 0.01) for worker in busy if len(worker.calls) > 1]
        if len(self._workers) == self._config.workers:
            deadlines += [self._slow_at(worker) for worker in busy if self._slow_at(worker) > now]
        # Rounded up, so that the deadline has passed when the wait is over.
        end = min(deadlines, default=math.inf)
        timeout = max(0.0, end - now) + 0.002 if end < math.inf else None
        if len(self._workers) < self._config.workers:
            timeout = 0.0
        for key, events in self._selector.select(timeout):
            if key.data is None:
                self._wake_out.recv(4096)
                self._is_woken = False
            elif key.data in self._workers:
                if events & selectors.EVENT_WRITE:
                    key.data.flush()
                    self._watch(key.data)
                if events & selectors.EVENT_READ:
                    self._read(key.data)

    def _deadline(self, worker: WorkerProcess) -> float:
        if worker.ready is None:
            return worker.since + self._config.start_timeout_s
        return worker.running()[1] + self._config.timeout_s

    def _is_overdue(self, worker: WorkerProcess) -> bool:
        return worker in self._workers and worker.is_busy and time.monotonic() >= self._deadline(worker)

    def _expire(self) -> None:
        for worker in list(self._workers):
            if not self._is_overdue(worker):
                continue
            self._read(worker)  # this thread may have been kept waiting itself: what has arrived in time counts
            if not self._is_overdue(worker):
                continue
            self._drop(worker)
            if worker.ready is None:
                self._start_failed(f"not ready after {self._config.start_timeout_s:g} s", worker)
                continue
            worker.last_output()
            call = self._give_back(worker, worker.last_running[0])
            if call is None:
                continue  # another worker has taken it over
            if worker.has_leftovers and call.num_tries == 0:
                self._try_again(call)
            else:
                self._found.append((call, self._timeout_verdict()))

    def _give_back(self, worker: WorkerProcess, number: int) -> Call | None:
        """Queue the calls of a worker that is gone, but for call `number`, which is returned."""
        call = worker.calls.pop(number, None)
        self._queue.extendleft(reversed(list(worker.calls.values())))
        worker.calls.clear()
        return call

    def _recall(self) -> None:
        """Give what waits behind a slow call to idle workers. Both may judge it; the first worker's reply is dropped."""
        if self._queue or all(worker.is_busy for worker in self._workers):
            return
        for worker in self._workers:
            if len(worker.calls) < 2 or worker.has_unsent:
                continue
            number, since, has_begun = worker.running()
            if has_begun and time.monotonic() - since > RECALL_S:
                waiting = [other for other in worker.calls if other > number]
                worker.recalled.update(waiting)
                self._queue.extend(worker.calls.pop(other) for other in waiting)

    def _timeout_verdict(self) -> Verdict:
        reason = f"no verdict within pool.timeout_s={self._config.timeout_s:g} s; its worker was killed"
        return Verdict(0.0, Status.timeout, reason)

    # --- reading --------------------------------------------------------------------------------------------------------

    def _read(self, worker: WorkerProcess) -> None:
        try:
            for message in worker.receive():
                self._take(worker, message)
                if worker not in self._workers:
                    return
        except EOFError:
            self._died(worker, describe_exit(self._drop(worker, grace_s=0.5)))
        except ValueError as err:
            self._drop(worker)
            self._died(worker, f"nonsense on its socket ({err})")

    def _take(self, worker: WorkerProcess, message: dict[str, object]) -> None:
        if worker.ready is None:
            if isinstance(message.get("fatal"), str):
                raise PluginError(str(message["fatal"]))
            worker.became_ready(ready_from_json(message))
            self._on_ready(worker.ready)
            return
        replies = message.get("replies")
        if not isinstance(replies, list):
            raise ValueError("a message that holds no replies")
        for row in replies:
            waiting = [*worker.recalled, *itertools.islice(worker.calls, 1)]
            if not waiting:
                raise ValueError("a reply to no call")
            expected = min(waiting)
            self._take_reply(worker, expected, reply_from_json(row, expected))
            if worker not in self._workers:
                return

    def _take_reply(self, worker: WorkerProcess, number: int, reply: Reply) -> None:
        worker.since = time.monotonic()
        worker.num_done += 1
        worker.has_leftovers = reply.has_leftovers
        self._num_start_failures = 0
        self._mean_s += 0.05 * (reply.seconds - self._mean_s)
        is_recalled = number in worker.recalled
        worker.recalled.discard(number)
        call = None if is_recalled else worker.calls.pop(number)
        if reply.retire or (not worker.calls and not worker.recalled and worker.num_done >= self._config.recycle_after):
            self._drop(worker)
            self._give_back(worker, -1)
            worker.last_output()
        if call is None:
            return
        if reply.retire and reply.retire != MEMORY and call.verifier not in self._warned:
            self._warned.add(call.verifier)
            log.warning("verifier '%s': %s. Its worker is replaced each time, which is slow", call.verifier, reply.retire)
        if reply.retire == MEMORY and number != worker.first and call.num_tries == 0:
            self._try_again(call)
        elif reply.seconds > self._config.timeout_s:
            self._found.append((call, self._timeout_verdict()))
        else:
            self._found.append((call, reply.verdict))

    def _try_again(self, call: Call) -> None:
        call.num_tries += 1
        self._suspects.append(call)

    def _died(self, worker: WorkerProcess, how: str) -> None:
        """The worker is gone and was not told to go."""
        if worker.ready is None or not (worker.is_busy or worker.num_done):
            self._start_failed(how, worker)
            return
        said = worker.last_output()
        number, _, has_begun = worker.last_running
        call = self._give_back(worker, number)
        if call is None:
            return  # killed from outside while idle (it is replaced), or at a call that another worker has taken over
        if call.num_tries == 0 and (number != worker.first or not has_begun):
            self._try_again(call)
            return
        last = f"; it last printed: {said}" if said else ""
        self._found.append((call, Verdict(0.0, Status.error, f"its worker ended with {how}{last}")))

    def _start_failed(self, how: str, worker: WorkerProcess) -> None:
        self._num_start_failures += 1
        said = worker.last_output()
        if self._num_start_failures >= _MAX_START_FAILURES:
            printed = f"The last one printed: {said}. " if said else ""
            raise RewardError(
                f"{self._num_start_failures} workers of '{self._config.pack}' in a row ended before their first call: {how}. "
                f"{printed}Load the pack's verifiers in a plain Python to see why."
            )
