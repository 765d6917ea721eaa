"""`factory config show` and `factory config why`: the whole config of a build, and which layer set a value."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory.cli import options
from factory.cli.output import emit_json, say

if TYPE_CHECKING:
    from factory.config.compose import Composed

app = typer.Typer(no_args_is_help=True, help="Show a build's settings and where each came from.")


@app.command()
def show(
    domain: options.Domain = None, recipe: options.Recipe = None, base: options.Base = None, data: options.DataPaths = None,
    overrides: options.Set = None, seed: options.Seed = None, online: options.Online = False, config: options.Config = None,
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Print the resolved config: every setting with every default. The text is what a run's resolved.yaml holds."""
    from factory.config.render import resolved_yaml

    composed = options.composed_from(domain, recipe, base, data, overrides, seed, online, config)
    if as_json:
        emit_json(composed.plain)
    else:
        print(resolved_yaml(composed), end="")


@app.command()
def why(
    key: Annotated[str, typer.Argument(help="A setting such as stages.rl.group_size, or a section such as stages.rl.optim.")],
    domain: options.Domain = None, recipe: options.Recipe = None, base: options.Base = None, data: options.DataPaths = None,
    overrides: options.Set = None, seed: options.Seed = None, online: options.Online = False, config: options.Config = None,
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Print each layer that set a value, oldest first, and which one won. Pieces of an RL step come from its preset."""
    from factory.config.render import why_text

    composed = with_pieces(options.composed_from(domain, recipe, base, data, overrides, seed, online, config), key)
    if as_json:
        emit_json({name: [origin._asdict() for origin in chain] for name, chain in composed.provenance.why(key).items()})
    else:
        say(why_text(composed, key))


def with_pieces(composed: Composed, key: str) -> Composed:
    """For a key under `stages.<rl stage>.pieces`: the same config whose history also tells what preset and pieces give.

    Such values stand in no layer of the config: the preset is a name there, and its pieces are found when a step is planned.
    """
    parts = key.split(".")
    section = composed.config.stages.get(parts[1]) if len(parts) > 2 and parts[0] == "stages" else None
    if section is None or parts[2] != "pieces" or not hasattr(section, "preset"):
        return composed
    from factory.config.provenance import Origin, Provenance
    from factory.stages.rl.presets import resolve
    from factory.stages.rl.stage import told_of

    with told_of(parts[1]):
        chosen = resolve(section)
    head = ".".join(parts[:3])
    chains = {name: chain for name, chain in composed.provenance.items() if not (name == head and chosen.made)}
    for piece, record in chosen.records.items():
        for name, given in _settings(section.preset, piece, record).items():
            own = chains.get(f"{head}.{name}", [])
            chains[f"{head}.{name}"] = [*(Origin(*origin) for origin in given), *own]
    return replace(composed, provenance=Provenance(chains))


def _settings(preset: str, key: str, record: Any) -> dict[str, list[tuple[str, str, Any]]]:
    """`slot.piece.setting` -> (layer, where, value) of the piece's default and the preset; `slot.piece` for one without settings."""
    from factory.stages.rl.pieces.catalogue import settings_text
    from factory.stages.rl.presets import presets

    in_preset = presets()[preset].pieces.get(record.slot, {})
    told = f"preset {preset}"
    found: dict[str, list[tuple[str, str, Any]]] = {
        f"{key}.{name}": ([] if default == "<required>" else [("default", f"piece {key}", default)])
        + ([("preset", told, in_preset[record.name][name])] if name in in_preset.get(record.name, {}) else [])
        for name, default in settings_text(record).items()
    }  # fmt: skip
    if not found:
        layer = ("preset", told) if record.name in in_preset else ("default", f"slot {record.slot}")
        found[key] = [(*layer, {})]
    return found
