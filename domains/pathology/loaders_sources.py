"""What a request's paths hold: tables with their shapes, slides with their sidecar tables, and the loader's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from factory.data.declared import declared_splits
from factory.data.files import DataFile, list_files
from factory.data.images import MAX_PIXELS
from factory.data.rows import KINDS, peek
from factory.data.shapes import Shape, detect_shape
from factory.data.splits import checked_shares
from factory.domains.pathology.loaders_shapes import SHAPES
from factory.domains.pathology.options import Options as GeneratorOptions
from factory.domains.pathology.options import read_options as read_generator_options
from factory.domains.pathology.slides import SLIDE_SUFFIXES
from factory.domains.pathology.tiles import TileOptions
from factory.errors import ConfigError, DataError, near_miss

SIDECARS = ("slide-captions", "slide-labels")
VERIFY = ("full", "header", "off")
PEEKED_ROWS = 20
"""Rows whose columns together decide a table's shape; JSON rows may leave out blank ones."""


@dataclass(frozen=True)
class LoadOptions:
    """Loader settings; the keys of `pack.*` with these names."""

    shape: str = ""
    """Read every table as this shape instead of detecting it."""
    image_root: str = ""
    """Folder that image paths in rows are relative to, looked in before the table's own folder."""
    group_field: str = ""
    """Column whose value must not be divided between splits, such as a patient's number."""
    splits: dict[str, float] = field(default_factory=dict)
    """Shares of groups: `{validation: 0.1, test: 0.1}`."""
    respect_splits: bool = True
    """Keep the splits that file names and rows declare; false splits everything anew by group."""
    verify_images: str = "full"
    """`full` decodes each image, `header` reads only headers, `off` only looks whether files exist."""
    max_image_pixels: int = MAX_PIXELS
    shuffle_buffer: int = 256
    """Training rows held back and drawn at random; 1 keeps the order on disk."""
    slide_question: str = "Which label fits this field of the slide?"
    """Question put to each tile of a slide that has a label."""

    def __post_init__(self) -> None:
        names = [shape.name for shape in SHAPES]
        if self.shape and self.shape not in names:
            raise ConfigError(f"pack.shape is {self.shape!r}.{near_miss(self.shape, names)} Known: {', '.join(names)}.")
        if self.verify_images not in VERIFY:
            raise ConfigError(f"pack.verify_images is {self.verify_images!r}; use one of {', '.join(VERIFY)}.")
        if self.max_image_pixels < 1 or self.shuffle_buffer < 1:
            raise ConfigError("pack.max_image_pixels and pack.shuffle_buffer must be 1 or more.")
        checked_shares(self.splits)


OPTION_NAMES = frozenset(item.name for cls in (LoadOptions, TileOptions) for item in fields(cls))
"""Keys of `pack.*` that the loaders read."""


def read_options(options: Mapping[str, Any]) -> tuple[LoadOptions, TileOptions]:
    """Loader and tile settings out of a pack's options.

    Raises:
        ConfigError: a key that neither the loaders nor the generator know, or a value of the wrong type or range.
    """
    known = sorted(OPTION_NAMES | {item.name for item in fields(GeneratorOptions)})
    for key in options:
        if key not in known:
            hint = near_miss(str(key), known)
            raise ConfigError(f"pack.{key} is no option of the pathology pack.{hint} Options: {', '.join(known)}.")
    made = []
    for cls in (LoadOptions, TileOptions):
        given = {item.name: options[item.name] for item in fields(cls) if item.name in options}
        for item in fields(cls):
            if item.name in given:
                given[item.name] = _typed(item.name, given[item.name], item.type)
        made.append(cls(**given))
    return made[0], made[1]


def system_turn(options: Mapping[str, Any]) -> str:
    """Text of the system turn that `pack.system` and `pack.thinking` ask for; empty for `none`. Raises ConfigError."""
    from factory.domains.pathology.generator import system_prompt  # draws on numpy; not needed to plan

    read_options(options)  # names every known key in its message, where the generator would name only its own
    asked = read_generator_options({key: value for key, value in options.items() if key not in OPTION_NAMES})
    return "" if asked.system == "none" else system_prompt(asked.system, asked.thinking)


