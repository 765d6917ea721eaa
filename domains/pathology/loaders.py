"""Real pathology data on the user's disk, as documents, lessons and samples. Streamed; bad rows are named and set aside.

Tables: see `loaders_shapes`. Slides: a folder of slides with a CSV `slide_id,caption` or `slide_id,label` beside them.
Every row belongs to one group (patient, slide or image) and a group to one split: see `factory.data.splits`.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from factory.contracts import DataRequest, Document, Lesson, Sample
from factory.data.declared import file_split, resolve_split
from factory.data.images import media_from
from factory.data.report import MIN_ROWS_FOR_EARLY_STOP
from factory.data.rows import RowFault, RowRef, RowReport, read_rows
from factory.data.splits import check_split, checked_shares
from factory.domains.pathology.loaders_items import Ready, check_placeholders, group_of, to_document, to_lesson, to_sample
from factory.domains.pathology.loaders_shapes import convert
from factory.domains.pathology.loaders_slides import (
    label_options,
    refuse_bare_slides,
    report_bare_slides,
    slide_group,
    slide_rows,
    tile_record,
    tiles_of,
)
from factory.domains.pathology.loaders_sources import (
    UNREADABLE,
    LoadOptions,
    Sources,
    Table,
    detect,
    find_sources,
    read_options,
    system_turn,
)
from factory.domains.pathology.tiles import TileOptions
from factory.errors import DataError

__all__ = ["check", "check_request", "detect", "gives", "load_documents", "load_lessons", "load_samples", "preview"]

T = TypeVar("T")
ALL = "all"
"""Stands for every kind, or every split, when data is checked rather than loaded."""


def load_documents(request: DataRequest, split: str, seed: int) -> Iterator[Document]:
    """Captions with their images, for continued pretraining.

    Args:
        request: paths, limit and what to do with bad rows; `options` holds the keys of `LoadOptions` and `TileOptions`.
        split: `train`, `validation` or `test`.
        seed: order of training rows and choice of tiles. Validation and test keep the order on disk.

    Raises:
        DataError: unknown shape, too many bad rows, or no row of this kind and split.
    """
    return (to_document(ready) for ready in _load(request, "documents", split, seed))


def load_lessons(request: DataRequest, split: str, seed: int) -> Iterator[Lesson]:
    """Questions with worked responses, for supervised fine-tuning. Rows without a system turn get that of `pack.system`."""
    system = system_turn(request.options)
    return (to_lesson(ready, system) for ready in _load(request, "lessons", split, seed))


def load_samples(request: DataRequest, split: str, seed: int) -> Iterator[Sample]:
    """Questions with reference answers, for RL and eval: tasks `choice`, `yes_no` and `finding`. System turn as for lessons."""
    system = system_turn(request.options)
    return (to_sample(ready, system) for ready in _load(request, "samples", split, seed))


def gives(request: DataRequest) -> frozenset[str]:
    """Which of `documents`, `lessons`, `samples` the paths of a request hold, by the shapes of their tables."""
    return find_sources(request.paths, read_options(request.options)[0], online=request.online).gives


def check(
    paths: Sequence[str], *, options: Mapping[str, Any] | None = None, quarantine_file: Path | None = None, online: bool = False
) -> RowReport:
    """Read everything below the paths, images and slides included, and report. Bad rows are listed, never raised.

    Raises:
        DataError: a path does not exist, or a table has an unknown shape.
    """
    load, tiling = read_options(options or {})
    sources = find_sources(tuple(paths), load, online=online)
    report = RowReport(max_bad_fraction=1.0, quarantine_file=quarantine_file)
    groups: dict[str, set[bytes]] = {}
    try:
        for ready in _rows(_Pass(sources, load, tiling, report, ALL, ALL, 0)):
            groups.setdefault(ready.split, set()).add(hashlib.blake2b(ready.group.encode(), digest_size=8).digest())
    finally:
        report.close()
    for split, members in groups.items():
        report.tallies[f"groups {split}"] = len(members)
    return report


def check_request(request: DataRequest) -> RowReport:
    """`check` for a DataRequest; all bad rows go to `<quarantine_dir>/quarantine-check.jsonl`."""
    aside = Path(request.quarantine_dir) / "quarantine-check.jsonl" if request.quarantine_dir else None
    return check(request.paths, options=request.options, quarantine_file=aside, online=request.online)


def preview(paths: Sequence[str], n: int = 3, *, options: Mapping[str, Any] | None = None) -> list[Document | Lesson | Sample]:
    """The first `n` rows as the stages would see them; unreadable ones are passed over."""
    load, tiling = read_options(options or {})
    report = RowReport(max_bad_fraction=1.0)
    shown: list[Document | Lesson | Sample] = []
    for ready in _rows(_Pass(find_sources(tuple(paths), load), load, tiling, report, ALL, ALL, 0)):
        make = to_document if "documents" in ready.record.gives else to_lesson if "lessons" in ready.record.gives else to_sample
        shown.append(make(ready))
        if len(shown) >= n:
            break
    return shown


def _load(request: DataRequest, kind: str, split: str, seed: int) -> Iterator[Ready]:
    """Rows of one kind and split, within the request's limits."""
    check_split(split)
    load, tiling = read_options(request.options)
    sources = find_sources(request.paths, load, online=request.online)
    where = ", ".join(request.paths)
    if kind not in sources.gives and UNREADABLE not in (table.shape for table in sources.tables):
        refuse_bare_slides(sources)
        names = sorted({table.shape.name for table in (*sources.tables, *sources.sidecars)})
        raise DataError(f"{where}: holds no {kind} (found: {', '.join(names)}). Name data that does, or leave that stage out.")
    report = RowReport.for_request(request, f"quarantine-{kind}-{split}")
    this = _Pass(sources, load, tiling, report, kind, split, seed)
    rows = _rows(this)
    if split == "train":
        rows = _shuffled(rows, load.shuffle_buffer, random.Random(f"pathology-order-{seed}"))
    count = 0
    try:
        for ready in rows:
            if request.limit is not None and count >= request.limit:
                break
            count += 1
            yield ready
    finally:
        report.close()
    # A load cut short by its limit has seen too little for a small fraction to mean anything.
    if request.limit is None or count < request.limit or report.num_rows >= MIN_ROWS_FOR_EARLY_STOP:
        report.finish()
    if not count and request.limit != 0:
        if report.num_good and not this.offered[kind]:
            raise DataError(
                f"{where}: none of the {report.num_good} good rows gives {kind}{_WANTED.get(kind, '')}. Leave that stage out, "
                "or add what it needs."
            )
        raise DataError(
            f"{where}: no {kind} in split '{split}' ({report.num_good} good rows in all, split by patient, slide or image). "
            "Give more groups, set the shares in pack.splits, or pack.respect_splits=false if the declared splits leave it empty."
        )


