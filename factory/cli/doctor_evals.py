"""`factory doctor --evals`: load one row of every task that the packs, or lm-eval-harness, would measure with."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import typer

from factory.cli.output import emit_json, say, table
from factory.errors import PluginError


def check_evals(suite: str | None, include: Path | None, *, online: bool, as_json: bool) -> None:
    """All installed packs and, with `suite`, tasks of lm-eval-harness. Exit 1 when one is broken."""
    from factory.contracts import DataRequest
    from factory.evaluation.harness import read_suite
    from factory.evaluation.loadable import Loaded, harness_tasks, pack_tasks
    from factory.plugins import load_pack, pack_entries

    rows: list[Loaded] = []
    for entry in pack_entries():
        try:
            pack = load_pack(entry.name)
        except PluginError as err:
            rows.append(Loaded(f"pack {entry.name}", "all", "broken", str(err)))
            continue
        options = dict(pack.manifest.defaults.get("pack") or {})
        rows += pack_tasks(entry.name, pack, DataRequest(options=options, online=online), seed=20_000)
    if suite is not None:
        rows += harness_tasks(read_suite(suite), include.expanduser().absolute() if include else None, online=online)
    broken = [row for row in rows if row.state == "broken"]
    if as_json:
        emit_json({"loads": not broken, "tasks": [asdict(row) for row in rows]})
    else:
        say(table(("source", "task", "state", "found"), [(row.source, row.task, row.state, row.found) for row in rows]))
        others = len(rows) - len(broken)
        say(f"{others} tasks load or say why not, {len(broken)} are broken")
    if broken:
        raise typer.Exit(1)
