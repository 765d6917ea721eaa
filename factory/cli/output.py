"""What commands print: tables for people, one JSON document for programs, and numbers in readable units."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPE_WIDTH = 200
"""Columns of a table that does not go to a terminal, where a fold at 80 would cut paths."""


def console(*, stderr: bool = False) -> Console:
    """A rich console on stdout (results) or stderr (progress and errors)."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else PIPE_WIDTH, highlight=False)


def emit_json(payload: Any) -> None:
    """Print one JSON document and nothing else. Floats that are not finite become null."""
    print(json.dumps(_finite(payload), indent=2, ensure_ascii=False, default=str, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and value - value != 0.0:
        return None
    if isinstance(value, dict):
        return {str(key): _finite(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inside) for inside in value]
    return value


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "", right: Sequence[str] = ()) -> Table:
    """A plain table; the columns named in `right` are right-aligned. Cells are text, never markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        drawn.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return drawn


def plain_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """The same as text, aligned and never folded: for hundreds of rows, which `table` takes long to draw."""
    cells = [[*columns], *([("" if cell is None else str(cell)).replace("\n", " ") for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)


def say(*parts: Any) -> None:
    """Print text or tables for people, on stdout. Text is shown as it is, without markup, and not wrapped."""
    out = console()
    for part in parts:
        if isinstance(part, str):
            out.print(part, markup=False, soft_wrap=True)
        else:
            out.print(part)


def count(number: float) -> str:
    """12 -> `12`, 12345 -> `12.3 k`, 1.2e7 -> `12 M`."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            scale = 1e3 if unit == "k" else size
            return f"{number / scale:.3g} {unit}"
    return f"{number:.0f}"


def size(num_bytes: float) -> str:
    """Bytes in binary units: 3221225472 -> `3.0 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} TiB"


def span(seconds: float) -> str:
    """Seconds as `42 s`, `3 min 10 s` or `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def percent(value: float | None) -> str:
    """A share as `81.3 %`, an absent one as a dash."""
    return "–" if value is None else f"{100 * value:.1f} %"


def interval(pair: Sequence[float] | None, *, signed: bool = False) -> str:
    """A confidence interval of shares, in points: `[78.0, 84.1]`."""
    if not pair:
        return ""
    form = "+.1f" if signed else ".1f"
    return f"[{format(100 * pair[0], form)}, {format(100 * pair[1], form)}]"
