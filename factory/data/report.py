"""What a load found: rows counted, bad rows named and written aside, and the limit above which the load stops."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from factory.contracts import DataRequest
from factory.errors import ConfigError, DataError

log = logging.getLogger(__name__)

MIN_ROWS_FOR_EARLY_STOP = 200
"""The bad fraction is also judged while reading, once this many rows were seen; before that only at the end."""
KEPT_BAD_ROWS = 20
"""Bad rows kept in memory for messages; all of them go to the quarantine file."""
WHOLE_FILE = "file"
"""`field` of a fault that makes the rest of a file unreadable."""


@dataclass(frozen=True, slots=True)
class RowRef:
    """Where a row lies. `row` counts from 1: the line in a text file, else the record; 0 means the whole file."""

    file: str
    row: int

    def __str__(self) -> str:
        return f"{self.file}:{self.row}" if self.row else self.file


@dataclass(frozen=True, slots=True)
class BadRow:
    """One row that cannot be used, and why."""

    file: str
    row: int
    field: str
    reason: str

    def __str__(self) -> str:
        return f"{RowRef(self.file, self.row)}: {self.field}: {self.reason}"


class RowFault(DataError):
    """Raised while one row is read or converted; the loader turns it into a BadRow."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class RowReport:
    """Counts good and bad rows of one load and enforces its limits.

    A fault of a whole file (empty, truncated, not what its name says) counts as a bad row *and* as a bad file, because
    nobody knows how many rows were lost with it: both fractions must stay at or below `max_bad_fraction`.
    """

    def __init__(
        self,
        *,
        on_bad_row: str = "quarantine",
        max_bad_fraction: float = 0.05,
        quarantine_file: Path | None = None,
    ) -> None:
        if on_bad_row not in ("quarantine", "stop"):
            raise ConfigError(f"data.on_bad_row is {on_bad_row!r}; use 'quarantine' or 'stop'.")
        if not 0.0 <= max_bad_fraction <= 1.0:
            raise ConfigError(f"data.max_bad_fraction is {max_bad_fraction}; it is a share between 0 and 1.")
        self.on_bad_row = on_bad_row
        self.max_bad_fraction = max_bad_fraction
        self.quarantine_file = quarantine_file
        self.num_good = 0
        self.num_bad = 0
        self.first_bad: list[BadRow] = []
        self.faults: Counter[str] = Counter()
        """Bad rows by field."""
        self.tallies: Counter[str] = Counter()
        """Anything a loader counts that is not a fault, such as `split train` or `shape pathmmu`."""
        self.notes: list[str] = []
        self.files: set[str] = set()
        self.bad_files: set[str] = set()
        self._quarantine: IO[str] | None = None

    @classmethod
    def for_request(cls, request: DataRequest, name: str) -> RowReport:
        """A report with the request's limits; bad rows go to `<quarantine_dir>/<name>.jsonl`."""
        aside = Path(request.quarantine_dir) / f"{name}.jsonl" if request.quarantine_dir else None
        return cls(on_bad_row=request.on_bad_row, max_bad_fraction=request.max_bad_fraction, quarantine_file=aside)

    @property
    def num_rows(self) -> int:
        """Rows seen so far, good and bad."""
        return self.num_good + self.num_bad

    @property
    def bad_fraction(self) -> float:
        """Bad rows over all rows seen; 0 when there were none."""
        return self.num_bad / self.num_rows if self.num_rows else 0.0

    def open_file(self, file: str) -> None:
        """Record that a file is being read."""
        self.files.add(file)

    def accept(self) -> None:
        """Count one good row."""
        self.num_good += 1

    def reject(self, ref: RowRef, field: str, reason: str) -> None:
        """Count and write aside one bad row. Raises DataError on the first (`stop`) or above the limit."""
        # What a row says may hold signs that no terminal and no file takes (half of a character), so they are written out.
        bad = BadRow(ref.file, ref.row, *(text.encode("utf-8", "backslashreplace").decode() for text in (field, reason)))
        self.num_bad += 1
        self.faults[field] += 1
        if len(self.first_bad) < KEPT_BAD_ROWS:
            self.first_bad.append(bad)
        self._write_aside(bad)
        if self.on_bad_row == "stop":
            raise DataError(f"{bad} Mend the row, or set data.on_bad_row=quarantine to set such rows aside.")
        if self.num_rows >= MIN_ROWS_FOR_EARLY_STOP:
            self._check_rows()

    def reject_file(self, ref: RowRef, reason: str) -> None:
        """Count a fault after which the rest of a file cannot be read. Raises DataError like `reject`."""
        self.files.add(ref.file)
        self.bad_files.add(ref.file)
        self.reject(ref, WHOLE_FILE, reason)

    def note(self, text: str) -> None:
        """Keep a remark for the reader of the report, once."""
        if text not in self.notes:
            self.notes.append(text)
            log.info("%s", text)

    @contextmanager
    def row(self, ref: RowRef) -> Iterator[None]:
        """Turn a RowFault raised inside the block into a bad row of `ref`."""
        try:
            yield
        except RowFault as fault:
            self.reject(ref, fault.field, fault.reason)

    def finish(self) -> None:
        """Close the quarantine file and check the limits. Raises DataError above `max_bad_fraction`."""
        self.close()
        self._check_rows()
        if self.bad_files and len(self.bad_files) / len(self.files) > self.max_bad_fraction:
            raise DataError(self._limit_message(f"{len(self.bad_files)} of {len(self.files)} files cannot be read to their end"))
        if self.num_bad:
            log.warning("%d of %d rows set aside%s; first: %s", self.num_bad, self.num_rows, self._aside(), self.first_bad[0])

    def close(self) -> None:
        """Close the quarantine file; a file left by an earlier load without faults now is removed."""
        target = self.quarantine_file
        if target is None:
            return
        if self._quarantine is not None:
            self._quarantine.close()
            self._quarantine = None
            os.replace(self._part(), target)
        elif not self.num_bad:
            target.unlink(missing_ok=True)

    def to_json(self) -> dict[str, Any]:
        """A plain mapping for `--json` output and run records."""
        return {
            "rows": self.num_rows, "good": self.num_good, "bad": self.num_bad, "bad_fraction": self.bad_fraction,
            "files": len(self.files), "bad_files": sorted(self.bad_files), "faults": dict(self.faults),
            "first_bad": [asdict(bad) for bad in self.first_bad], "tallies": dict(sorted(self.tallies.items())),
            "notes": list(self.notes), "quarantine_file": str(self.quarantine_file) if self.quarantine_file else None,
        }  # fmt: skip

    def _check_rows(self) -> None:
        if self.bad_fraction > self.max_bad_fraction:
            raise DataError(self._limit_message(f"{self.num_bad} of {self.num_rows} rows are bad"))

    def _limit_message(self, what: str) -> str:
        shown = "\n  ".join(str(bad) for bad in self.first_bad[:5])
        return (
            f"{what}, above data.max_bad_fraction={self.max_bad_fraction}. First:\n  {shown}\n"
            f"Mend them{self._aside()}, or raise data.max_bad_fraction if they may be left out."
        )

    def _aside(self) -> str:
        return f" (all are listed in {self.quarantine_file})" if self.quarantine_file else ""

    def _part(self) -> Path:
        assert self.quarantine_file is not None
        return self.quarantine_file.with_name(f"{self.quarantine_file.name}.{os.getpid()}.part")

    def _write_aside(self, bad: BadRow) -> None:
        if self.quarantine_file is None:
            return
        if self._quarantine is None:
            self.quarantine_file.parent.mkdir(parents=True, exist_ok=True)
            self._quarantine = self._part().open("w", encoding="utf-8", buffering=1)
        # Only where and why: the row itself may hold patient data and stays where it was.
        self._quarantine.write(json.dumps(asdict(bad), ensure_ascii=False) + "\n")
