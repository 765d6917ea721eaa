"""Completions on disk or stdin, joined with their samples, scored in the worker pool a chunk at a time."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.contracts import SPLITS, DataRequest, DomainPack, Sample, Verdict
from factory.errors import ConfigError, DataError, FactoryError

if TYPE_CHECKING:
    from factory.data.files import DataFile
    from factory.data.report import RowReport
    from factory.rewards.mixture import Mixture, Reward
    from factory.rewards.pool import VerifierPool

CHUNK = 512
"""Rows in the pool at once."""
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Row:
    """One completion to score, and where it stands."""

    place: str
    """`file:row`."""
    id: str
    completion: str
    sample: Sample


@dataclass(frozen=True, slots=True)
class Scored:
    """One row with its verdicts."""

    row: Row
    verdicts: Mapping[str, Verdict]
    reward: Reward | None
    """None when single verifiers were asked for."""

    def to_json(self) -> dict[str, Any]:
        """One line of `--out`."""
        found: dict[str, Any] = {"id": self.row.id, "row": self.row.place, "task": self.row.sample.task}
        if self.reward is not None:
            found |= {"reward": None if self.reward.masked else self.reward.value, "masked": self.reward.masked,
                      "gated": self.reward.gated}  # fmt: skip
        return found | {"verdicts": {name: verdict_to_json(verdict) for name, verdict in self.verdicts.items()}}


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain data; a masked one has no score."""
    score = None if verdict.status.is_masked else verdict.score
    return {"score": score, "status": verdict.status.value, "reason": verdict.reason, "parts": dict(verdict.parts)}


@contextmanager
def files_of(paths: Sequence[str]) -> Iterator[list[DataFile]]:
    """The tables that the paths name; `-` is stdin, as JSON lines. Raises DataError for a missing path."""
    from factory.data.files import DataFile, list_files

    named = [path for path in paths if path != STDIN]
    files = [file for file in list_files(named) if file.kind is not None] if named else []
    if named and not files:
        raise DataError(f"{', '.join(named)}: holds no table. Give JSON lines (.jsonl), JSON, CSV or parquet with completions.")
    if STDIN not in paths:
        yield files
        return
    with tempfile.TemporaryDirectory(prefix="factory-verify-") as folder:
        spool = Path(folder) / "stdin.jsonl"
        with spool.open("wb") as target:
            shutil.copyfileobj(sys.stdin.buffer, target)
        yield [*files, DataFile(spool, "<stdin>", "jsonl")]


class SampleFinder:
    """Samples by id: those of the pack's fixtures, then those of its data, drawn once and as far as needed.

    Args:
        limit: samples looked at per split.
    """

    def __init__(self, pack: DomainPack, cases: Mapping[str, Sample], request: DataRequest, seed: int, limit: int) -> None:
        self._held = dict(cases)
        self._limit = limit
        self._draws = self._all(pack, replace(request, limit=limit), seed)

    def find(self, wanted: str) -> Sample | None:
        """The sample of this id, or None."""
        while wanted not in self._held:
            sample = next(self._draws, None)
            if sample is None:
                return None
            self._held.setdefault(sample.id, sample)
        return self._held[wanted]

    def _all(self, pack: DomainPack, request: DataRequest, seed: int) -> Iterator[Sample]:
        for split in SPLITS:
            yield from islice(pack.samples(split, seed, request), self._limit)


def read_completions(files: Iterable[DataFile], finder: SampleFinder, mixture: Mixture, report: RowReport) -> Iterator[Row]:
    """Every usable row; the others are rejected in `report` with file, row, field and reason.

    A row is `{"sample": {...}, "completion": text}` or `{"id": text, "completion": text}`. A completion may also be a list of
    chat messages, of which the last one counts.
    """
    from factory.data.rows import read_rows

    for file in files:
        for ref, row in read_rows(file, report):
            with report.row(ref):
                completion = _completion(row)
                sample = _sample(row, finder)
                _check_task(sample, mixture)
                report.accept()
                yield Row(str(ref), str(row.get("id") or sample.id), completion, sample)


