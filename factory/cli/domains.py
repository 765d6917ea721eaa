"""`factory domains list | show | check | new`: which packs there are, what one holds, whether it keeps the contract, and a new one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from factory.cli import options
from factory.cli.output import emit_json, plain_table, say, table

app = typer.Typer(no_args_is_help=True, help="List, show, check and write domain packs.")

MANY = 40
"""Packs from which on the list is printed as plain text."""
Name = Annotated[str, typer.Argument(help="Name of a domain pack.")]


@app.command("list")
def list_packs(as_json: options.Json = False) -> None:
    """List the packs, built-in and installed. A broken one is listed with its fault."""
    from factory.errors import PluginError
    from factory.plugins import pack_entries, pack_folder, read_manifest

    rows: list[dict[str, Any]] = []
    for entry in pack_entries():
        row: dict[str, Any] = {"name": entry.name, "origin": entry.origin, "fault": None}
        try:
            folder = pack_folder(entry)
            manifest = read_manifest(folder)
            row |= {
                "title": manifest.title, "version": manifest.version, "modality": manifest.modality, "license": manifest.license,
                "recipes": _recipes(folder),
            }  # fmt: skip
        except PluginError as err:
            row["fault"] = str(err)
        rows.append(row)
    if as_json:
        emit_json(rows)
        return
    cells = [
        (
            r["name"],
            r.get("title", ""),
            r.get("version", ""),
            r.get("modality", ""),
            ", ".join(r.get("recipes", [])),
            r["origin"],
            r["fault"],
        )
        for r in rows
    ]
    columns = ("name", "title", "version", "modality", "recipes", "from", "fault")
    if len(cells) <= MANY:
        say(table(columns, cells))
    else:
        print(plain_table(columns, cells))  # without loading rich, which takes as long as reading the packs


@app.command()
def show(name: Name, as_json: options.Json = False) -> None:
    """Show a pack's purpose, tasks, mixture weights, data licences and recipes."""
    from factory.plugins import find_pack, pack_folder, read_manifest

    entry = find_pack(name)
    folder = pack_folder(entry)
    manifest = read_manifest(folder)
    recipes, shared = _recipe_descriptions(folder), _shared_descriptions()
    if as_json:
        from dataclasses import asdict

        emit_json(
            {**asdict(manifest), "origin": entry.origin, "folder": str(folder), "recipes": recipes, "shared_recipes": shared}
        )
        return
    say(
        f"{manifest.title}  ({manifest.name} {manifest.version}, {entry.origin})",
        f"for       {manifest.intended_use.strip()}",
        f"not for   {manifest.not_for.strip()}",
        f"licence   {manifest.license}",
        f"provides  {', '.join(manifest.provides)}; modality {manifest.modality}",
        f"folder    {folder}",
        "",
        table(("task", "what it asks", "verifiers and weights", "gate"), _task_rows(manifest.tasks), title="Tasks and mixture"),
        table(
            ("data", "source", "licence"), [(d.get("id"), d.get("source"), d.get("license")) for d in manifest.data], title="Data"
        ),
        table(("recipe", "what it builds"), recipes.items(), title="Recipes of the pack"),
        table(("recipe", "published order"), shared.items(), title="Recipes for every pack that has what they need"),
        f"next: factory plan --domain {manifest.name}",
    )


@app.command()
def check(
    name: Name,
    only: Annotated[list[str] | None, typer.Option("--only", help="Run only this check. Repeat for more.")] = None,
    build: Annotated[
        bool, typer.Option("--build", help="Also build the embedded recipe, cut to a few steps (a minute or two).")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Run the conformance kit on a pack; exit 1 when a check fails."""
    from factory.testing.conformance import run_checks

    results = run_checks(name, only=tuple(only or ()), slow=build)
    failed = [result for result in results if result.is_fault]
    if as_json:
        from dataclasses import asdict

        emit_json({"pack": name, "failed": len(failed), "checks": [asdict(result) for result in results]})
    else:
        rows = [(result.check, result.outcome, result.message, f"{result.time_s:.1f}") for result in results]
        say(table(("check", "outcome", "what was found", "s"), rows, right=("s",)))
        say(
            f"{name}: {len(results) - len(failed)} of {len(results)} checks passed"
            + (f", {len(failed)} failed" if failed else "")
        )
    if failed:
        raise typer.Exit(1)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the new pack, such as geology.")],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FILE", help="Your table (csv, tsv, jsonl, json, parquet): tasks are proposed from its rows."
        ),
    ] = None,
    answer: Annotated[
        list[str] | None, typer.Option("--answer", metavar="COLUMN", help="With --from: ask for this column. Repeat for more.")
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Folder to write; by default ./factory-pack-NAME.")] = None,
    title: Annotated[str, typer.Option("--title", help="How people call the domain.")] = "",
    as_json: options.Json = False,
) -> None:
    """Write a new pack that installs with pip, passes its checks and builds at once: from rules to replace, or from your table."""
    from factory.errors import ConfigError
    from factory.packs.scaffold import new_pack

    if answer and source is None:
        raise ConfigError("--answer names a column of the file of --from. Add --from FILE.")
    target = (to or Path(f"factory-pack-{name.replace('_', '-')}")).expanduser()
    made = new_pack(name, target, source=source.expanduser() if source else None, answers=tuple(answer or ()), title=title)
    tasks = made.proposal.questions.tasks if made.proposal else ()
    counts = made.proposal.counts if made.proposal else {}
    if as_json:
        rows = [{"task": task.name, "kind": task.kind, "answer": task.answer, "rows": counts[task.name]} for task in tasks]
        emit_json({"name": made.name, "folder": str(made.folder), "files": list(made.files), "tasks": rows})
        return
    if tasks:
        cells = [(task.name, task.kind, task.answer, str(counts[task.name])) for task in tasks]
        say(table(("task", "kind of answer", "column", "rows"), cells, title="Proposed (questions.yaml)", right=("rows",)))
    say(*(f"wrote  {made.folder / file}" for file in made.files))
    say(
        f"next   pip install -e {made.folder}",
        f"       factory domains check {name}",
        f"       factory build --domain {name}",
    )


def _recipes(folder: Path) -> list[str]:
    return sorted(file.stem for file in (folder / "recipes").glob("*.yaml"))


def _recipe_descriptions(folder: Path) -> dict[str, str]:
    """Recipe name -> its `description:`, or the fault that keeps it from being read."""
    return {name: _description(folder / "recipes" / f"{name}.yaml") for name in _recipes(folder)}


def _shared_descriptions() -> dict[str, str]:
    from factory.config.layers import shared_recipes

    return {name: _description(file) for name, file in shared_recipes().items()}


def _description(file: Path) -> str:
    from factory.config.layers import read_yaml
    from factory.errors import ConfigError

    try:
        values = read_yaml(file, "recipe").values
    except ConfigError as err:
        return f"broken: {err}"
    return str(values.get("description") or f"stages: {', '.join(values.get('stages') or {}) or 'those it extends'}")


def _task_rows(tasks: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    rows = []
    for task, settings in tasks.items():
        weights = ", ".join(f"{verifier} {weight:g}" for verifier, weight in (settings.get("verifiers") or {}).items())
        rows.append((task, settings.get("title", ""), weights, settings.get("gate") or ""))
    return rows
