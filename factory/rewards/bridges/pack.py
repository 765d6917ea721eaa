"""A domain pack made of bridges: routing, samples, lessons and verifiers of thousands of tasks in a few lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from factory.contracts import DataRequest, Document, Eval, Lesson, Manifest, Sample, Verifier
from factory.errors import ConfigError
from factory.rewards.bridges.bridge import Bridge

DEFAULT_LIMIT = 2048


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


def interleaved(bridges: Sequence[Bridge], split: str, seed: int) -> Iterator[Sample]:
    """One sample of every task in turn, then the next of every task, until all run dry. Streams open as they are reached."""
    streams: list[Iterator[Sample]] = [bridge.samples(task, split, seed) for bridge in bridges for task in bridge.tasks()]
    while streams:
        alive = []
        for stream in streams:
            sample = next(stream, None)
            if sample is not None:
                alive.append(stream)
                yield sample
        streams = alive


@dataclass
class BridgePack:
    """A domain pack over bridges. Its manifest is the author's `pack.yaml`, whose `tasks` `manifest_tasks` can print."""

    manifest: Manifest
    bridges: Sequence[Bridge]
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
        left = request.limit if request.limit is not None else DEFAULT_LIMIT
        for sample in interleaved(self.bridges, split, seed):
            if left <= 0:
                return
            gold = self._by_task[sample.task].gold(sample)
            if gold is not None:
                left -= 1
                yield Lesson(sample, gold)

    def samples(self, split: str, seed: int, request: DataRequest) -> Iterable[Sample]:
        """Samples of all tasks in turn."""
        left = request.limit if request.limit is not None else DEFAULT_LIMIT
        for sample in interleaved(self.bridges, split, seed):
            if left <= 0:
                return
            left -= 1
            yield sample

    def verifiers(self) -> Mapping[str, Verifier]:
        """One for every bridge."""
        return {bridge.name: bridge.verifier() for bridge in self.bridges}

    def evals(self) -> Mapping[str, Eval]:
        """One for every bridge; the first is the one that stages are compared by."""
        return {
            bridge.name: Eval(bridge.name, verifier=bridge.name, tasks=tuple(bridge.tasks()), primary=number == 0)
            for number, bridge in enumerate(self.bridges)
        }

    def gold(self, sample: Sample) -> str | None:
        """A completion that earns everything, for the conformance kit."""
        return self._by_task[sample.task].gold(sample)