def _typed(name: str, value: Any, annotation: Any) -> Any:
    """Check a plain value against a field's annotation (a string, as annotations are postponed)."""
    accepted: dict[str, tuple[type, ...]] = {
        "str": (str,), "bool": (bool,), "int": (int,), "float": (int, float),
        "float | None": (int, float, type(None)), "dict[str, float]": (Mapping,),
    }  # fmt: skip
    types = accepted[annotation]
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise ConfigError(f"pack.{name} is {value!r}; it must be of type {annotation}.")
    return dict(value) if isinstance(value, Mapping) else value


@dataclass(frozen=True)
class Table:
    """One table whose shape is known."""

    file: DataFile
    shape: Shape
    fault: str = ""
    """Why no row of it can be read; empty when they can."""

    def image_roots(self, options: LoadOptions) -> tuple[Path, ...]:
        """Folders in which an image named by a row is sought, in order."""
        here = self.file.path.parent
        roots = (here, here / "images", here.parent, here.parent / "images")
        return (Path(options.image_root).expanduser(), *roots) if options.image_root else roots


@dataclass(frozen=True)
class Sources:
    """Everything usable below the paths of a request."""

    tables: tuple[Table, ...]
    """Tables of rows, without sidecars."""
    sidecars: tuple[Table, ...]
    """Tables that describe slides."""
    slides: tuple[DataFile, ...]
    declared: frozenset[str]
    """Splits that the tables declare themselves."""

    @property
    def gives(self) -> frozenset[str]:
        """What can be had: any of `documents`, `lessons`, `samples`."""
        sidecars = self.sidecars if self.slides else ()
        return frozenset().union(*(table.shape.gives for table in (*self.tables, *sidecars)))


def detect(path: str | Path, *, shape: str = "") -> Shape:
    """The shape of one table, by its content and columns.

    Raises:
        DataError: no kind of table that we know, or columns that fit no known shape (lists them, with near misses).
    """
    file = next(iter(list_files([str(path)])), None)
    if file is None or file.kind is None or not Path(path).is_file():
        raise DataError(f"{path}: not a table. Known: {'; '.join(KINDS.values())}.")
    found = _shape_of(file, shape)
    if found is None:
        raise DataError(f"{path}: holds no readable row. Run `factory data check` on it to see why.")
    return found


def _shape_of(file: DataFile, forced: str) -> Shape | None:
    if forced:
        return next(shape for shape in SHAPES if shape.name == forced)
    names = dict.fromkeys(name for row in peek(file, PEEKED_ROWS) for name in row if not name.startswith("_"))
    # A table without a readable row keeps its place: reading it will say what is wrong with it.
    return detect_shape(list(names), str(file.kind), SHAPES, where=file.name) if names else None


def _table_of(file: DataFile, forced: str) -> Table:
    try:
        return Table(file, _shape_of(file, forced) or UNREADABLE)
    except DataError as err:
        return Table(file, UNREADABLE, fault=str(err))


UNREADABLE = Shape("unreadable", "no row could be read", (), None, frozenset())


def find_sources(paths: tuple[str, ...], options: LoadOptions, *, online: bool = False) -> Sources:
    """Look at every file below the paths and say what it is. `online` allows hub ids.

    A table of unknown shape among others is kept with its fault: reading counts it as a bad file.

    Raises:
        DataError: a path that does not exist, nothing but one table of unknown shape, or nothing usable at all.
    """
    files = list_files(paths, online=online)
    tables = [_table_of(file, options.shape) for file in files if file.kind]
    if len(files) == 1 and tables and tables[0].fault:
        raise DataError(tables[0].fault)
    rows = [table for table in tables if table.shape.name not in SIDECARS]
    sidecars = [table for table in tables if table.shape.name in SIDECARS]
    # A .tif beside a table of image paths is a picture that the table names; only with a sidecar, or alone, is it a slide.
    suffixes = SLIDE_SUFFIXES if sidecars or not rows else tuple(s for s in SLIDE_SUFFIXES if s not in (".tif", ".tiff"))
    slides = [file for file in files if file.kind is None and file.path.suffix.lower() in suffixes]
    if not tables and not slides:
        shown = ", ".join(file.name for file in files[:5]) or "nothing"
        raise DataError(f"{', '.join(paths)}: no table and no slide (found {shown}). Known tables: {'; '.join(KINDS.values())}.")
    declared = declared_splits([table.file for table in tables]) if options.respect_splits else frozenset()
    return Sources(tuple(rows), tuple(sidecars), tuple(slides), declared)
