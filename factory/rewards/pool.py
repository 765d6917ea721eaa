"""The isolated worker pool: verifiers run in spawned processes with a time and a memory limit each, never in the trainer.

A verifier that hangs, crashes, raises or lies costs its own verdict (`timeout` or `error`, with a reason), and nothing else.
Scoring overlaps generation: `submit` each rollout as it finishes, read `results` at the end.

    with VerifierPool("pathology", workers=2) as pool:
        pool.submit(key, completion, sample, mixture.verifiers_for(sample.task))
        for key, verdicts in pool.results():
            reward = mixture.combine(task, verdicts)
"""

from __future__ import annotations

import json
import math
import threading
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from factory.contracts import Sample, Verdict
from factory.errors import ConfigError, DataError, FactoryError, RewardError, near_miss
from factory.rewards.pool_cache import DEFAULT_MIB, VerdictCache, cache_key, default_folder, sample_hash
from factory.rewards.pool_dispatch import DispatchConfig, Dispatcher
from factory.rewards.pool_process import Call
from factory.rewards.pool_tally import Tally
from factory.rewards.pool_wire import Ready

_MAX_REMEMBERED_SAMPLES = 1024


@dataclass(slots=True)
class _Sink:
    """Where finished rollouts go: the pool's own, or that of one `score` call."""

    done: deque[tuple[Hashable, dict[str, Verdict]]] = field(default_factory=deque)
    num_open: int = 0


@dataclass(slots=True)
class _Item:
    """One submitted rollout."""

    key: Hashable
    verifiers: tuple[str, ...]
    sink: _Sink
    verdicts: dict[str, Verdict] = field(default_factory=dict)


def _check(name: str, value: Any, low: float, *, is_whole: bool, high: float = math.inf) -> None:
    kind = int if is_whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not (math.isfinite(value) and low <= value <= high):
        wanted = f"a {'whole ' if is_whole else ''}number from {low:g}" + (f" to {high:g}" if high < math.inf else " up")
        raise ConfigError(f"pool.{name} is {value!r}; want {wanted}. Set pool.{name} to one.")


