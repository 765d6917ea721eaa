"""`factory watch`: a dashboard of a run in the terminal, read from its folder while another process builds it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory.cli import options
from factory.cli.live import Pace, progress_text
from factory.cli.output import console, emit_json, percent, span
from factory.cli.report import run_folder

if TYPE_CHECKING:
    from rich.console import RenderableType

BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH = 60
"""Characters of a curve."""
CURVES = ("reward", "loss", "length", "entropy", "masked_share", "tokens_per_s")


def watch(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run: a folder, or a name under FACTORY_HOME/runs.")],
    every: Annotated[float, typer.Option("--every", min=0.2, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show it once and end; so does an output that is no terminal.")] = False,
    as_json: options.Json = False,
) -> None:
    """Watch a build that runs elsewhere: its steps, the curves of the one that runs, what is measured already. It only reads."""
    folder = run_folder(run)
    if as_json:
        emit_json(look(folder))
        return
    out = console()
    if once or not out.is_terminal:
        out.print(drawn(look(folder)))
        return
    from rich.live import Live

    pace, step = Pace(time.monotonic), ""
    with Live(console=out, auto_refresh=False, screen=True) as live:
        while True:
            seen = look(folder)
            if seen["step"] != step:
                pace, step = Pace(time.monotonic), seen["step"]
            row = seen["last"]
            left = pace.left_s(row["step"], row["total"]) if row.get("step") is not None and row.get("total") else None
            live.update(drawn(seen, left), refresh=True)
            if seen["status"] not in ("running", "unknown"):
                break
            time.sleep(every)
    out.print(drawn(look(folder)))


def look(folder: Path) -> dict[str, Any]:
    """What the run's folder says now: status, steps with their state, metrics of the running step, measured figures."""
    from factory.report.read import read_jsonl

    plan, record = _read(folder / "plan.json"), _read(folder / "run.json")
    steps, running, rows = [], "", []
    for planned in plan.get("steps", []):
        name = planned["name"]
        final, partial = folder / "stages" / name, folder / "stages" / f"{name}.partial"
        state = "done" if (final / "stage.lock").is_file() else "running" if partial.is_dir() else "waiting"
        entry = {
            "name": name,
            "kind": planned.get("kind", ""),
            "state": state,
            "planned_s": planned.get("seconds"),
            "seconds": None,
            "value": None,
        }
        if state == "done":
            entry["seconds"] = _read(final / "stage.lock").get("seconds")
            primary = _read(final / "eval.json").get("splits", {}).get("test", {}).get("primary", {})
            entry["value"] = primary.get("value")
        elif state == "running":
            running, rows = name, [row for row in read_jsonl(partial / "metrics.jsonl") if "step" in row]
        steps.append(entry)
    curves = {key: [float(row[key]) for row in rows if isinstance(row.get(key), int | float)] for key in CURVES}
    return {
        "run": folder.name, "status": record.get("status", "unknown"), "step": running, "steps": steps, "last": rows[-1] if rows else {},
        "curves": {key: values for key, values in curves.items() if len(values) > 1},
    }  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    """A JSON file that may not be there yet; files of a run are replaced whole, so one that is there can be read."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """A curve in one line of text: means of neighbouring values, lowest and highest block for the least and the most."""
    size = max(1, -(-len(values) // width))
    groups = [values[start : start + size] for start in range(0, len(values), size)]
    means = [sum(group) / len(group) for group in groups]
    low, high = min(means), max(means)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((mean - low) * scale)] for mean in means)


def drawn(seen: Mapping[str, Any], left_s: float | None = None) -> RenderableType:
    """The dashboard."""
    from rich.console import Group
    from rich.text import Text

    from factory.cli.output import table

    marks = {"done": "✓", "running": "▶", "waiting": "·"}
    rows = [
        (marks[step["state"]], step["name"], step["kind"], span(step["seconds"]) if step["seconds"] is not None else "",
         span(step["planned_s"]) if step["planned_s"] is not None else "", percent(step["value"]) if step["value"] is not None else "")
        for step in seen["steps"]
    ]  # fmt: skip
    done = sum(step["state"] == "done" for step in seen["steps"])
    parts: list[RenderableType] = [Text(f"{seen['run']}  {seen['status']}  {done} of {len(seen['steps'])} steps", style="bold")]
    parts.append(table(("", "step", "kind", "time", "planned", "test"), rows, right=("time", "planned", "test")))
    if seen["last"]:
        parts.append(Text(f"{seen['step']}  {progress_text(dict(seen['last']), left_s)}"))
    for key, values in seen["curves"].items():
        parts.append(Text(f"{key:>13}  {sparkline(values)}  {values[-1]:.4g}  (from {min(values):.4g} to {max(values):.4g})"))
    return Group(*parts)
