"""A domain pack made of bridges: routing, samples, lessons and verifiers of thousands of tasks in a few lines."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from factory.contracts import DataRequest, Document, Eval, Lesson, Manifest, Sample, Verdict, Verifier
from factory.errors import ConfigError, DataError
from factory.rewards.bridges.bridge import Bridge

DEFAULT_LIMIT = 2048
ROUTED = "bridged"
"""Name of the verifier and the eval over all tasks of a pack of several bridges."""
BARREN = 20
"""Items of a task in a row that are too long, or of which no right answer is known, before the task is given up."""


def manifest_tasks(bridges: Sequence[Bridge]) -> dict[str, dict[str, Any]]:
    """`tasks` of a manifest: one pattern `<prefix>/*` for each bridge, so that the page stays short whatever their number.

    Raises ConfigError: two bridges share a verifier name or a prefix.
    """
    found: dict[str, dict[str, Any]] = {}
    for bridge in bridges:
        for prefix in sorted({task.partition("/")[0] for task in bridge.tasks()}):
            if f"{prefix}/*" in found:
                raise ConfigError(f"two bridges name their tasks {prefix}/...; give one of them another prefix.")
            found[f"{prefix}/*"] = {"verifiers": {bridge.name: 1.0}, "gate": None, "title": f"tasks of {bridge.name}"}
    if len({bridge.name for bridge in bridges}) != len(bridges):
        raise ConfigError("two bridges have one verifier name; set `name` of one of them.")
    return found


def interleaved(
    bridges: Sequence[Bridge], split: str, seed: int, keeps: Callable[[Sample], bool] = lambda sample: True
) -> Iterator[Sample]:
    """One sample of every task in turn, then the next of every task, until all run dry. Streams open as they are reached.

    The order of tasks is drawn with the seed, so that any limit gives a fair choice of tasks.

    A task that gives `BARREN` samples in a row that `keeps` refuses is dry.
    """
    turns = [(bridge, task) for bridge in bridges for task in bridge.tasks()]
    random.Random(seed).shuffle(turns)
    streams: list[Iterator[Sample]] = [bridge.samples(task, split, seed) for bridge, task in turns]
    while streams:
        alive = []
        for stream in streams:
            sample = next((one for one in islice(stream, BARREN) if keeps(one)), None)
            if sample is not None:
                alive.append(stream)
                yield sample
        streams = alive


@dataclass(frozen=True)
class RoutedVerifier:
    """Judges a sample of any bridge by the verifier of its own, so that one eval can cover all tasks."""

    by_prefix: Mapping[str, Verifier]
    """First part of a task's name -> verifier."""
    name: str = ROUTED

    @property
    def version(self) -> str:
        """Changes with that of any of its verifiers."""
        return " ".join(f"{prefix}={verifier.version}" for prefix, verifier in sorted(self.by_prefix.items()))

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises DataError for a task of no bridge, and what the verifier raises."""
        prefix = sample.task.partition("/")[0]
        if prefix not in self.by_prefix:
            raise DataError(f"sample {sample.id}: no bridge has tasks {prefix}/...; bridged: {', '.join(self.by_prefix)}.")
        return self.by_prefix[prefix](completion, sample)


@dataclass
class BridgePack:
    """A domain pack over bridges. Its manifest is the author's `pack.yaml`, whose `tasks` `manifest_tasks` can print.

    Files of `--data` go to the bridges that have `with_files`.
    """

    manifest: Manifest
    bridges: Sequence[Bridge]
    max_chars: int | None = None
    """Longest prompt in characters; longer samples are left out (the embedded bases read 4,096 tokens; a rare character is up to 4)."""
    _by_task: dict[str, Bridge] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self._by_task = {task: bridge for bridge in self.bridges for task in bridge.tasks()}

    def corpus(self, split: str, seed: int, request: DataRequest) -> Iterable[Document]:
        """Question and gold answer of every lesson as plain text."""
        for lesson in self.lessons(split, seed, request):
            text = f"{lesson.sample.text()}\n{lesson.response}"
            yield Document(lesson.sample.id, text, split=split, source=lesson.sample.source)

    def lessons(self, split: str, seed: int, request: DataRequest) -> Iterable[Lesson]:
        """Samples of which the library knows a right answer."""
        found = self._samples(split, seed, request, lambda sample: self.gold(sample) is not None)
        return (Lesson(sample, str(self.gold(sample))) for sample in found)

    def samples(self, split: str, seed: int, request: DataRequest) -> Iterable[Sample]:
        """Samples of all tasks in turn."""
        return self._samples(split, seed, request, lambda sample: True)

    def _samples(self, split: str, seed: int, request: DataRequest, keeps: Callable[[Sample], bool]) -> Iterator[Sample]:
        def is_wanted(sample: Sample) -> bool:
            return (self.max_chars is None or len(sample.text()) <= self.max_chars) and keeps(sample)

        limit = request.limit if request.limit is not None else DEFAULT_LIMIT
        return islice(interleaved(self._with_data(request.paths), split, seed, is_wanted), limit)

    def _with_data(self, paths: Sequence[str]) -> Sequence[Bridge]:
        if not paths:
            return self.bridges
        if not any(hasattr(bridge, "with_files") for bridge in self.bridges):
            raise DataError(f"pack '{self.manifest.name}' takes no files: none of its bridges reads any. Leave --data out.")
        return [bridge.with_files(paths) if hasattr(bridge, "with_files") else bridge for bridge in self.bridges]

    def verifiers(self) -> Mapping[str, Verifier]:
        """One for every bridge, and `bridged` over all of them where there are several."""
        found = {bridge.name: bridge.verifier() for bridge in self.bridges}
        if len(self.bridges) == 1:
            return found
        prefixes = {task.partition("/")[0]: found[bridge.name] for task, bridge in self._by_task.items()}
        return found | {ROUTED: RoutedVerifier(prefixes)}

    def evals(self) -> Mapping[str, Eval]:
        """One for every bridge. Stages are compared by the one over all tasks."""
        own = {bridge.name: Eval(bridge.name, verifier=bridge.name, tasks=tuple(bridge.tasks())) for bridge in self.bridges}
        if len(own) == 1:
            return {name: replace(only, primary=True) for name, only in own.items()}
        return {ROUTED: Eval(ROUTED, verifier=ROUTED, primary=True)} | own

    def gold(self, sample: Sample) -> str | None:
        """A completion that earns everything, for the conformance kit."""
        return self._by_task[sample.task].gold(sample)