def _fault(field: str, reason: str) -> Exception:
    from factory.data.report import RowFault

    return RowFault(field, reason)


def _completion(row: Mapping[str, Any]) -> str:
    value = row.get("completion")
    if isinstance(value, list) and value and isinstance(value[-1], Mapping):
        value = value[-1].get("content")
    if not isinstance(value, str):
        told = "missing" if "completion" not in row else f"must be text, got {type(value).__name__}"
        raise _fault("completion", f"{told}. Write what the model answered under 'completion'.")
    return value


def _sample(row: Mapping[str, Any], finder: SampleFinder) -> Sample:
    value = row.get("sample")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as err:
            raise _fault("sample", f"is not JSON: {err}.") from err
    if value is None:
        if not isinstance(row.get("id"), str | int) or isinstance(row.get("id"), bool):
            raise _fault("id", "missing. A row needs a 'sample', or the 'id' of one of the pack's or of --data.")
        sample = finder.find(str(row["id"]))
        if sample is None:
            raise _fault("id", f"there is no sample '{row['id']}'. Give its data with --data, or more with --search.")
        return sample
    if not isinstance(value, Mapping):
        raise _fault("sample", f"must be an object, got {type(value).__name__}.")
    try:
        sample = Sample.from_json(value)
    except KeyError as err:
        raise _fault(f"sample.{err.args[0]}", "missing. Write samples with Sample.to_json().") from err
    except (TypeError, ValueError, AttributeError, DataError) as err:
        raise _fault("sample", f"is no sample: {err}. Write it with Sample.to_json().") from err
    for name in ("id", "task"):
        if not isinstance(getattr(sample, name), str):
            raise _fault(f"sample.{name}", f"must be text, got {type(getattr(sample, name)).__name__}.")
    return sample


def _check_task(sample: Sample, mixture: Mixture) -> None:
    try:
        mixture.of(sample.task)
    except ConfigError as err:
        raise _fault("sample.task", str(err)) from err


def score_rows(rows: Iterable[Row], pool: VerifierPool, mixture: Mixture, only: Sequence[str] = ()) -> Iterator[Scored]:
    """Score rows in their order, a chunk at a time.

    Args:
        only: run these verifiers and combine nothing; by default those of each sample's task.

    Raises RewardError when a verifier fails too often.
    """
    rows = iter(rows)
    while chunk := list(islice(rows, CHUNK)):
        items = [(row.completion, row.sample, _to_run(row.sample.task, mixture, only)) for row in chunk]
        for row, verdicts in zip(chunk, pool.score(items), strict=True):
            if only:
                yield Scored(row, {name: verdict for name, verdict in verdicts.items() if name in only}, None)
            else:
                yield Scored(row, verdicts, mixture.combine(row.sample.task, verdicts))


def _to_run(task: str, mixture: Mixture, only: Sequence[str]) -> tuple[str, ...]:
    """Verifiers to run: those asked for; where a judge of the task is among them, also the rules that it stands behind."""
    judges = {name for name in only if any(name in mix.judges for mix in mixture.tasks.values())}
    if not only or judges & mixture.of(task).judges:
        return tuple(dict.fromkeys((*mixture.verifiers_for(task), *(name for name in only if name not in judges))))
    return tuple(name for name in only if name not in judges)


def write_lines(path: Path, rows: Iterable[Scored]) -> Iterator[Scored]:
    """Pass rows on and write each as a JSON line; the file is complete or not there. Raises ConfigError when it cannot be written."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            for row in rows:
                # ASCII, so that lone surrogates in reasons can be written.
                file.write(json.dumps(row.to_json(), ensure_ascii=True) + "\n")
                yield row
        part.replace(path)
    except FactoryError:
        raise
    except OSError as err:
        raise ConfigError(f"--out {path}: cannot be written: {err.strerror}. Name a file in a folder that exists.") from err
    finally:
        part.unlink(missing_ok=True)
