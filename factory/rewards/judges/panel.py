"""All judges of a run: bounded threads for each, verdicts as they come, failures counted against a rate, a cache."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from factory.contracts import Sample, Status, Verdict
from factory.errors import RewardError
from factory.rewards.judges.judge import Judge
from factory.rewards.pool_cache import VerdictCache, cache_key, sample_hash
from factory.rewards.pool_tally import Tally

MAX_WAITING = 4096
"""Calls that may wait or run; `submit` blocks above it."""


class JudgePanel:
    """Asks judges outside of the trainer's thread. Use as a context manager, or call `close`.

    Args:
        judges: by name, calibrated.
        cache_dir: folder of the verdict cache; None keeps none.
    """

    def __init__(self, judges: Mapping[str, Judge], cache_dir: str | Path | None = None) -> None:
        self.judges = dict(judges)
        self._threads = {
            name: ThreadPoolExecutor(judge.settings.concurrency, thread_name_prefix=f"judge-{name}")
            for name, judge in judges.items()
        }
        self._tallies = {name: Tally("judges", judge.settings.max_error_rate) for name, judge in judges.items()}
        self._open: dict[Future[Verdict], tuple[Hashable, str]] = {}
        self._room = threading.Semaphore(MAX_WAITING)
        self._cache = VerdictCache(Path(cache_dir)) if cache_dir is not None else None

    def __enter__(self) -> JudgePanel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop what waits, end what runs. Idempotent."""
        for name, threads in self._threads.items():
            threads.shutdown(wait=False, cancel_futures=True)
            self.judges[name].backend.close()
        for threads in self._threads.values():
            threads.shutdown(wait=True)
        if self._cache is not None:
            self._cache.close()
            self._cache = None

    def submit(self, key: Hashable, completion: str, sample: Sample, judge: str) -> None:
        """Have one completion judged. `results` gives the verdict under `key`."""
        self._room.acquire()
        future = self._threads[judge].submit(self._judge, judge, completion, sample)
        future.add_done_callback(lambda _: self._room.release())
        self._open[future] = (key, judge)

    def results(self) -> Iterator[tuple[Any, str, Verdict]]:
        """(key, judge, verdict) as they come, until all that was submitted is judged.

        Raises RewardError when a judge fails more often than its `max_error_rate`.
        """
        waiting, self._open = self._open, {}
        try:
            for future in as_completed(list(waiting)):
                key, name = waiting[future]
                verdict, is_fresh = future.result()
                try:
                    self._tallies[name].add(name, verdict, is_fresh=is_fresh)
                except RewardError as err:
                    raise RewardError(
                        f"the judge '{name}' failed too often (judges.{name}.max_error_rate is "
                        f"{self.judges[name].settings.max_error_rate:.0%}). Last reason: {verdict.reason}. Look at its server or model; "
                        "its failures were masked, not scored."
                    ) from err
                yield key, name, verdict
        finally:
            for future in waiting:
                future.cancel()
        if self._cache is not None:
            self._cache.flush()

    def counts(self) -> dict[str, dict[str, int]]:
        """judge -> status -> verdicts."""
        empty = dict.fromkeys((status.value for status in Status), 0)
        return {name: tally.counts().get(name, dict(empty)) for name, tally in self._tallies.items()}

    def _judge(self, name: str, completion: str, sample: Sample) -> tuple[Verdict, bool]:
        judge, cache = self.judges[name], self._cache
        key = cache_key("judges", name, judge.version, completion, sample_hash(sample)) if cache is not None else ""
        found = cache.get(key) if cache is not None else None
        if found is not None:
            return found, False
        verdict = judge(completion, sample)
        if cache is not None:
            cache.put(key, verdict)
        return verdict, True
