"""Slides with their sidecar table as rows: tiles with the slide's caption, or tiles that ask for the slide's label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from factory.contracts import Media
from factory.data.files import DataFile
from factory.data.rows import RowFault, RowRef, RowReport, read_rows
from factory.data.shapes import text_cell
from factory.domains.pathology.slides import SlideReader, open_slide, privacy_notes, slide_mpp
from factory.domains.pathology.tiles import Tile, TileOptions, cut_tile, encode, plan_tiles
from factory.errors import DataError
from factory.packs.choices import LETTERS
from factory.packs.common_shapes import CAPTION_COLUMNS
from factory.packs.records import DOCUMENTS, SAMPLES, Record, group_of
from factory.packs.sources import Sources, Table


@dataclass(frozen=True)
class SlideRow:
    """One row of a sidecar with the slide it names."""

    slide_id: str
    file: DataFile
    row: Mapping[str, Any]
    caption: str = ""
    label: str = ""


def slide_rows(sources: Sources, kind: str, report: RowReport) -> list[SlideRow]:
    """Rows of the sidecars that give `kind`, each with its slide's file. Slides that no row names are noted.

    Raises:
        DataError: there are slides but no sidecar at all, or the report's limits are exceeded.
    """
    refuse_bare_slides(sources)
    known = _by_id(sources.others)
    found: dict[tuple[str, str], SlideRow] = {}
    for table in sources.sidecars:
        if kind not in table.shape.gives:
            continue
        for ref, row in read_rows(table.file, report):
            with report.row(ref):
                made = _slide_row(row, table, known)
                if (made.slide_id, table.shape.name) in found:
                    raise RowFault("slide_id", f"{made.slide_id!r} appears again.")
                found[made.slide_id, table.shape.name] = made
    named = {_place(made.file) for made in found.values()}
    unnamed = [file.name for file in sources.others if _place(file) not in named]
    if unnamed and found:
        report.note(f"{len(unnamed)} slides are in no row of the sidecar and are not used, such as {unnamed[0]}.")
    return list(found.values())


_BARE = (
    "slides need a table beside them that says what they show: a CSV with the columns slide_id,caption or slide_id,label "
    "(and patient_id, so that a patient stays in one split)."
)


def refuse_bare_slides(sources: Sources) -> None:
    """Raise DataError when there are slides and nothing that says what they show."""
    if sources.others and not sources.sidecars:
        raise DataError(f"{sources.others[0].name}: {_BARE}")


def report_bare_slides(sources: Sources, tiling: TileOptions, report: RowReport) -> None:
    """Without a table beside them, each slide is a bad file: for what is wrong with it, else for the missing table."""
    for file in sources.others:
        reason = _BARE
        try:
            with closing(open_slide(file.path, tiling.slide_backend)) as reader:
                slide_mpp(reader, tiling.mpp_override)
        except RowFault as fault:
            reason = fault.reason
        report.reject_file(RowRef(file.name, 0), reason)


def _by_id(slides: tuple[DataFile, ...]) -> dict[str, DataFile]:
    """Slides by file name and by stem; a folder of DICOM instances is one slide, called like the folder."""
    known: dict[str, DataFile] = {}
    for file in slides:
        if file.path.suffix.lower() == ".dcm":
            known.setdefault(file.path.parent.name, file)
        known.setdefault(file.path.name, file)
        known.setdefault(file.path.stem, file)
    return known


def _place(file: DataFile) -> str:
    """What one slide is on disk: its file, or the folder of its DICOM instances."""
    return str(file.path.parent if file.path.suffix.lower() == ".dcm" else file.path)


def _slide_row(row: Mapping[str, Any], table: Table, known: Mapping[str, DataFile]) -> SlideRow:
    slide_id = text_cell(row, "slide_id")
    if slide_id not in known:
        raise RowFault("slide_id", f"no slide file {slide_id!r} below the named paths. Put it there, or name its folder too.")
    if table.shape.name == "slide-captions":
        return SlideRow(slide_id, known[slide_id], row, caption=text_cell(row, *CAPTION_COLUMNS))
    return SlideRow(slide_id, known[slide_id], row, label=text_cell(row, "label"))


def label_options(rows: list[SlideRow]) -> tuple[str, ...]:
    """All labels, sorted: the options of every tile's question. Raises DataError when they make no choice."""
    labels = sorted({made.label for made in rows})
    if not 2 <= len(labels) <= len(LETTERS):
        raise DataError(f"the sidecar has {len(labels)} different labels; a choice needs 2 to {len(LETTERS)}.")
    return tuple(labels)


def tile_record(made: SlideRow, tile: Tile, labels: tuple[str, ...], question: str) -> Record:
    """The row of one tile: caption for documents, question and letter for samples. Its place on the slide is in meta."""
    meta = {"slide_id": made.slide_id, "tile": tile.to_json()}
    if made.caption:
        return Record(DOCUMENTS, key=tile.key, text=made.caption, meta=meta)
    answer = LETTERS[labels.index(made.label)]
    return Record(SAMPLES, key=tile.key, text=question, options=labels, answer=answer, meta=meta)


def slide_group(made: SlideRow, group_field: str) -> str:
    """What must stay in one split: the sidecar's `group_field` or patient, else the slide."""
    record = Record(frozenset(), meta={"slide_id": made.slide_id})
    try:
        return group_of(made.row, record, group_field, fallback=made.slide_id)
    except RowFault as fault:
        raise DataError(f"slide {made.slide_id!r}: {fault}") from fault


def tiles_of(
    made: SlideRow, tiling: TileOptions, seed: int, report: RowReport, *, probe: bool = False
) -> Iterator[tuple[Tile, Media]]:
    """Tiles of one slide, cut and encoded one by one. A slide that fails is one bad row; nothing is raised past the limits.

    Args:
        probe: only the first, middle and last tile, to see whether the slide can be read.
    """
    ref = RowRef(made.file.name, 0)
    report.open_file(made.file.name)
    try:
        with closing(open_slide(made.file.path, tiling.slide_backend)) as reader:
            for remark in privacy_notes(made.file.name, reader):
                report.note(remark)
            yield from _cut(made.slide_id, reader, tiling, seed, probe=probe)
    except RowFault as fault:
        if fault.field == "file":
            report.reject_file(ref, fault.reason)
        else:
            report.reject(ref, fault.field, fault.reason)


def _cut(slide_id: str, reader: SlideReader, tiling: TileOptions, seed: int, *, probe: bool) -> Iterator[tuple[Tile, Media]]:
    tiles = plan_tiles(slide_id, reader, tiling, seed)
    if probe:
        tiles = [tiles[i] for i in sorted({0, len(tiles) // 2, len(tiles) - 1})]
    for tile in tiles:
        yield tile, encode(cut_tile(reader, tile))
