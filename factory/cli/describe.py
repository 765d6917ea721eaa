"""`factory data describe`: a Croissant description of files, for catalogues and reviewers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from factory.cli import options
from factory.cli.output import emit_json, say
from factory.errors import DataError


def describe(
    paths: Annotated[list[str], typer.Argument(help="Files or folders.")],
    croissant: Annotated[
        Path, typer.Option("--croissant", metavar="FILE", help="The JSON-LD file to write, best beside the data.")
    ],
    name: Annotated[str | None, typer.Option("--name", help="Of the data set; by default that of the first path.")] = None,
    about: Annotated[str, typer.Option("--about", help="What it is, in a sentence.")] = "",
    licence: Annotated[str, typer.Option("--licence", help="As its owner states it: an SPDX identifier or an address.")] = "",
    as_json: options.Json = False,
) -> None:
    """Describe files in Croissant 1.0: each with size and sha256, the columns of tables with types. No row is copied."""
    from factory.data.croissant import describe as make
    from factory.data.croissant import to_text
    from factory.registry.files import write_atomic

    out = croissant.expanduser()
    if out.exists():
        raise DataError(f"{out} exists already. Name a new file; nothing is overwritten.")
    made = make(paths, name=name or Path(paths[0]).stem, description=about, licence=licence, out=out)
    try:
        write_atomic(out, to_text(made))
    except OSError as err:
        raise DataError(f"{out}: cannot be written: {err.strerror}. Name a file in a folder that you may write to.") from err
    told = {"out": str(out), "files": len(made["distribution"]), "tables": len(made["recordSet"])}
    emit_json(told) if as_json else say(f"wrote {out}: {told['files']} files, {told['tables']} tables with columns")
