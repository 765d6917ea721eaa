"""The pack under test, with its draws and fixtures read once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from factory.contracts import DataRequest, Document, DomainPack, Lesson, Manifest, Sample, Verdict
from factory.plugins import Entry, find_pack, pack_folder, read_manifest
from factory.rewards.mixture import Mixture, Reward

ROLES = ("corpus", "lessons", "samples")
DRAW = 24
"""Items drawn per role and split unless a check asks for more."""
SEED = 0


class CheckFailed(AssertionError):
    """A pack breaks a rule. The message says where and what to do."""


def ensure(is_kept: bool, message: str) -> None:
    """Raise CheckFailed with the message unless the rule is kept."""
    if not is_kept:
        raise CheckFailed(message)


@dataclass(frozen=True)
class FixtureRow:
    """One line of fixtures/completions.jsonl."""

    place: str
    """File and line, for messages."""
    case: Sample
    verifier: str
    completion: str
    kind: str
    """`right`, `wrong`, `unparsable` or `exploit`: what the author wrote the row for."""
    score: float
    status: str
    reason: str
    """Part of the expected reason."""
    why: str


@dataclass
class Subject:
    """One installed pack. Everything expensive is drawn once and kept."""

    entry: Entry
    draws: dict[tuple[str, str, int, int], list[Any]] = field(default_factory=dict)

    @classmethod
    def named(cls, name: str) -> Subject:
        """The installed pack of this name. Raises PluginError when it is unknown or ambiguous; the pack is not yet imported."""
        return cls(find_pack(name))

    def __str__(self) -> str:
        return self.entry.name

    @cached_property
    def folder(self) -> Path:
        """Folder of the pack's files."""
        return pack_folder(self.entry)

    @cached_property
    def manifest(self) -> Manifest:
        """pack.yaml, read without importing the pack."""
        return read_manifest(self.folder)

    @cached_property
    def pack(self) -> DomainPack:
        """The imported pack."""
        return self.entry.load()

    @cached_property
    def mixture(self) -> Mixture:
        """The mixture that the manifest describes."""
        return Mixture(self.manifest.tasks, known=self.pack.verifiers())

    def draw(self, role: str, split: str = "train", seed: int = SEED, limit: int = DRAW) -> list[Any]:
        """The first `limit` items of a role. Kept, so that each check sees the same ones."""
        key = (role, split, seed, limit)
        if key not in self.draws:
            self.draws[key] = self.draw_anew(role, split, seed, limit)
        return self.draws[key]

    def draw_anew(self, role: str, split: str, seed: int, limit: int) -> list[Any]:
        """The same, asked of the pack again."""
        return list(getattr(self.pack, role)(split, seed, DataRequest(limit=limit)))

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that the manifest provides, in a fixed order."""
        return tuple(role for role in ROLES if role in self.manifest.provides)

    def golds(self) -> list[tuple[Sample, str]]:
        """Samples with a completion that must earn the full reward.

        From `pack.gold(sample)` where the pack has that method (drawn samples and fixture cases), else from its lessons.
        """
        lessons = (
            [(lesson.sample, lesson.response) for lesson in self.draw("lessons", limit=64)] if "lessons" in self.roles else []
        )
        gold = getattr(self.pack, "gold", None)
        if gold is None:
            return lessons
        drawn = self.draw("samples", limit=64) if "samples" in self.roles else []
        return [(sample, gold(sample)) for sample in [*drawn, *self.cases().values()]] + lessons

    def judge(self, completion: str, sample: Sample) -> Reward:
        """The mixture's reward, computed in this process."""
        verifiers = self.pack.verifiers()
        verdicts = {name: verifiers[name](completion, sample) for name in self.mixture.verifiers_for(sample.task)}
        return self.mixture.combine(sample.task, verdicts)

    def cases(self) -> dict[str, Sample]:
        """fixtures/cases.jsonl by id. Raises CheckFailed naming the line that is wrong."""
        return {sample.id: sample for _, sample in ((place, self._case(place, row)) for place, row in self._lines("cases.jsonl"))}

    def _case(self, place: str, row: dict[str, Any]) -> Sample:
        try:
            return Sample.from_json(row)
        except (KeyError, TypeError, ValueError) as err:
            raise CheckFailed(f"{place}: is no sample: {type(err).__name__}: {err}. Write it with Sample.to_json().") from err

    def completions(self) -> list[FixtureRow]:
        """fixtures/completions.jsonl. Raises CheckFailed naming the line that is wrong."""
        cases, rows = self.cases(), []
        wanted = ("case", "verifier", "completion", "kind", "score", "status", "reason", "why")
        for place, row in self._lines("completions.jsonl"):
            missing = [key for key in wanted if key not in row]
            ensure(not missing, f"{place}: has no {', '.join(missing)}. Each row needs {', '.join(wanted)}.")
            ensure(row["case"] in cases, f"{place}: case '{row['case']}' is not in cases.jsonl. Known: {', '.join(cases)}.")
            rows.append(FixtureRow(place, cases[row["case"]], *(row[key] for key in wanted[1:])))
        return rows

    def _lines(self, name: str) -> Iterable[tuple[str, dict[str, Any]]]:
        path = self.folder / "fixtures" / name
        ensure(path.is_file(), f"{path}: is missing. Every pack ships it; see docs of the conformance kit.")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip():
                continue
            place = f"fixtures/{name}:{number}"
            try:
                row = json.loads(line)
            except ValueError as err:
                raise CheckFailed(f"{place}: is not JSON: {err}.") from err
            ensure(isinstance(row, dict), f"{place}: must be a JSON object, got {type(row).__name__}.")
            yield place, row

    def in_new_process(self, code: str, arguments: Sequence[str] = (), *, timeout: float = 120.0) -> str:
        """Standard output of `code` in a fresh interpreter that sees the same packages, with another hash seed.

        Raises CheckFailed: it failed, or did not end within `timeout` wall seconds.
        """
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONHASHSEED": "4242"}
        command = [sys.executable, "-c", code, *arguments]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired as err:
            raise CheckFailed(
                f"in a new process the pack hangs (no end after {timeout:g} s). Run it alone: python -X faulthandler -c 'import {self.module}'."
            ) from err
        last = done.stderr.strip().splitlines()[-1:] or [""]
        ensure(
            done.returncode == 0, f"in a new process the pack fails: {last[0]}. Run it alone: python -c 'import {self.module}'."
        )
        return done.stdout

    @property
    def module(self) -> str:
        """Module that supplies the pack."""
        return self.entry.target.partition(":")[0]


