"""`factory models`: list, show, explain, compare and verify what was built; rebuild the index; list known base models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory.cli import board, models_keep, models_sign, options
from factory.cli.output import count, emit_json, interval, percent, say, table

if TYPE_CHECKING:
    from factory.registry.models import Registry

app = typer.Typer(no_args_is_help=True, help="List, show, explain, compare, verify, move and clean up built models.")
app.command("board")(board.board)
app.command("gc")(models_keep.gc)
app.command("repair")(models_keep.repair)
app.command("archive")(models_keep.archive)
app.command("take")(models_keep.take)
app.command("sign")(models_sign.sign)

Name = Annotated[str, typer.Argument(help="Id of a built model (name-v1), or its name for the newest version.")]


def open_registry() -> Registry:
    """The registry under FACTORY_HOME."""
    from factory.registry.home import Home
    from factory.registry.models import Registry

    return Registry(Home.find().registry)


@app.command("list")
def list_models(domain: options.Domain = None, as_json: options.Json = False) -> None:
    """List built models, newest first."""
    registry = open_registry()
    rows = registry.list(domain)
    if as_json:
        emit_json(rows)
    elif not rows:
        say(f"no models yet in {registry.root}. Build one: factory build --domain NAME (`factory domains list` shows the names)")
    else:
        cells = [(r["id"], r["domain"], r["base"], r["stage"], r["metric"], percent(r["value"]), r["created"]) for r in rows]
        say(table(("id", "domain", "base", "kept stage", "metric", "test", "created"), cells, right=("test",)))


@app.command()
def show(name: Name, as_json: options.Json = False) -> None:
    """Show a model's lineage from the base, its measurements and where its files lie."""
    from factory.registry.lineage import lineage_text

    registry = open_registry()
    record = registry.show(name)
    path = registry.store.root / record.artifacts["model"]
    if as_json:
        emit_json({**record.to_json(), "id": record.id, "path": str(path)})
        return
    say(
        lineage_text(record),
        table(("stage", "split", "metric", "value", "95 % interval", "n"), _eval_rows(record.evals), right=("value", "n")),
        f"licence   {record.licence}",
        f"for       {record.intended_use.strip()}",
        f"not for   {record.not_for.strip()}",
        f"built     {record.created}, run {record.run}",
        f"files     {path}",
        *(f"note      {note}" for note in record.notes),
        f"next: factory export {record.id} OUT_FOLDER",
    )


def _eval_rows(evals: Any) -> list[tuple[Any, ...]]:
    return [
        (stage, split, figures.get("name"), percent(figures.get("value")), interval(figures.get("ci")), figures.get("n"))
        for stage, splits in evals.items()
        for split, figures in splits.items()
        if isinstance(figures, dict)
    ]


@app.command()
def why(name: Name, as_json: options.Json = False) -> None:
    """Tell where a model came from: base, steps, data, measurements, why its stage was kept, and its kin."""
    from factory.registry.why import explain, why_text

    registry = open_registry()
    record = registry.show(name)
    found = explain(record, registry.index.relatives(record))
    emit_json(found) if as_json else say(why_text(found))


@app.command()
def compare(first: Name, second: Name, as_json: options.Json = False) -> None:
    """Compare two models: measured values, their paired difference, and every setting, version and input that differs."""
    from factory.cli.models_paired import paired

    registry = open_registry()
    sides = registry.compare(first, second)
    sides["paired"] = paired(registry, registry.show(first), registry.show(second))
    if as_json:
        emit_json(sides)
        return
    names = sides["models"]
    measured = [
        (split, *(f"{percent((figures or {}).get('value'))} {interval((figures or {}).get('ci'))}" for figures in pair))
        for split, pair in sides["evals"].items()
    ]
    say(table(("split", *names), [("kept stage", *sides["stages"]), *measured], title="Measured"))
    say(_paired_line(sides["paired"], names))
    for part in ("config", "versions", "data", "base"):
        rows = [(key, *values) for key, values in sides[part].items()]
        say(table((part, *names), rows, title=f"Different {part}") if rows else f"{part}: equal")


def _paired_line(pair: dict[str, Any], names: list[str]) -> str:
    if pair["diff"] is None:
        return f"no paired test: {pair['why']}"
    left = f"; {pair['left_out']} samples were measured in one alone or differ" if pair["left_out"] else ""
    low, high = pair["diff_ci"]
    sure = "the interval holds 0, so neither is shown to be better" if low <= 0 <= high else f"{names[low > 0]} is better"
    return (
        f"{names[1]} minus {names[0]} over the same {pair['n']} test samples: {100 * pair['diff']:+.1f} points, "
        f"95 % interval {interval(pair['diff_ci'], signed=True)}; {sure}{left}"
    )


@app.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="Id or name of a built model; without it every model.")] = None,
    public_key: models_sign.PublicKey = None, as_json: options.Json = False,
) -> None:  # fmt: skip
    """Hash every stored file again; exit 1 when one is damaged, missing or added. With a key: exit 8 when one is not signed by it."""
    registry = open_registry()
    problems = registry.verify(name)
    signed = models_sign.signed_by(registry, name, public_key) if public_key is not None and not problems else []
    if as_json:
        told = {"signed": signed} if public_key is not None else {}
        emit_json({"intact": not problems, "problems": [{"path": p.path, "what": p.what} for p in problems], **told})
    elif problems:
        say(table(("file", "what is wrong"), [(p.path, p.what) for p in problems]))
        say("Restore these files from a backup, or run the same build again.")
    else:
        say(f"{name or 'all models'}: intact", *(f"{one}: signed by {public_key}" for one in signed))
    if problems:
        raise typer.Exit(1)


@app.command()
def reindex(as_json: options.Json = False) -> None:
    """Build the index again from the manifests, which are the truth."""
    number = open_registry().reindex()
    if as_json:
        emit_json({"models": number})
    else:
        say(f"indexed {number} models")


@app.command()
def bases(as_json: options.Json = False) -> None:
    """List the base models whose sizes are on record; any other transformers folder works too."""
    from dataclasses import asdict

    from factory.registry.base_models import base_models

    records = base_models()
    if as_json:
        emit_json([asdict(record) for record in records.values()])
        return
    cells = [
        (r.name, r.hub_id, r.modality, count(r.num_params) if r.num_params else "", r.licence, r.title) for r in records.values()
    ]
    say(table(("name", "hub id", "modality", "parameters", "licence", "what it is"), cells, right=("parameters",)))
