"""The user's series as documents, lessons and samples. Which files: see `files_*`; how rows become questions: `loaders_records`.

Beyond the shared Loader: one data set in several formats is read once, exact copies are reported, altered copies are made of
training series only, and generated documents may be mixed into the corpus.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from factory.contracts import DataRequest, Document, Lesson, Sample
from factory.data.files import FileFormat
from factory.data.report import RowReport
from factory.data.rows import RowRef, read_rows
from factory.domains.timeseries import generator
from factory.domains.timeseries.files_records import read_tsf, read_wfdb
from factory.domains.timeseries.files_tables import TableLayout, read_csv_series, read_parquet_series
from factory.domains.timeseries.files_ts import read_ts, scan
from factory.domains.timeseries.files_ucr import read_arff, read_tsv, read_txt
from factory.domains.timeseries.loaders_records import SHAPES, SeriesSettings, group_of_values, task_of
from factory.domains.timeseries.options import Options
from factory.domains.timeseries.reading import SERIES
from factory.domains.timeseries.showing import system_turn
from factory.packs.common_shapes import COMMON
from factory.packs.loading import Loader, Pass
from factory.packs.records import Ready
from factory.packs.settings import read_settings
from factory.packs.sources import Table

GENERATOR_KEYS = frozenset(item.name for item in fields(Options)) - frozenset(item.name for item in fields(SeriesSettings))
MOST_AFTER_COPIES = 4000
"""Series of one file, altered copies included, above which no more copies are made."""
PREFERRED = ("ts", "ucr-tsv", "ucr-txt", "arff")
"""Where a folder holds one table in several formats, the first of these is read."""


def formats(layout: TableLayout) -> tuple[FileFormat, ...]:
    """Kinds of files that this pack reads itself."""
    return (
        FileFormat("ts", (".ts",), "UCR/UEA and TimerBed (.ts)", read_ts),
        FileFormat("arff", (".arff",), "Weka (.arff)", read_arff),
        FileFormat("ucr-tsv", (".tsv",), "UCR, label first (.tsv)", read_tsv),
        FileFormat("ucr-txt", (".txt",), "UCR text, or one value per line (.txt)", read_txt),
        FileFormat("series-csv", (".csv",), "CSV of series, long or wide (.csv)", partial(read_csv_series, layout=layout)),
        FileFormat(
            "series-parquet", (".parquet", ".pq"), "Parquet of series (.parquet)", partial(read_parquet_series, layout=layout)
        ),
        FileFormat("wfdb", (".hea",), "WFDB record (.hea)", read_wfdb),
        FileFormat("tsf", (".tsf",), "Monash forecasting (.tsf)", read_tsf),
    )


class SeriesLoader(Loader):
    """The shared Loader with this pack's three additions. Made anew for each request, because `pack.columns` shapes its readers."""

    def check(self, request: DataRequest) -> RowReport:
        """As `Loader.check`; notes exact copies and headers that the rows contradict."""
        report = super().check(request)
        sources = self.finder.find(request.paths, self.read(request.options), online=request.online)
        for table in sources.tables:
            if table.fault or table.file.name in report.bad_files:
                continue
            if table.file.kind == "ts":
                for lie in scan(table.file.path).lies:
                    report.note(f"{table.file.name}: {lie}. The rows are believed.")
            self._note_copies(table, report)
        return report

    def _note_copies(self, table: Table, report: RowReport) -> None:
        rows: dict[str, list[int]] = defaultdict(list)
        for ref, row in read_rows(table.file, RowReport(max_bad_fraction=1.0)):
            if SERIES in row:
                rows[group_of_values(row[SERIES].values)].append(ref.row)
        copies = [numbers for numbers in rows.values() if len(numbers) > 1]
        if copies:
            total = sum(map(len, rows.values()))
            report.tallies[f"copies {table.file.name}"] = total - len(rows)
            shown = "; ".join(", ".join(map(str, numbers)) for numbers in copies[:3])
            report.note(f"{table.file.name}: {len(rows)} of {total} series are distinct; equal are rows {shown}"
                        f"{' ...' if len(copies) > 3 else ''}. Copies share a split.")  # fmt: skip

    def _rows(self, this: Pass) -> Iterator[Ready]:
        kept = _one_format_each(this.sources.tables, this.report)
        self._copies = {table.file.name: _copies_of(table, this) for table in kept}
        yield from super()._rows(replace(this, sources=replace(this.sources, tables=kept)))

    def _ready(self, this: Pass, table: Table, ref: RowRef, row: Mapping[str, Any]) -> list[Ready]:
        settings = replace(this.settings, augment=self._copies[table.file.name])  # type: ignore[call-arg]
        found = super()._ready(replace(this, settings=settings), table, ref, row)
        return [ready for ready in found if ready.split == "train" or not ready.record.meta.get("copy")]