def verdict_of(verifier: Any, completion: str, sample: Sample) -> Verdict:
    """Call a verifier; an exception or a wrong type becomes CheckFailed with the start of the text that caused it."""
    shown = repr(completion[:60]) + ("..." if len(completion) > 60 else "")
    name = getattr(verifier, "name", type(verifier).__name__)
    try:
        verdict = verifier(completion, sample)
    except Exception as err:
        raise CheckFailed(
            f"verifier '{name}' raised {type(err).__name__}: {err} for {shown} on {sample.id}. Return a Verdict."
        ) from err
    ensure(isinstance(verdict, Verdict), f"verifier '{name}' returned {type(verdict).__name__} for {shown}. Return a Verdict.")
    return verdict


def sample_of(item: Sample | Lesson | Document) -> Sample | None:
    """The sample inside an item; None for a document."""
    return item.sample if isinstance(item, Lesson) else item if isinstance(item, Sample) else None


def identity(item: Sample | Lesson | Document) -> str:
    """An item's id."""
    return item.sample.id if isinstance(item, Lesson) else item.id


def as_json(item: Sample | Lesson | Document) -> dict[str, Any]:
    """An item as plain data, media included."""
    if isinstance(item, Document):
        return {
            "id": item.id,
            "text": item.text,
            "media": [m.to_json() for m in item.media],
            "split": item.split,
            "source": item.source,
        }
    if isinstance(item, Lesson):
        return {"sample": item.sample.to_json(), "response": item.response}
    return item.to_json()
