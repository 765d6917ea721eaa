"""Real pathology data on the user's disk: tables in the shapes of `loaders_shapes`, and whole slides.

Slides: a folder of slides with a CSV `slide_id,caption` or `slide_id,label` beside them; a tile is a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from factory.data.rows import RowRef
from factory.domains.pathology.loaders_shapes import SHAPES
from factory.domains.pathology.loaders_slides import (
    label_options,
    refuse_bare_slides,
    report_bare_slides,
    slide_group,
    slide_rows,
    tile_record,
    tiles_of,
)
from factory.domains.pathology.options import Options as GeneratorOptions
from factory.domains.pathology.options import read_options as read_generator_options
from factory.domains.pathology.slides import SLIDE_SUFFIXES
from factory.domains.pathology.tiles import TileOptions
from factory.packs.loading import ALL, Loader, Pass
from factory.packs.records import Ready, Record
from factory.packs.settings import read_settings
from factory.packs.sources import LoadSettings

YES_NO = ("yes", "no")


@dataclass(frozen=True)
class LoadOptions(LoadSettings):
    """Loader settings; the keys of `pack.*` with these names."""

    slide_question: str = "Which label fits this field of the slide?"
    """Question put to each tile of a slide that has a label."""


def _names(*classes: type) -> frozenset[str]:
    return frozenset(item.name for cls in classes for item in fields(cls))


def task_of(record: Record) -> str:
    """The pack's task that fits: `choice` with options, `yes_no`, else `finding` (a short answer)."""
    if record.options:
        return "choice"
    return "yes_no" if record.answer.strip(" .").lower() in YES_NO else "finding"


def tiling(options: Mapping[str, Any]) -> TileOptions:
    """How slides are cut, out of `pack.*`. Raises ConfigError."""
    return read_settings(TileOptions, options, pack="pathology", also=_names(GeneratorOptions, LoadOptions))


def system_turn(options: Mapping[str, Any]) -> str:
    """Text of the system turn that `pack.system` and `pack.thinking` ask for; empty for `none`. Raises ConfigError."""
    from factory.domains.pathology.generator import turn_of_system  # draws on numpy; not needed to plan

    LOADER.read(options)
    tiling(options)
    own = {key: value for key, value in options.items() if key not in _names(LoadOptions, TileOptions)}
    return turn_of_system(read_generator_options(own))


def _slide_suffixes(is_certain: bool) -> tuple[str, ...]:
    """A .tif beside a table of image paths is a picture that the table names; only with a sidecar, or alone, is it a slide."""
    return SLIDE_SUFFIXES if is_certain else tuple(s for s in SLIDE_SUFFIXES if s not in (".tif", ".tiff"))


def _slide_tiles(this: Pass) -> Iterator[Ready]:
    """Tiles of the slides whose patient belongs to the wanted split; a tile is a row."""
    cut = tiling(this.options)
    if this.kind == ALL and this.sources.others and not this.sources.sidecars:
        report_bare_slides(this.sources, cut, this.report)
        return
    for kind in ("documents", "samples"):
        if not (this.sources.others or this.sources.sidecars) or not this.wants(frozenset({kind})):
            continue
        rows = slide_rows(this.sources, kind, this.report)
        labels = label_options(rows) if kind == "samples" and rows else ()
        for made in rows:
            group = slide_group(made, this.settings.group_field)
            split = this.belongs(str(made.row.get("split") or ""), group)
            if split is None:
                continue
            for tile, media in tiles_of(made, cut, this.seed, this.report, probe=this.kind == ALL):
                record = tile_record(made, tile, labels, this.settings.slide_question)
                found: list[Ready] = []
                with this.report.row(RowRef(made.file.name, 0)):
                    ready = Ready(tile.key, group, split, f"slide {made.file.name}", record, (media,), task_of(record))
                    found = [this.cleared(ready)]
                    this.count(found)
                yield from found


LOADER = Loader(
    "pathology",
    SHAPES,
    task_of=task_of,
    settings=LoadOptions,
    generator_keys=_names(GeneratorOptions, TileOptions),
    system=system_turn,
    more_rows=_slide_tiles,
    refuse=refuse_bare_slides,
    patient_data=True,
    sidecars=("slide-captions", "slide-labels"),
    other_suffixes=_slide_suffixes,
    others_title="slide",
)