def _copies_of(table: Table, this: Pass) -> int:
    """Altered copies of each series of a table: `pack.augment`, fewer for a large table, none outside of training."""
    wanted = this.settings.augment  # type: ignore[attr-defined]
    if not wanted or this.split != "train" or table.fault:
        return 0
    num_series = sum(1 for _ in read_rows(table.file, RowReport(max_bad_fraction=1.0)))
    return min(wanted, max(0, MOST_AFTER_COPIES // max(1, num_series) - 1))


def _one_format_each(tables: tuple[Table, ...], report: RowReport) -> tuple[Table, ...]:
    """One table per folder and stem: `GunPoint_TRAIN` as .ts, .tsv and .arff is read once."""
    best: dict[tuple[Path, str], Table] = {}
    counts: Counter[tuple[Path, str]] = Counter()
    for table in tables:
        key = (table.file.path.parent, table.file.path.name.split(".")[0])
        if table.file.kind not in PREFERRED:
            key = (table.file.path, "")
        counts[key] += 1
        held = best.get(key)
        if held is None or PREFERRED.index(str(table.file.kind)) < PREFERRED.index(str(held.file.kind)):
            best[key] = table
    for key, count in counts.items():
        if count > 1:
            report.note(f"{best[key].file.name}: read; the same data set in {count - 1} other format(s) beside it is left out.")
    chosen = set(map(id, best.values()))
    return tuple(table for table in tables if id(table) in chosen)


def loader(request: DataRequest) -> SeriesLoader:
    """The loader of one request. Raises ConfigError for a wrong `pack.*`."""
    settings = read_settings(SeriesSettings, request.options, pack=generator.PACK, also=GENERATOR_KEYS)
    layout = TableLayout(settings.layout, settings.columns, settings.header)
    return SeriesLoader(
        generator.PACK, (*SHAPES, *COMMON), task_of=task_of, settings=SeriesSettings, generator_keys=GENERATOR_KEYS,
        system=lambda _: system_turn(settings, "classify" if settings.task in ("auto", "classify") else settings.task),
        formats=formats(layout),
    )  # fmt: skip


def load_documents(request: DataRequest, split: str, seed: int) -> Iterator[Document]:
    """Captions of the user's series; `pack.synthetic` is the share of generated documents among them (training only)."""
    found = loader(request)
    settings = found.read(request.options)
    real = found.documents(request, split, seed)
    if split != "train" or settings.synthetic == 0.0:  # type: ignore[attr-defined]
        return real
    known = {item.name for item in fields(Options)}
    options = {key: value for key, value in request.options.items() if key in known}
    made = generator.documents(split, seed, DataRequest(limit=request.limit or generator.SIZES["corpus"], options=options))
    return _mixed(real, made, settings.synthetic, request.limit)  # type: ignore[attr-defined]


def _mixed(real: Iterator[Document], made: Iterator[Document], share: float, limit: int | None) -> Iterator[Document]:
    """Documents of both kinds at an even pace, `share` of them made, until the real ones are used up or `limit` is reached."""
    debt, count = 0.0, 0
    for document in real:
        yield document
        count += 1
        debt += share / (1.0 - share)
        while debt >= 1.0 and (limit is None or count < limit):
            following = next(made, None)
            if following is None:
                break
            yield following
            count += 1
            debt -= 1.0
        if limit is not None and count >= limit:
            return


def load_lessons(request: DataRequest, split: str, seed: int) -> Iterator[Lesson]:
    """Questions on the user's series with what was measured as worked response."""
    return loader(request).lessons(request, split, seed)


def load_samples(request: DataRequest, split: str, seed: int) -> Iterator[Sample]:
    """Questions on the user's series."""
    return loader(request).samples(request, split, seed)
