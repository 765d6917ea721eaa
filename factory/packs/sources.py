"""What a request's paths hold: tables with their shapes, tables that describe other files, those files, and the loader's settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory.data.declared import declared_splits, declares_split
from factory.data.files import DataFile, FileFormat, list_files
from factory.data.identifiers import MODES
from factory.data.images import MAX_PIXELS
from factory.data.rows import KINDS, peek
from factory.data.shapes import detect_shape
from factory.data.splits import checked_shares
from factory.errors import ConfigError, DataError
from factory.packs.common_shapes import RowShape
from factory.packs.settings import one_of

VERIFY = ("full", "header", "off")
PEEKED_ROWS = 20
"""Rows whose columns together decide a table's shape; JSON rows may leave out blank ones."""


@dataclass(frozen=True)
class LoadSettings:
    """The loader's own settings: keys of `pack.*` with these names. A pack adds its own in a subclass."""

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
    identifiers: str = ""
    """Texts that may identify a person (e-mail, record number, name after `Patient:` …): `refuse` sets the row aside, `redact` masks it,
    `allow` does not look. Empty: `refuse` in packs of patient data, else `allow`."""
    shuffle_buffer: int = 256
    """Training rows held back and drawn at random; 1 keeps the order on disk."""

    def __post_init__(self) -> None:
        one_of("pack.verify_images", self.verify_images, VERIFY)
        if self.identifiers:
            one_of("pack.identifiers", self.identifiers, MODES)
        if self.max_image_pixels < 1 or self.shuffle_buffer < 1:
            raise ConfigError("pack.max_image_pixels and pack.shuffle_buffer must be 1 or more.")
        checked_shares(self.splits)


@dataclass(frozen=True)
class Table:
    """One table whose shape is known."""

    file: DataFile
    shape: RowShape
    fault: str = ""
    """Why no row of it can be read; empty when they can."""

    def image_roots(self, settings: LoadSettings) -> tuple[Path, ...]:
        """Folders in which an image named by a row is sought, in order."""
        here = self.file.path.parent
        roots = (here, here / "images", here.parent, here.parent / "images")
        return (Path(settings.image_root).expanduser(), *roots) if settings.image_root else roots


@dataclass(frozen=True)
class Sources:
    """Everything usable below the paths of a request."""

    tables: tuple[Table, ...]
    """Tables of rows, without sidecars."""
    sidecars: tuple[Table, ...]
    """Tables that describe other files."""
    others: tuple[DataFile, ...]
    """Files that are no tables and that the pack reads with its sidecars, such as slides."""
    declared: frozenset[str]
    """Splits that the tables declare themselves."""

    @property
    def gives(self) -> frozenset[str]:
        """What can be had: any of `documents`, `lessons`, `samples`."""
        sidecars = self.sidecars if self.others else ()
        return frozenset().union(*(table.shape.gives for table in (*self.tables, *sidecars)))


UNREADABLE = RowShape("unreadable", "no row could be read", (), None, frozenset())
"""The shape of a table without a readable row: reading it says what is wrong with it."""


@dataclass(frozen=True)
class Finder:
    """How one pack looks at files."""

    shapes: Sequence[RowShape]
    """From special to general: the first that fits is taken."""
    formats: Sequence[FileFormat] = ()
    sidecars: tuple[str, ...] = ()
    """Names of shapes that describe other files."""
    other_suffixes: Callable[[bool], tuple[str, ...]] = lambda _: ()
    """Suffixes of the other files that count, given whether there are sidecars or nothing else at all."""
    others_title: str = ""
    """`slide`: how to name such a file to a user."""

    def kinds(self) -> str:
        """All kinds of tables, for an error."""
        return "; ".join((*KINDS.values(), *(own.title for own in self.formats)))

    def detect(self, path: str | Path, *, shape: str = "") -> RowShape:
        """The shape of one table, by its content and columns.

        Raises:
            DataError: no kind of table that we know, or columns that fit no known shape (lists them, with near misses).
        """
        file = next(iter(list_files([str(path)], formats=self.formats)), None)
        if file is None or file.kind is None or not Path(path).is_file():
            raise DataError(f"{path}: not a table. Known: {self.kinds()}.")
        found = self._named(shape) if shape else self._shape_of(file, peek(file, PEEKED_ROWS))
        if found is None:
            raise DataError(f"{path}: holds no readable row. Run `factory data check` on it to see why.")
        return found

    def find(self, paths: Iterable[str], settings: LoadSettings, *, online: bool = False) -> Sources:
        """Look at every file below the paths and say what it is. `online` allows hub ids.

        A table of unknown shape among others is kept with its fault: reading counts it as a bad file.

        Raises:
            DataError: a path that does not exist, nothing but one table of unknown shape, or nothing usable at all.
            ConfigError: `pack.shape` names no shape.
        """
        paths = tuple(paths)
        if settings.shape:
            one_of("pack.shape", settings.shape, [shape.name for shape in self.shapes])
        files = list_files(paths, online=online, formats=self.formats)
        in_rows: dict[DataFile, bool] = {}
        tables = [self._table_of(file, settings.shape, in_rows) for file in files if file.kind]
        if len(files) == 1 and tables and tables[0].fault:
            raise DataError(tables[0].fault)
        rows = [table for table in tables if table.shape.name not in self.sidecars]
        sidecars = [table for table in tables if table.shape.name in self.sidecars]
        suffixes = self.other_suffixes(bool(sidecars) or not rows)
        others = [file for file in files if file.kind is None and file.path.suffix.lower() in suffixes]
        if not tables and not others:
            shown = ", ".join(file.name for file in files[:5]) or "nothing"
            wanted = f"no table and no {self.others_title}" if self.others_title else "no table"
            raise DataError(f"{', '.join(paths)}: {wanted} (found {shown}). Known tables: {self.kinds()}.")
        declared = declared_splits((table.file for table in tables), in_rows) if settings.respect_splits else frozenset()
        return Sources(tuple(rows), tuple(sidecars), tuple(others), declared)

    def _named(self, shape: str) -> RowShape:
        return next(one for one in self.shapes if one.name == shape)

    def _shape_of(self, file: DataFile, rows: Sequence[Mapping[str, Any]]) -> RowShape | None:
        names = dict.fromkeys(name for row in rows for name in row if not name.startswith("_"))
        # A table without a readable row keeps its place: reading it will say what is wrong with it.
        return detect_shape(list(names), str(file.kind), self.shapes, where=file.name) if names else None

    def _table_of(self, file: DataFile, forced: str, in_rows: dict[DataFile, bool]) -> Table:
        """The table; `in_rows` remembers whether its first rows declare a split, for a format with a row a file is slow to read twice."""
        try:
            if forced:
                return Table(file, self._named(forced))
            rows = peek(file, PEEKED_ROWS)
            in_rows[file] = declares_split(rows)
            return Table(file, self._shape_of(file, rows) or UNREADABLE)
        except DataError as err:
            return Table(file, UNREADABLE, fault=str(err))