_WANTED = {"lessons": " (a worked response beside the question)", "samples": " (a short answer that can be checked)"}
"""What a row must have to give one, for the error."""


def _shuffled(items: Iterator[T], size: int, rng: random.Random) -> Iterator[T]:
    """Draw at random from a window of `size` items: bounded memory, a fixed order for a fixed seed."""
    window: list[T] = []
    for item in items:
        window.append(item)
        if len(window) >= size:
            place = rng.randrange(len(window))
            window[place], window[-1] = window[-1], window[place]
            yield window.pop()
    rng.shuffle(window)
    yield from window


@dataclass
class _Pass:
    """One pass over the data: what is read, how, and which rows are wanted."""

    sources: Sources
    load: LoadOptions
    tiling: TileOptions
    report: RowReport
    kind: str
    split: str
    seed: int
    seen: set[bytes] = field(default_factory=set)
    """Digests of the ids met so far."""
    offered: Counter[str] = field(default_factory=Counter)
    """What the rows read so far give, wanted or not."""

    def belongs(self, declared: str | None, group: str) -> str | None:
        """The split of a group, or None when its rows are not wanted in this pass."""
        declared = declared if self.load.respect_splits else None
        split = resolve_split(declared, group, self.sources.declared, checked_shares(self.load.splits))
        return split if self.split in (ALL, split) else None

    def wants(self, gives: frozenset[str]) -> bool:
        """True when a row that gives these is of the kind asked for."""
        return self.kind == ALL or self.kind in gives

    def count(self, ready: Ready | None) -> None:
        """Count a good row, and what it gives when it is used."""
        self.report.accept()
        if ready is not None:
            self.report.tallies[f"split {ready.split}"] += 1
            self.report.tallies.update(ready.record.gives)


def _rows(this: _Pass) -> Iterator[Ready]:
    """All wanted rows: tables first, then slides."""
    tables = list(this.sources.tables)
    if this.split == "train":
        random.Random(f"pathology-files-{this.seed}").shuffle(tables)
    for table in tables:
        this.report.tallies[f"shape {table.shape.name}"] += 1
        if table.fault:
            this.report.reject_file(RowRef(table.file.name, 0), table.fault)
            continue
        for ref, row in read_rows(table.file, this.report):
            ready = None
            with this.report.row(ref):
                ready = _ready(this, table, ref, row)
                this.count(ready)
            if ready is not None:
                yield ready
    yield from _slide_tiles(this)


def _ready(this: _Pass, table: Table, ref: RowRef, row: Mapping[str, Any]) -> Ready | None:
    """Convert and check one row; None when it is not wanted. Raises RowFault."""
    record = convert(row, table.shape)
    this.offered.update(record.gives)
    own = record.key if record.key is not None else str(ref.row)
    key = ":".join(part for part in (table.file.name, record.meta.get("subset"), own) if part)
    digest = hashlib.blake2b(key.encode("utf-8", errors="surrogatepass"), digest_size=12).digest()
    if digest in this.seen:
        raise RowFault("id", f"{own!r} appears again in this file.")
    this.seen.add(digest)
    group = group_of(row, record, this.load.group_field, fallback=record.text or record.turns[-1].content)
    split = this.belongs(record.split or file_split(table.file), group)
    if split is None or not this.wants(record.gives):
        return None
    media = ()
    if record.images is not None:
        roots, checks = table.image_roots(this.load), (this.load.max_image_pixels, this.load.verify_images)
        media = media_from(record.images, roots, field=record.image_field, max_pixels=checks[0], verify=checks[1])
    check_placeholders(record, len(media))
    return Ready(key, group, split, f"{table.shape.name} {ref}", record, media)


def _slide_tiles(this: _Pass) -> Iterator[Ready]:
    """Tiles of the slides whose patient belongs to the wanted split; a tile is a row."""
    if this.kind == ALL and this.sources.slides and not this.sources.sidecars:
        report_bare_slides(this.sources, this.tiling, this.report)
        return
    for kind in ("documents", "samples"):
        if not (this.sources.slides or this.sources.sidecars) or not this.wants(frozenset({kind})):
            continue
        rows = slide_rows(this.sources, kind, this.report)
        labels = label_options(rows) if kind == "samples" and rows else ()
        for made in rows:
            group = slide_group(made, this.load.group_field)
            split = this.belongs(str(made.row.get("split") or ""), group)
            if split is None:
                continue
            for tile, media in tiles_of(made, this.tiling, this.seed, this.report, probe=this.kind == ALL):
                record = tile_record(made, tile, labels, this.load)
                ready = Ready(tile.key, group, split, f"slide {made.file.name}", record, (media,))
                this.count(ready)
                yield ready
