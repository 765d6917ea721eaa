"""`factory models gc | repair | archive | take`: keep a registry small and whole, and move a model as one file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.cli import options
from factory.cli.output import emit_json, say, size, table

if TYPE_CHECKING:
    from factory.registry.models import Registry

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Wait = Annotated[float, typer.Option("--wait", metavar="SECONDS", min=0.0, help="How long to wait for builds that write.")]


def _registry() -> Registry:
    from factory.registry.home import Home
    from factory.registry.models import Registry

    return Registry(Home.find().registry)


def gc(
    keep_last: Annotated[
        int | None,
        typer.Option("--keep-last", metavar="N", help="Also remove models older than the last N versions of each name."),
    ] = None,
    min_age: Annotated[
        float | None,
        typer.Option("--min-age", metavar="HOURS", help="Leave younger things; without it 0, or 24 where locks may not reach."),
    ] = None,
    dry_run: DryRun = False, wait: Wait = 60.0, as_json: options.Json = False,
) -> None:  # fmt: skip
    """Remove files that no model needs and what killed writers left. Never what a model, a build or a running write needs."""
    from factory.registry.gc import collect

    age = None if min_age is None else min_age * 3600
    found = collect(_registry(), keep_last=keep_last, min_age_s=age, dry_run=dry_run, wait_s=wait)
    if as_json:
        kept = [{"path": path, "why": why} for path, why in found.kept]
        removed = [asdict(removal) for removal in found.removed]
        emit_json({"dry_run": dry_run, "removed": removed, "kept": kept, "bytes": found.num_bytes, "warning": found.warning})
        return
    if found.warning:
        say(f"warning  {found.warning}")
    if found.removed:
        rows = [(r.what, r.path, size(r.num_bytes), r.why) for r in found.removed]
        say(table(("what", "path", "frees", "why"), rows, title="Would be removed" if dry_run else "Removed", right=("frees",)))
    if found.kept:
        say(table(("stays", "why"), found.kept))
    verb = "would free" if dry_run else "freed"
    say(f"{verb} {size(found.num_bytes)}" if found.removed else "nothing to remove")


def repair(dry_run: DryRun = False, wait: Wait = 60.0, as_json: options.Json = False) -> None:
    """Set unreadable manifests aside, mend lists of files and the index; exit 1 when something is left to restore."""
    from factory.registry.repair import repair as mend

    found = mend(_registry(), dry_run=dry_run, wait_s=wait)
    if as_json:
        sides = {"done": [asdict(d) for d in found.done], "left": [asdict(d) for d in found.left]}
        emit_json({"dry_run": dry_run, **sides, "warning": found.warning})
    else:
        if found.warning:
            say(f"warning  {found.warning}")
        for line in found.done:
            say(f"{'would be ' if dry_run and not line.what.startswith('would') else ''}done     {line.path}: {line.what}")
        for line in found.left:
            say(f"left     {line.path}: {line.what}")
        if not found.done and not found.left:
            say("nothing to repair; `factory models verify` hashes every file")
    if found.left:
        raise typer.Exit(1)


def archive(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="Id of a built model, or its name for the newest version.")],
    file: Annotated[Path, typer.Argument(help="Archive to write, such as model.tar; must not exist.")],
    as_json: options.Json = False,
) -> None:
    """Write a model with its manifest, files and hashes as one tar file."""
    from factory.registry.archive import archive as write

    file = file.expanduser().absolute()
    record, num_bytes = write(_registry(), name, file)
    if as_json:
        emit_json({"model": record.id, "file": str(file), "bytes": num_bytes})
    else:
        say(f"wrote {record.id} to {file} ({size(num_bytes)})", f"next, on the other machine: factory models take {file.name}")


def take(
    file: Annotated[Path, typer.Argument(help="What `factory models archive` wrote.")], as_json: options.Json = False
) -> None:
    """Put an archived model into the registry. Every byte is checked first; taking it again changes nothing."""
    from factory.registry.archive import take as read

    taken = read(_registry(), file.expanduser())
    if as_json:
        emit_json({"model": taken.record.id, "archived_as": taken.archived_id, "was_here": taken.was_here})
    elif taken.was_here:
        say(f"{taken.record.id} is here already; nothing changed")
    else:
        other = "" if taken.record.id == taken.archived_id else f" ({taken.archived_id} is another model here)"
        say(f"took {taken.record.id}{other}", f"next: factory models why {taken.record.id}")
