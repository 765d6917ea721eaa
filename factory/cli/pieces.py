"""`factory pieces list | show | presets`: the parts an RL step can be made of, with formula, source, defaults, needs and conflicts."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from factory.cli import options
from factory.cli.output import emit_json, say, table

app = typer.Typer(no_args_is_help=True, help="List and show the pieces and presets of the RL step.")

Slot = Annotated[str | None, typer.Option("--slot", help="Only this slot of the step, such as loss or sampler.")]
Key = Annotated[str, typer.Argument(help="A piece as slot.name, such as loss.gspo, or its name alone.")]
PresetName = Annotated[str | None, typer.Argument(help="Show one preset whole.")]


@app.command("list")
def list_pieces(slot: Slot = None, as_json: options.Json = False) -> None:
    """List every piece with its formula and source, slot by slot in the order of the step. Installed ones are named, not imported."""
    from factory.errors import ConfigError, near_miss
    from factory.stages.rl.pieces.catalogue import installed_names, pieces
    from factory.stages.rl.pieces.describe import piece_row
    from factory.stages.rl.pieces.piece import SLOTS

    if slot is not None and slot not in SLOTS:
        raise ConfigError(f"--slot {slot}: there is no such slot.{near_miss(slot, SLOTS)} Slots: {', '.join(SLOTS)}.")
    rows = [piece_row(piece) for piece in pieces().values() if slot in (None, piece.slot)]
    installed = [(one, name) for one in SLOTS if slot in (None, one) for name in installed_names(one)]
    if as_json:
        emit_json(rows + [{"key": f"{one}.{name}", "slot": one, "name": name, "installed": True} for one, name in installed])
        return
    cells = [(r["slot"], r["name"], r["formula"], r["source"]) for r in rows]
    cells += [(one, name, "", f"installed: factory pieces show {one}.{name}") for one, name in installed]
    say(table(("slot", "piece", "formula", "source"), cells))


@app.command()
def show(key: Key, as_json: options.Json = False) -> None:
    """Show one piece: what it does, formula, source, settings with defaults, needs with their cost, what it conflicts with."""
    from factory.stages.rl.pieces.describe import find_by_key, piece_row

    row = piece_row(find_by_key(key))
    if as_json:
        emit_json(row)
        return
    say(f"{row['key']}: {row['about']}")
    lines = [("formula", row["formula"]), ("source", row["source"])]
    if row["caveat"]:
        lines.append(("note", row["caveat"]))
    lines += [
        (f"setting {name}", f"{setting['default']}  {setting['about']}".rstrip()) for name, setting in row["settings"].items()
    ]
    lines += [("needs", note) for note in row["needs"].values()]
    lines += [("conflict" if conflict["is_error"] else "mind", conflict["message"]) for conflict in row["conflicts"]]
    lines += [("presets", ", ".join(row["presets"]) or "none")]
    lines += [("use", f"--set stages.rl.pieces.{row['slot']}={row['name']}")]
    say(table(("", ""), lines))


@app.command("presets")
def show_presets(name: PresetName = None, as_json: options.Json = False) -> None:
    """List the presets, or show the pieces of one."""
    from factory.errors import ConfigError, near_miss
    from factory.stages.rl.presets import presets

    rows: list[dict[str, Any]] = [
        {"name": p.name, "title": p.title, "source": p.source, "note": p.note, "pieces": p.pieces} for p in presets().values()
    ]
    if name is not None:
        rows = [row for row in rows if row["name"] == name]
        if not rows:
            raise ConfigError(f"there is no preset '{name}'.{near_miss(name, presets())} See: factory pieces presets.")
    if as_json:
        emit_json(rows)
        return
    if name is None:
        say(table(("preset", "what it is", "source"), [(r["name"], r["title"], r["source"]) for r in rows]))
        return
    row = rows[0]
    say(f"{row['name']}: {row['title']} ({row['source']})")
    if row["note"]:
        say(row["note"])
    settings = [
        (slot, piece, ", ".join(f"{key}={value}" for key, value in own.items()))
        for slot, named in row["pieces"].items() for piece, own in named.items()
    ]  # fmt: skip
    say(table(("slot", "piece", "settings"), settings))
