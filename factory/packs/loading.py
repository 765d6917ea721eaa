"""Real data on the user's disk, as documents, lessons and samples. Streamed; bad rows are named and set aside.

Every row belongs to one group (patient, molecule, image ...) and a group to one split: see `factory.data.splits`.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from factory.contracts import DataRequest, Document, Lesson, Sample
from factory.data.declared import file_split, resolve_split
from factory.data.identifiers import cleared
from factory.data.images import media_from
from factory.data.report import MIN_ROWS_FOR_EARLY_STOP
from factory.data.rows import RowFault, RowRef, RowReport, read_rows
from factory.data.splits import check_split, checked_shares
from factory.errors import DataError
from factory.packs.common_shapes import RowShape, convert, refuse_half_characters
from factory.packs.records import Ready, Record, check_placeholders, group_of, to_document, to_lesson, to_sample
from factory.packs.settings import read_settings
from factory.packs.sources import UNREADABLE, Finder, LoadSettings, Sources, Table

T = TypeVar("T")
ALL = "all"
"""Stands for every kind, or every split, when data is checked rather than loaded."""
_WANTED = {"lessons": " (a worked response beside the question)", "samples": " (a short answer that can be checked)"}
"""What a row must have to give one, for the error."""


@dataclass
class Pass:
    """One pass over the data: what is read, how, and which rows are wanted."""

    sources: Sources
    settings: LoadSettings
    options: Mapping[str, Any]
    """All of `pack.*`, for a pack that reads more of it."""
    report: RowReport
    kind: str
    split: str
    seed: int
    seen: set[bytes] = field(default_factory=set)
    """Digests of the ids met so far."""
    offered: Counter[str] = field(default_factory=Counter)
    """What the rows read so far give, wanted or not."""
    identifiers: str = "allow"
    """What is done with texts that may identify a person, see `factory.data.identifiers`."""

    def belongs(self, declared: str | None, group: str) -> str | None:
        """The split of a group, or None when its rows are not wanted in this pass."""
        declared = declared if self.settings.respect_splits else None
        split = resolve_split(declared, group, self.sources.declared, checked_shares(self.settings.splits))
        return split if self.split in (ALL, split) else None

    def cleared(self, ready: Ready) -> Ready:
        """The row without identifiers of persons. Raises RowFault when it has some and they are refused."""
        record, masked = cleared(ready.record, self.identifiers)
        self.report.tallies.update(f"masked {kind}" for kind in masked)
        if not masked:
            return ready
        # Without a column to group by, the group is the row's own text.
        group = f"group={hashlib.blake2b(ready.group.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}"
        return replace(ready, record=record, group=group)

    def wants(self, gives: frozenset[str]) -> bool:
        """True when a row that gives these is of the kind asked for."""
        return self.kind == ALL or self.kind in gives

    def count(self, found: Sequence[Ready]) -> None:
        """Count one good row, and what it gives when it is used."""
        self.report.accept()
        for ready in found:
            self.report.tallies[f"split {ready.split}"] += 1
            self.report.tallies.update(ready.record.gives)


class Loader:
    """Reads any files that a pack knows. One per pack, made at import; it holds no state between loads."""

    def __init__(
        self,
        pack: str,
        shapes: Sequence[RowShape],
        *,
        task_of: Callable[[Record], str],
        settings: type[LoadSettings] = LoadSettings,
        generator_keys: Iterable[str] = (),
        system: Callable[[Mapping[str, Any]], str] = lambda _: "",
        more_rows: Callable[[Pass], Iterator[Ready]] | None = None,
        refuse: Callable[[Sources], None] = lambda _: None,
        patient_data: bool = False,
        **finding: Any,
    ) -> None:
        """
        Args:
            shapes: layouts of rows, from special to general; usually the pack's own, then `common_shapes.COMMON`.
            task_of: the pack's task of a record that names none.
            settings: the pack's loader settings.
            generator_keys: keys of `pack.*` that the generator knows; allowed and passed over here.
            system: from `pack.*` to the system turn for rows that bring none; empty for none.
            more_rows: rows of files that are no tables.
            refuse: raises DataError when the sources lack what their kind needs.
            patient_data: rows may be about patients, so identifiers are refused unless `pack.identifiers` says otherwise.
            finding: further fields of `Finder`: `formats`, `sidecars`, `other_suffixes`, `others_title`.
        """
        self.pack, self.task_of, self.settings = pack, task_of, settings
        self.also = frozenset(generator_keys)
        self.system, self.more_rows, self.refuse, self.patient_data = system, more_rows, refuse, patient_data
        self.finder = Finder(tuple(shapes), **finding)

    @property
    def keys(self) -> frozenset[str]:
        """Keys of `pack.*` that the loader reads; a generator passes them as `also` to `read_settings`."""
        return frozenset(item.name for item in fields(self.settings))

    def read(self, options: Mapping[str, Any]) -> LoadSettings:
        """The loader's settings out of `pack.*`. Raises ConfigError for a key that neither loader nor generator knows."""
        return read_settings(self.settings, options, pack=self.pack, also=self.also)

    def documents(self, request: DataRequest, split: str, seed: int) -> Iterator[Document]:
        """Texts with their images, for continued pretraining.

        Args:
            request: paths, limit and what to do with bad rows; `options` holds the keys of the pack's loader settings.
            split: `train`, `validation` or `test`.
            seed: order of training rows. Validation and test keep the order on disk.

        Raises:
            DataError: unknown shape, too many bad rows, or no row of this kind and split.
        """
        return (to_document(ready) for ready in self._load(request, "documents", split, seed))

    def lessons(self, request: DataRequest, split: str, seed: int) -> Iterator[Lesson]:
        """Questions with worked responses, for supervised fine-tuning. Rows without a system turn get the pack's."""
        system = self.system(request.options)
        return (to_lesson(ready, system) for ready in self._load(request, "lessons", split, seed))

    def samples(self, request: DataRequest, split: str, seed: int) -> Iterator[Sample]:
        """Questions with reference answers, for RL and eval. Rows without a system turn get the pack's."""
        system = self.system(request.options)
        return (to_sample(ready, system) for ready in self._load(request, "samples", split, seed))

    def gives(self, request: DataRequest) -> frozenset[str]:
        """Which of `corpus`, `lessons`, `samples` the paths of a request hold, by the shapes of their tables."""
        found = self.finder.find(request.paths, self.read(request.options), online=request.online).gives
        return frozenset("corpus" if kind == "documents" else kind for kind in found)

    def detect(self, path: str | Path, *, shape: str = "") -> RowShape:
        """The shape of one table; see `Finder.detect`."""
        return self.finder.detect(path, shape=shape)

    def check(self, request: DataRequest) -> RowReport:
        """Read everything below the paths, images included, and report. Bad rows are listed, never raised.

        All bad rows go to `<quarantine_dir>/quarantine-check.jsonl` when the request names that folder.

        Raises:
            DataError: a path does not exist, or a single table has an unknown shape.
        """
        settings = self.read(request.options)
        sources = self.finder.find(request.paths, settings, online=request.online)
        aside = Path(request.quarantine_dir) / "quarantine-check.jsonl" if request.quarantine_dir else None
        report = RowReport(max_bad_fraction=1.0, quarantine_file=aside)
        groups: dict[str, set[bytes]] = {}
        try:
            for ready in self._rows(self._pass(sources, settings, request.options, report, ALL, ALL, 0)):
                groups.setdefault(ready.split, set()).add(hashlib.blake2b(ready.group.encode(), digest_size=8).digest())
        finally:
            report.close()
        for split, members in groups.items():
            report.tallies[f"groups {split}"] = len(members)
        return report

    def preview(self, request: DataRequest, n: int = 3) -> list[Document | Lesson | Sample]:
        """The first `n` rows as the stages would see them; unreadable ones are passed over."""
        settings = self.read(request.options)
        sources = self.finder.find(request.paths, settings, online=request.online)
        shown: list[Document | Lesson | Sample] = []
        for ready in self._rows(self._pass(sources, settings, request.options, RowReport(max_bad_fraction=1.0), ALL, ALL, 0)):
            gives = ready.record.gives
            make = to_document if "documents" in gives else to_lesson if "lessons" in gives else to_sample
            shown.append(make(ready))
            if len(shown) >= n:
                break
        return shown

    def _pass(self, sources: Sources, settings: LoadSettings, *rest: Any) -> Pass:
        made = Pass(sources, settings, *rest)
        made.identifiers = settings.identifiers or ("refuse" if self.patient_data else "allow")
        if self.patient_data and made.identifiers == "allow":
            made.report.note("identifiers of persons were not looked for (pack.identifiers=allow)")
        return made

    def _load(self, request: DataRequest, kind: str, split: str, seed: int) -> Iterator[Ready]:
        """Rows of one kind and split, within the request's limits."""
        check_split(split)
        settings = self.read(request.options)
        sources = self.finder.find(request.paths, settings, online=request.online)
        where = ", ".join(request.paths)
        if kind not in sources.gives and UNREADABLE not in (table.shape for table in sources.tables):
            self.refuse(sources)
            names = sorted({table.shape.name for table in (*sources.tables, *sources.sidecars)})
            raise DataError(
                f"{where}: holds no {kind} (found: {', '.join(names)}). Name data that does, or leave that stage out."
            )
        report = RowReport.for_request(request, f"quarantine-{kind}-{split}")
        this = self._pass(sources, settings, request.options, report, kind, split, seed)
        rows = self._rows(this)
        if split == "train":
            rows = _shuffled(rows, settings.shuffle_buffer, random.Random(f"{self.pack}-order-{seed}"))
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
            raise _nothing(this, where)

    def _rows(self, this: Pass) -> Iterator[Ready]:
        """All wanted rows: tables first, then what is no table."""
        tables = list(this.sources.tables)
        if this.split == "train":
            random.Random(f"{self.pack}-files-{this.seed}").shuffle(tables)
        for table in tables:
            this.report.tallies[f"shape {table.shape.name}"] += 1
            if table.fault:
                this.report.reject_file(RowRef(table.file.name, 0), table.fault)
                continue
            for ref, row in read_rows(table.file, this.report):
                found: list[Ready] = []
                with this.report.row(ref):
                    found = self._ready(this, table, ref, row)
                    this.count(found)
                yield from found
        if self.more_rows is not None:
            yield from self.more_rows(this)

    def _ready(self, this: Pass, table: Table, ref: RowRef, row: Mapping[str, Any]) -> list[Ready]:
        """Convert and check one row: what it gives, less what is not wanted. Raises RowFault."""
        records = convert(row, table.shape, this.settings)
        found = []
        for number, record in enumerate(records):
            turns = (turn.content for turn in record.turns)
            refuse_half_characters(
                record.text, record.response, record.answer, record.group, record.key, record.split, *record.options, *turns
            )
            this.offered.update(record.gives)
            own = record.key if record.key is not None else f"{ref.row}.{number}" if len(records) > 1 else str(ref.row)
            key = ":".join(part for part in (table.file.name, record.meta.get("subset"), own) if part)
            digest = hashlib.blake2b(key.encode("utf-8", errors="surrogatepass"), digest_size=12).digest()
            if digest in this.seen:
                raise RowFault("id", f"{own!r} appears again in this file.")
            this.seen.add(digest)
            said = record.text or (record.turns[-1].content if record.turns else key)
            group = group_of(row, record, this.settings.group_field, fallback=said)
            split = this.belongs(record.split or file_split(table.file), group)
            if split is not None and this.wants(record.gives):
                ready = this.cleared(Ready(key, group, split, f"{table.shape.name} {ref}", record, ()))
                found.append(self._with_media(ready, table, this))
        return found

    def _with_media(self, ready: Ready, table: Table, this: Pass) -> Ready:
        """The row with its images read, or drawn, and its task. Raises RowFault."""
        record, media, settings = ready.record, (), this.settings
        if record.images is not None:
            limits = {"max_pixels": settings.max_image_pixels, "verify": settings.verify_images}
            media = media_from(record.images, table.image_roots(settings), field=record.image_field, **limits)
        media += record.media + (record.draw() if record.draw else ())
        check_placeholders(record, len(media))
        task = "" if record.gives == frozenset({"documents"}) else record.task or self.task_of(record)
        return Ready(ready.id, ready.group, ready.split, ready.source, record, media, task)


def _nothing(this: Pass, where: str) -> DataError:
    """Why a load without a bad file gave nothing."""
    report, kind = this.report, this.kind
    if report.num_good and not this.offered[kind]:
        return DataError(
            f"{where}: none of the {report.num_good} good rows gives {kind}{_WANTED.get(kind, '')}. Leave that stage out, "
            "or add what it needs."
        )
    return DataError(
        f"{where}: no {kind} in split '{this.split}' ({report.num_good} good rows in all, split by group: patient, image and alike). "
        "Give more groups, set the shares in pack.splits, or pack.respect_splits=false if the declared splits leave it empty."
    )


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
