"""`factory data convert`: rows of TRL, LLaMA-Factory, ms-swift, verl and our own, from one shape to another."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from factory.cli import options
from factory.cli.output import emit_json, say, table
from factory.errors import ConfigError, DataError

LOSABLE = ("response", "rejected", "reference", "images")


def convert(
    source: Annotated[Path, typer.Argument(help="File to read: .jsonl, .json, .csv or .parquet.")],
    out: Annotated[Path, typer.Argument(help="File to write: .jsonl, .json or .parquet; must not exist.")],
    start: Annotated[
        str,
        typer.Option("--from", help="Its shape: trl-messages, trl-completion, trl-preference, trl-prompt, alpaca, sharegpt, swift, verl, sample, lesson, pair."),
    ],
    goal: Annotated[str, typer.Option("--to", help="The shape to write, one of the same.")],
    drop: Annotated[list[str] | None, typer.Option("--drop", help="Let response, rejected or reference go where the shape has no place for it.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Bad rows to print.")] = 20,
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Convert rows between trainers' shapes. Nothing is lost silently: what has no place in the new shape stops it, exit 3."""
    from factory.data.convert import convert as run

    source, out = source.expanduser(), out.expanduser()
    if out.exists():
        raise ConfigError(f"{out} exists already. Name a new file; nothing is overwritten.")
    if not source.is_file():
        raise DataError(f"{source}: no such file. Give the path of an existing file.")
    for name in drop or ():
        if name not in LOSABLE[:3]:
            raise ConfigError(f"--drop {name}: want one of {', '.join(LOSABLE[:3])}.")
    done = run(source, out, start, goal, drop=drop or ())
    if as_json:
        emit_json({"rows": done.num_rows, "images": done.num_images, "out": str(out) if not done.bad else None,
                   "bad_rows": [asdict(row) for row in done.bad]})  # fmt: skip
    elif done.bad:
        cells = [(row.file, row.row or "whole file", row.field, row.reason) for row in done.bad[:limit]]
        say(table(("file", "row", "field", "reason"), cells, right=("row",), title="Bad rows"))
        say(f"{len(done.bad)} bad rows; nothing was written")
    else:
        more = f", {done.num_images} images in {out.name}.images" if done.num_images else ""
        say(f"wrote {out} ({done.num_rows} rows of shape {goal}{more})")
    if done.bad:
        raise typer.Exit(DataError.exit_code)
