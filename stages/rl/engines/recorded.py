"""An engine that plays back rollouts from a JSONL file, for tests and for replaying a run's update step by itself.

    {"sample": id, "ids": [int], "logprobs": [float], "finished": bool, "version": int, "entropy": float|null}

Rollouts of one sample are played in file order, the first `group_size` of them for every request.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from factory.errors import DataError
from factory.stages.rl.engines.protocol import WeightSource
from factory.stages.rl.rollouts import Request, Rollout, Sampling


class RecordedEngine:
    """Plays back a file. Its weight version is the one recorded, so a changed policy shows as stale rollouts."""

    def __init__(self, path: Path) -> None:
        """Raises DataError naming file and line when a row is missing a field or is not JSON."""
        self._path = path
        self._rows = _read(path)

    def generate(self, requests: Sequence[Request], sampling: Sampling, *, seed: int) -> Iterator[Rollout]:
        """Yield the recorded rollouts; `seed` has no effect. Raises DataError for a sample with too few of them."""
        for request in requests:
            rows = self._rows.get(request.sample.id, [])
            if len(rows) < sampling.group_size:
                raise DataError(
                    f"{self._path}: sample {request.sample.id!r} has {len(rows)} recorded rollouts, "
                    f"group_size is {sampling.group_size}. Record more, or lower group_size."
                )
            for index in range(sampling.group_size):
                row = rows[index]
                yield Rollout(
                    place=request.place, index=index, ids=list(row["ids"]), logprobs=list(row["logprobs"]),
                    finished=row["finished"], version=row["version"], entropy=row.get("entropy"),
                )  # fmt: skip

    def sync(self, weights: WeightSource) -> int:
        """A recording has no weights to change; returns the newest version it was made with."""
        return max((row["version"] for rows in self._rows.values() for row in rows), default=0)

    def close(self) -> None:
        """Nothing is held."""


def write_recording(path: Path, rows: Iterable[tuple[str, Rollout]]) -> None:
    """Write (sample id, rollout) pairs as `RecordedEngine` reads them."""
    with path.open("w", encoding="utf-8") as file:
        for sample_id, rollout in rows:
            row = {
                "sample": sample_id, "ids": rollout.ids, "logprobs": rollout.logprobs, "finished": rollout.finished,
                "version": rollout.version, "entropy": rollout.entropy,
            }  # fmt: skip
            file.write(json.dumps(row) + "\n")


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as err:
        raise DataError(f"{path}: cannot read the recorded rollouts: {err.strerror}. Check engine=recorded:FILE.") from err
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if len(row["ids"]) != len(row["logprobs"]) or not row["ids"]:
                raise ValueError(f"{len(row['ids'])} ids and {len(row['logprobs'])} logprobs")
            row["finished"], row["version"] = bool(row["finished"]), int(row["version"])
            rows[row["sample"]].append(row)
        except (ValueError, KeyError, TypeError) as err:
            raise DataError(f"{path}:{number}: not a recorded rollout ({err!r}). Write it with write_recording.") from err
    return rows