class VerifierPool:
    """Judges completions in isolated workers. Use as a context manager, or call `close`.

    Args:
        pack: name of a domain pack, or `module:attribute` of a mapping of verifiers (see `pool_worker.load_verifiers`).
        workers: processes.
        timeout_s: wall seconds for one call; then its worker is killed and the verdict is `timeout`.
        memory_mib: address space that verifiers may take on top of the loaded pack; beyond it the verdict is `error`.
        max_error_rate: largest share of `error`+`timeout` among a verifier's last 500 fresh verdicts, judged from 50 on.
        network: let verifiers use the network; without it they have none (see `pool_isolation` for how).
        cache_mib: size of the verdict cache under FACTORY_HOME/cache, shared by all runs; 0 keeps none.
        cache_dir: another folder for the cache.
        recycle_after: calls after which a worker is replaced by a fresh one.
        max_pending: calls that may wait or run at once; `submit` blocks above it.
        start_timeout_s: wall seconds for a worker to load the pack.

    Raises:
        ConfigError: a setting is out of range; PluginError (on `start`): the pack cannot be loaded.
    """

    def __init__(
        self,
        pack: str,
        *,
        workers: int = 1,
        timeout_s: float = 10.0,
        memory_mib: int = 2048,
        max_error_rate: float = 0.05,
        network: bool = False,
        cache_mib: int = 0,
        cache_dir: str | Path | None = None,
        recycle_after: int = 20_000,
        max_pending: int = 2048,
        start_timeout_s: float = 120.0,
    ) -> None:
        _check("workers", workers, 1, is_whole=True, high=1024)
        _check("timeout_s", timeout_s, 0.01, is_whole=False)
        _check("memory_mib", memory_mib, 16, is_whole=True)
        _check("max_error_rate", max_error_rate, 0.0, is_whole=False, high=1.0)
        _check("recycle_after", recycle_after, 1, is_whole=True)
        _check("max_pending", max_pending, 1, is_whole=True)
        _check("start_timeout_s", start_timeout_s, 0.1, is_whole=False)
        _check("cache_mib", cache_mib, 0, is_whole=True)
        self.pack = pack
        self.versions: dict[str, str] = {}
        """verifier -> version, known after `start`."""
        self.network = ""
        """How workers are cut off from the network: `namespace`, `audit-hook` or `allowed` (see `pool_isolation`)."""
        self.processes = ""
        """How they are cut off from other processes: `namespace` or `group`."""
        self.files = ""
        """Whether they can write outside their scratch folder: `read-only` (they cannot) or `open`."""
        self._code = ""
        self._max_pending = max_pending
        self._state = threading.Condition()
        self._tally = Tally(pack, max_error_rate)
        self._sink = _Sink()
        self._num_pending = 0
        self._failure: FactoryError | None = None
        self._samples: dict[int, tuple[Sample, str]] = {}
        self._cache: VerdictCache | None = None
        if cache_dir is not None or cache_mib:
            folder = Path(cache_dir) if cache_dir is not None else default_folder()
            self._cache = VerdictCache(folder, max_mib=cache_mib or DEFAULT_MIB)
        config = DispatchConfig(pack, workers, timeout_s, memory_mib, recycle_after, start_timeout_s, network)
        self._dispatcher = Dispatcher(config, self._ready, self._verdicts, self._fail)

    def start(self) -> None:
        """Start the workers and wait until the first has loaded the pack. Raises PluginError or RewardError. Idempotent."""
        with self._state:
            if self._dispatcher.ident is None and self._failure is None:
                self._dispatcher.start()
            while not self.versions and self._failure is None:
                self._state.wait()
            self._raise_failure()

    def close(self) -> None:
        """Kill the workers and write the cache. What was not judged is dropped. Idempotent."""
        if self._dispatcher.ident is not None:
            self._dispatcher.stop()
        with self._state:
            self._failure = self._failure or RewardError("the verifier pool is closed. Open a new VerifierPool.")
            self._state.notify_all()
        if self._cache is not None:
            self._cache.close()

    def __enter__(self) -> VerifierPool:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def submit(self, key: Hashable, completion: str, sample: Sample, verifiers: Sequence[str]) -> None:
        """Have one completion judged by the named verifiers. Returns at once, unless `max_pending` calls are open.

        Raises:
            ConfigError: a name that the pack does not have.
            DataError: the sample holds what JSON cannot, or (with a cache) an image that cannot be read.
            RewardError: the pool has failed or is closed.
        """
        self._enqueue(key, completion, sample, verifiers, self._sink)

    def results(self) -> Iterator[tuple[Any, dict[str, Verdict]]]:
        """Yield (key, {verifier: verdict}) as rollouts finish, until all that were submitted are done.

        Raises RewardError when a verifier fails too often or the pool cannot go on.
        """
        yield from self._drain(self._sink)
        if self._cache is not None:
            self._cache.flush()

    def score(self, items: Sequence[tuple[str, Sample, Sequence[str]]]) -> list[dict[str, Verdict]]:
        """Judge (completion, sample, verifiers) rows; returns the verdicts in their order. Raises as `submit` and `results`."""
        sink = _Sink()
        for index, (completion, sample, verifiers) in enumerate(items):
            self._enqueue(index, completion, sample, verifiers, sink)
        found = dict(self._drain(sink))
        if self._cache is not None:
            self._cache.flush()
        return [found[index] for index in range(len(items))]

    def counts(self) -> dict[str, dict[str, int]]:
        """verifier -> status -> number of verdicts so far (from the cache too)."""
        with self._state:
            return self._tally.counts()

    def check_end(self) -> None:
        """At the end of an eval: raises RewardError when a verifier gave too few verdicts for a rate, and more than half of them failed."""
        with self._state:
            self._tally.check_end()

    def worker_pids(self) -> list[int]:
        """Process ids of the workers of this moment."""
        return self._dispatcher.worker_pids()

    def _enqueue(self, key: Hashable, completion: str, sample: Sample, verifiers: Sequence[str], sink: _Sink) -> None:
        if not self.versions:
            self.start()
        names = tuple(dict.fromkeys((verifiers,) if isinstance(verifiers, str) else verifiers))
        for name in names:
            if name not in self.versions:
                raise ConfigError(
                    f"'{self.pack}' has no verifier '{name}'.{near_miss(name, self.versions)} "
                    f"It has: {', '.join(self.versions)}. Name one of them in `tasks` or `mixture`."
                )
        if not isinstance(completion, str):
            raise DataError(f"the completion for sample {sample.id} is a {type(completion).__name__}, not text. Decode it first.")
        known = self._remember(sample)
        item = _Item(key, names, sink)
        calls, cached = self._look_up(item, completion, sample, known)
        with self._state:
            if self._num_pending >= self._max_pending:
                # Room for many at once: waking for each would cost more than a quick verifier.
                while self._failure is None and self._num_pending > self._max_pending * 3 // 4:
                    self._state.wait()
            self._raise_failure()
            sink.num_open += 1
            self._num_pending += len(names)
            if not names:
                self._finish(item)
            for call, verdict in cached:
                self._count(call, verdict, is_fresh=False)
        if calls:
            self._dispatcher.add(calls)

    def _look_up(
        self, item: _Item, completion: str, sample: Sample, hash_of_sample: str
    ) -> tuple[list[Call], list[tuple[Call, Verdict]]]:
        """Split an item's calls into those to run and those that the cache answers."""
        calls, cached = [], []
        for name in item.verifiers:
            call = Call(name, completion, sample, item)
            if self._cache is not None:
                call.cache_key = cache_key(self.pack, name, self.versions[name], completion, hash_of_sample, self._code)
                verdict = self._cache.get(call.cache_key)
                if verdict is not None:
                    cached.append((call, verdict))
                    continue
            calls.append(call)
        return calls, cached

    def _remember(self, sample: Sample) -> str:
        """Check a sample once and return its hash (empty without a cache)."""
        held = self._samples.get(id(sample))
        if held is not None and held[0] is sample:
            return held[1]
        try:
            json.dumps([sample.reference, dict(sample.meta), sample.id, sample.task])
        except (TypeError, ValueError, RecursionError) as err:
            raise DataError(
                f"sample {sample.id}: reference and meta must be plain JSON to reach a verifier: {err}. Mend the pack's loader."
            ) from err
        hash_of_sample = sample_hash(sample) if self._cache is not None else ""
        if len(self._samples) >= _MAX_REMEMBERED_SAMPLES:
            self._samples.clear()
        self._samples[id(sample)] = (sample, hash_of_sample)
        return hash_of_sample

    def _drain(self, sink: _Sink) -> Iterator[tuple[Any, dict[str, Verdict]]]:
        while True:
            with self._state:
                while not sink.done and sink.num_open and self._failure is None:
                    self._state.wait()
                if self._failure is not None and (sink.done or sink.num_open):
                    raise self._failure
                if not sink.done:
                    return
                ready = list(sink.done)
                sink.done.clear()
            yield from ready

    # --- called by the dispatcher's thread ------------------------------------------------------------------------------

    def _ready(self, ready: Ready) -> None:
        with self._state:
            if not self.versions:
                self.versions, self.network, self.processes, self.files, self._code = (
                    ready.versions,
                    ready.network,
                    ready.processes,
                    ready.files,
                    ready.code,
                )
            self._state.notify_all()

    def _verdicts(self, found: list[tuple[Call, Verdict]]) -> None:
        if self._cache is not None:
            for call, verdict in found:
                if call.cache_key is not None:
                    self._cache.put(call.cache_key, verdict)
        with self._state:
            for call, verdict in found:
                self._count(call, verdict, is_fresh=True)

    def _fail(self, err: FactoryError) -> None:
        with self._state:
            self._failure = self._failure or err
            self._state.notify_all()

    # --- with the lock held ---------------------------------------------------------------------------------------------

    def _count(self, call: Call, verdict: Verdict, *, is_fresh: bool) -> None:
        try:
            self._tally.add(call.verifier, verdict, is_fresh=is_fresh)
        except RewardError as err:
            self._failure = self._failure or err
            self._state.notify_all()
        item: _Item = call.item
        item.verdicts[call.verifier] = verdict
        self._num_pending -= 1
        if len(item.verdicts) == len(item.verifiers):
            self._finish(item)
        elif self._num_pending == self._max_pending * 3 // 4:
            self._state.notify_all()

    def _finish(self, item: _Item) -> None:
        item.sink.num_open -= 1
        item.sink.done.append((item.key, {name: item.verdicts[name] for name in item.verifiers}))
        self._state.notify_all()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
