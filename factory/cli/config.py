"""`factory config show` and `factory config why`: the whole config of a build, and which layer set a value."""

from __future__ import annotations

from typing import Annotated

import typer

from factory.cli import options
from factory.cli.output import emit_json, say

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
    """Print each layer that set a value, oldest first, and which one won."""
    from factory.config.render import why_text

    composed = options.composed_from(domain, recipe, base, data, overrides, seed, online, config)
    if as_json:
        emit_json({name: [origin._asdict() for origin in chain] for name, chain in composed.provenance.why(key).items()})
    else:
        say(why_text(composed, key))
